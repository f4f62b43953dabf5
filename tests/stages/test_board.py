"""The board by the real command: seeds of one system, tables that never mix, claims beside differences."""

import csv
import json

import numpy as np
import pytest
import toy
from commands import tell
from PIL import Image

from fertool import artefact
from fertool.evaluation.board import effects
from fertool.evaluation.board.markdown import page

SMALL = ["train.model.backbone=tiny", "train.model.size=24", "train.global_batch=16", "train.lr=0.05"]


def train(*words, space):
    sets = [w for s in SMALL for w in ("--set", s)]
    return tell("train", "ran", *words, *sets, "--epochs", 1, "--gpus", 0, space=space)


def board(*words, space, ok=True):
    return tell("board", *words, "--gpus", 0, space=space, ok=ok)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    toy.write_faces(folder / "toy")
    tell("crop-regions", space=folder)
    for seed in (0, 1, 2):
        train("--seed", seed, "--variant", "baseline", space=folder)
    for seed in (0, 1):
        train("--seed", seed, space=folder)
    return folder


@pytest.fixture(scope="module")
def facts(space):
    return board("--out", space / "results", space=space)


def right(space, name):
    p = artefact.read(space / "toy/runs" / name / "predictions.h5", "predictions")
    order = np.argsort(p.ids)
    return (np.asarray(p["logits"]).argmax(1) == np.asarray(p["label"]))[order]


def test_runs_of_one_system_differ_by_their_seed_alone(facts):
    (block,) = facts["blocks"]
    assert [(s["name"], s["seeds"], s["baseline"]) for s in block["systems"]] == [
        ("ran baseline", [0, 1, 2], None),
        ("ran", [0, 1], "ran baseline"),
    ]
    assert facts["left_out"] == []


def test_numbers_are_those_of_the_predictions(space, facts):
    base, ran = (s["subsets"]["all"] for s in facts["blocks"][0]["systems"])
    theirs = np.stack([right(space, f"ran-baseline-{i}") for i in (1, 2, 3)])
    mine = np.stack([right(space, f"ran-{i}") for i in (1, 2)])
    assert base["each"] == pytest.approx(theirs.mean(1).tolist())
    assert ran["accuracy"] == pytest.approx(mine.mean())
    expected = effects.gap(mine, theirs)
    gap = ran["gap"]
    assert (gap["difference"], gap["low"], gap["high"], gap["p"]) == pytest.approx(
        (expected.value, expected.low, expected.high, expected.p)
    )


def test_files_hold_the_same_numbers(space, facts):
    folder = space / "results"
    kept = json.loads((folder / "board.json").read_text())
    assert kept["blocks"] == facts["blocks"]
    text = (folder / "board.md").read_text()
    ran = facts["blocks"][0]["systems"][1]["subsets"]["all"]
    assert f"{100 * ran['accuracy']:.2f} ± {100 * ran['sd']:.2f}" in text
    with open(folder / "board.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [r["system"] for r in rows] == ["ran baseline", "ran"]
    assert float(rows[1]["difference"]) == ran["gap"]["difference"]
    assert np.asarray(Image.open(folder / "board.png").convert("L")).std() > 5
    assert page(kept, {0: "board.png"}) == text


def test_another_baseline_and_an_unknown_one(space):
    facts = board("--baseline", "toy/ran-1", space=space)
    assert [s["baseline"] for s in facts["blocks"][0]["systems"]] == ["ran", None]
    refused = board("--baseline", "vgg", space=space, ok=False)
    assert refused["error"] == "no system here is 'vgg'"
    assert "ran baseline; ran" in refused["hint"]


def test_named_runs_only(space):
    facts = board("--run", "ran-1", "--run", "ran-baseline-2", space=space)
    assert [s["seeds"] for s in facts["blocks"][0]["systems"]] == [[0], [1]]


def test_other_settings_are_other_systems_and_are_named(space):
    train("--seed", 0, "--set", "train.model.rank_margin=0.1", space=space)
    names = [s["name"] for s in board(space=space)["blocks"][0]["systems"]]
    assert names == ["ran baseline", "ran (rank_margin 0.02)", "ran (rank_margin 0.1)"]


def test_a_seed_counts_once(space):
    folder = space / "toy/runs/again"
    train("--seed", 1, "--out", folder, space=space)
    facts = board("--run", "ran-1", "--run", "ran-2", "--run", "again", space=space)
    assert facts["left_out"] == [{"run": "toy/ran-2", "reason": "the same training as toy/again, which is later"}]
    assert facts["blocks"][0]["systems"][0]["seeds"] == [0, 1]


def test_other_faces_and_labels_are_never_mixed(space):
    toy.write_faces(space / "other", seed=5)
    tell("crop-regions", "--data", "other", space=space)
    train("--data", "other", space=space)
    facts = board("--run", "toy/ran-1", "--run", "other/ran-1", space=space)
    assert [[s["runs"][0]["name"] for s in b["systems"]] for b in facts["blocks"]] == [["toy/ran-1"], ["other/ran-1"]]
    assert facts["blocks"][0]["faces"] != facts["blocks"][1]["faces"]


def test_an_unfinished_run_is_listed_with_its_reason(space):
    folder = space / "toy/runs/stopped"
    train("--data", "toy", "--seed", 7, "--out", folder, space=space)
    run = artefact.read(folder / "run.h5", "run")
    arrays = {name: run[name] for name in run.stored} | {"state/finished": np.array(False)}
    params = {"params": run.params, "inputs": run.inputs, "classes": run.classes, "info": run.info}
    artefact.save(folder / "run.h5", "run", arrays, **params)
    facts = board("--run", "toy/ran-1", "--run", "stopped", space=space)
    (left,) = facts["left_out"]
    assert left["run"] == "toy/stopped"
    assert left["reason"].startswith("stopped after 1 of 1 epochs")
    assert board("--run", "stopped", space=space, ok=False)["error"].startswith("none of these runs can be scored")


def test_an_unknown_subset_is_refused(space):
    tell("build-subsets", "--data", "toy", space=space)
    assert "there is no subset 'dark'" in board("--data", "toy", "--subset", "dark", space=space, ok=False)["error"]


def test_report_has_a_section_over_seeds(space, tmp_path):
    names = [word for n in ("ran-baseline-1", "ran-baseline-2", "ran-1") for word in ("--run", f"toy/{n}")]
    facts = tell("report", *names, "--gpus", 0, "--out", tmp_path / "page.html", space=space)
    (block,) = facts["board"]
    assert [s["seeds"] for s in block["systems"]] == [[0, 1], [0]]
    text = (tmp_path / "page.html").read_text()
    assert 'id="seeds"' in text
    one = tell("report", "--run", "toy/ran-1", "--gpus", 0, "--out", tmp_path / "one.html", space=space)
    assert one["board"] == []
    assert 'id="seeds"' not in (tmp_path / "one.html").read_text()
