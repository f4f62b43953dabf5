"""Sweeps by the real command: a run per value, a table, a curve; nothing is trained twice."""

import csv

import numpy as np
import pytest
import toy
from commands import tell
from layouts import write_rafdb
from PIL import Image
from typer.testing import CliRunner

from fertool import artefact, cli, recipe
from fertool.errors import RecipeError
from fertool.figures.sweep import draw

SMALL = ["train.model.backbone=tiny", "train.model.size=24", "train.global_batch=16", "train.lr=0.05"]


def sweep(*words, space, ok=True) -> dict:
    return tell("sweep", *words, "--gpus", 0, *[w for s in SMALL for w in ("--set", s)], space=space, ok=ok)


def run_folder(space, name):
    """The folder of a run of a sweep, by its name: toy/SWEEP/NAME."""
    data, sweep_name, own_name = name.split("/")
    return space / data / "sweeps" / sweep_name / own_name


def every_run(space):
    return sorted(space.glob("*/runs/*")) + sorted(space.glob("*/sweeps/*/*/run.h5"))


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    toy.write_faces(folder / "toy")
    return folder


@pytest.fixture(scope="module")
def sizes(space):
    return sweep("ran", "--vary", "crop-regions.ratio_scale=[0.5, 1]", "--epochs", 1, space=space)


def test_every_value_has_its_run_on_its_own_regions(space, sizes):
    assert [p["values"] for p in sizes["points"]] == [{"crop-regions.ratio_scale": v} for v in (0.5, 1)]
    sides = []
    for point in sizes["points"]:
        (name,) = point["runs"]
        run = artefact.read(run_folder(space, name) / "run.h5", "run")
        parent = run.parent("regions")
        regions = [artefact.read(p, "regions") for p in (space / "toy").glob("regions-*.h5")]
        (mine,) = [r for r in regions if r.digest == parent.digest]
        sides.append(float(mine["boxes"][0, 1, 2]))
        predicted = artefact.read(run_folder(space, name) / "predictions.h5", "predictions")
        assert predicted.parent("regions").digest == parent.digest
        right = np.asarray(predicted["logits"]).argmax(1) == np.asarray(predicted["label"])
        assert point["subsets"]["all"]["accuracy"] == pytest.approx(right.mean())
    assert sides == pytest.approx([0.375, 0.75])


def test_table_and_curve_are_kept(space, sizes):
    table, picture, arrays = sizes["files"]
    with open(table, newline="") as f:
        rows = list(csv.DictReader(f))
    assert [r["crop-regions.ratio_scale"] for r in rows] == ["0.5", "1"]
    assert [float(r["accuracy"]) for r in rows] == [p["subsets"]["all"]["accuracy"] for p in sizes["points"]]
    assert np.asarray(Image.open(picture).convert("L")).std() > 5
    kept = artefact.read(arrays, "figures").group("sweep")
    assert kept["whole split/value"].tolist() == ["0.5", "1"]


def test_again_nothing_is_trained(space, sizes):
    before = every_run(space)
    again = sweep("ran", "--vary", "crop-regions.ratio_scale=[0.5,1]", "--epochs", 1, space=space)
    assert again["points"] == sizes["points"]
    assert every_run(space) == before


def test_a_sweep_first_says_what_it_trains(space, sizes):
    def announced(*words) -> str:
        words = [*words, "--gpus", "0", *[w for s in SMALL for w in ("--set", s)], "--workspace", str(space)]
        lines = CliRunner().invoke(cli.app, ["sweep", "ran", *words]).stderr.splitlines()
        return next(line for line in lines if line.startswith("sweep "))

    (name,) = sizes["points"][0]["runs"]
    assert announced("--vary", "crop-regions.ratio_scale=[0.5,1]", "--epochs", "1") == (
        "sweep ratio_scale: trains 2 runs of ran, recipe none; finished ones are kept; "
        "crop-regions.ratio_scale = 0.5, 1"
    )
    evaluated = announced("--run", name, "--vary", "crop-regions.ratio_scale=[1]")
    assert evaluated.endswith(f"evaluates {name.rpartition('/')[2]} once, crop-regions.ratio_scale = 1")


def test_sweep_takes_runs_that_were_trained_before(space, sizes):
    """And its own runs are nobody's latest, but found by name in every command."""
    tell("crop-regions", space=space)
    small = [w for s in SMALL[:3] for w in ("--set", s)]
    tell("train", "ran", "--gpus", 0, "--epochs", 1, "--lr", 0.02, *small, space=space)
    before = every_run(space)
    facts = sweep("ran", "mine", "--vary", "train.lr=[0.02, 0.03]", "--epochs", 1, space=space)
    assert [p["runs"] for p in facts["points"]] == [["toy/ran-1"], ["toy/mine/ran-1"]]
    assert len(every_run(space)) == len(before) + 1
    assert list(tell("eval", "--gpus", 0, space=space)["runs"]) == ["ran-1"], "the latest of no sweep"
    both = tell("eval", "--run", "mine/ran-1", "--run", "ran-1", "--gpus", 0, space=space)
    assert list(both["runs"]) == ["mine/ran-1", "ran-1"]
    board = tell("board", "--gpus", 0, space=space)
    assert [r["name"] for b in board["blocks"] for s in b["systems"] for r in s["runs"]] == ["toy/ran-1"]
    named = tell("board", "--run", "toy/mine/ran-1", "--run", "ran-1", "--baseline", "mine/ran-1", space=space)
    assert {r["name"] for b in named["blocks"] for s in b["systems"] for r in s["runs"]} == {
        "toy/mine/ran-1",
        "toy/ran-1",
    }
    page = tell("report", "--run", "mine/ran-1", "--gpus", 0, space=space)["report"]
    assert page == str(space / "toy/sweeps/mine/ran-1/report.html")


def test_a_run_is_drawn_on_the_regions_it_was_trained_on(space, sizes):
    (name,) = sizes["points"][0]["runs"]
    files = tell("visualize", "crops", "--run", name, "--faces", 2, "--dpi", 50, space=space)["files"]
    boxes = artefact.read(files[-1], "figures").group("crops")["boxes"]
    assert boxes[0, 1, 2] == pytest.approx(0.375)


def test_other_regions_than_the_run_learnt_from_are_named(space, sizes):
    (name,) = sizes["points"][0]["runs"]
    (mine,) = (space / "toy").glob("regions-ratio_scale-0.5.h5")
    aside = mine.rename(mine.with_name("aside"))
    words = ["eval", "--run", name, "--gpus", "0", "--workspace", str(space), "--overwrite"]
    tell("crop-regions", space=space)
    said = CliRunner().invoke(cli.app, words).stderr
    assert "holds other regions than" in said
    aside.rename(mine)
    assert "other regions" not in CliRunner().invoke(cli.app, words).stderr


def test_a_finished_run_is_scored_on_other_regions(space, sizes):
    (name,) = sizes["points"][1]["runs"]
    vary = ["--vary", "crop-regions.mode=[random]", "--vary", "crop-regions.random_n=[2,7]"]
    facts = tell("sweep", "ran", "--run", name, *vary, "--gpus", 0, space=space)
    assert facts["keys"] == ["crop-regions.random_n"], "what has one value only is no axis"
    assert [p["runs"] for p in facts["points"]] == [[name], [name]]
    shapes = {
        artefact.read(p, "predictions")["attention_weight"].shape[1]
        for p in (run_folder(space, name)).glob("predictions-regions-*.h5")
    }
    assert shapes == {3, 8}
    told = sweep("ran", "--run", name, "--vary", "train.lr=[0.1,0.2]", space=space, ok=False)
    assert told["code"] == 2


def test_values_win_over_sets_and_seeds_are_averaged(space):
    tell("crop-regions", space=space)
    vary = ["--vary", "train.lr=[0.01,0.05]", "--seeds", 2]
    facts = sweep("ran", *vary, "--epochs", 1, space=space)
    rates = [
        artefact.read(run_folder(space, name) / "run.h5", "run").params["train"]
        for p in facts["points"]
        for name in p["runs"]
    ]
    assert [(r["lr"], r["seed"]) for r in rates] == [(0.01, 0), (0.01, 1), (0.05, 0), (0.05, 1)]
    for point in facts["points"]:
        each = []
        for name in point["runs"]:
            predicted = artefact.read(run_folder(space, name) / "predictions.h5", "predictions")
            each.append((np.asarray(predicted["logits"]).argmax(1) == np.asarray(predicted["label"])).mean())
        scored = point["subsets"]["all"]
        assert scored["accuracy"] == pytest.approx(np.mean(each))
        assert scored["sd"] == pytest.approx(np.std(each, ddof=1))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ran", "--vary", "detect-align.size=[1]"], 4, "other faces or masks"),
        (["ran", "--vary", "train.model.rank_margin=[0,-1]"], 4, "rank_margin"),
        (["ran", "--vary", "train.modle.lr=[1]"], 4, "modle"),
        (["ran"], 2, "which sweep"),
        (["lnlattennet-rafdb"], 2, "alpha, patches, overlap"),
        (["lnlattennet-rafdb", "alhpa"], 2, "which sweep"),
        (
            ["ran", "--vary", "train.lr=[1,2]", "--vary", "train.momentum=[0,0.1]", "--vary", "train.epochs=[1,2]"],
            2,
            "two",
        ),
        (["ran", "--vary", "nonsense"], 4, "section.key"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_is_trained(space, words, code, said):
    before = every_run(space)
    told = sweep(*words, space=space, ok=False)
    assert told["code"] == code
    assert said in f"{told['error']} {told['hint']}"
    assert every_run(space) == before


def test_sweeps_of_recipes_are_checked_when_they_are_read(tmp_path):
    file = tmp_path / "mine.yaml"
    for text, said in (
        ("sweeps: {a: {train.model.alpha: 3}}", "no list"),
        ("sweeps: [a]", "no names"),
        ("sweeps: {a: {train.lr: [0]}}", "lr"),
        ("sweeps: {a: {trian.lr: [1]}}", "trian"),
    ):
        file.write_text(text)
        with pytest.raises(RecipeError, match=said):
            recipe.load(str(file))


def test_the_papers_curve_is_drawn_beside_ours():
    def point(accuracy, paper):
        return {"accuracy": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01, "paper": paper}

    line = [(0.1, point(0.8, 0.856)), (0.3, point(0.82, 0.8615)), (1, point(0.81, None))]
    (ax,) = draw({"whole split": line}, "train.model.alpha").axes
    (paper,) = [one for one in ax.lines if one.get_linestyle() == ":"]
    assert paper.get_xydata() == pytest.approx(np.array([[0.1, 85.6], [0.3, 86.15]]))
    assert ax.get_xlabel() == "alpha"


def test_words_stand_side_by_side():
    line = [
        (v, {"accuracy": 0.5 + i / 100, "low": 0.49, "high": 0.6, "paper": None})
        for i, v in enumerate(("fixed", "random"))
    ]
    (ax,) = draw({"whole split": line}, "crop-regions.mode").axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["fixed", "random"]


# ------------------------------------------------------------------------------------------------ cross-validation


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Faces in three folds, and a recipe that crosses them."""
    folder = tmp_path_factory.mktemp("crossed")
    faces = toy.write_faces(folder / "toy", train=36, test=0)
    toy.write_regions(faces)
    toy.write_subsets(faces, fold=np.arange(36, dtype="i2") % 3)
    mine = folder / "mine.yaml"
    mine.write_text(
        "build-subsets: {folds: 3}\nsweeps: {rate: {train.lr: [0.01, 0.05]}}\n"
        "train: {model: {name: ran, backbone: tiny, size: 24}, global_batch: 16, epochs: 1}\n"
    )
    facts = tell("sweep", mine, "rate", "--gpus", 0, space=folder)
    return folder, mine, facts


def test_a_recipe_with_folds_is_swept_over_all_of_them(crossed):
    folder, _, facts = crossed
    assert [len(p["runs"]) for p in facts["points"]] == [3, 3]
    for point in facts["points"]:
        each, total = [], 0
        for i, name in enumerate(point["runs"]):
            run = artefact.read(run_folder(folder, name) / "run.h5", "run")
            assert (run.params["train"]["fold"], run.params["train"]["lr"]) == (i, point["values"]["train.lr"])
            predicted = artefact.read(run.path.with_name("predictions.h5"), "predictions")
            each.append((np.asarray(predicted["logits"]).argmax(1) == np.asarray(predicted["label"])).mean())
            total += predicted.rows
        scored = point["subsets"]["all"]
        assert total == scored["n_total"] == 36
        assert scored["accuracy"] == pytest.approx(np.mean(each))
        assert scored["sd"] == pytest.approx(np.std(each, ddof=1))


def test_folds_of_a_sweep_can_be_chosen(crossed):
    folder, mine, facts = crossed
    one = tell("sweep", mine, "rate", "--folds", 1, "--gpus", 0, space=folder)
    assert [p["runs"] for p in one["points"]] == [[p["runs"][1]] for p in facts["points"]], "they are there already"
    told = tell("sweep", mine, "rate", "--subset", "all", "--gpus", 0, space=folder, ok=False)
    assert "whole folds" in told["error"]


@pytest.mark.parametrize("name", ["lnlattennet-ckplus", "lnlattennet-mmi"])
def test_the_papers_sweeps_cross_the_folds_of_their_datasets(name):
    mine = recipe.load(name)
    assert mine.settings("build-subsets").folds == 5
    assert set(mine.sweeps) == {"alpha", "patches"}


# ------------------------------------------------------------------------------------------- the paper's numbers


def test_why_the_papers_numbers_are_missing_is_told_once(tmp_path):
    """LNLAttenNet's Table V on a few faces, in a single step each."""
    write_rafdb(tmp_path / "raf", images=("aligned",))
    tell("detect-align", tmp_path / "raf", "--recipe", "lnlattennet-rafdb", space=tmp_path / "w")
    words = ["lnlattennet-rafdb", "--vary", "train.model.alpha=[0.1,0.35]", "--gpus", "0"]
    words += [w for s in ("model.channels=8", "model.size=64", "iterations=1") for w in ("--set", f"train.{s}")]
    facts = tell("sweep", *words, space=tmp_path / "w")
    first, second = (p["subsets"]["all"] for p in facts["points"])
    assert (first["paper"], first["closest"], first["source"]) == (None, 0.856, "Table V (alpha: 0.1)")
    assert "channels 8 instead of 64" in first["differs"]
    assert second["differs"].count("alpha") == 1, "the paper has no number for this one at all"
    with open(facts["files"][0], newline="") as f:
        assert [float(r["closest"]) for r in csv.DictReader(f)] == [first["closest"], second["closest"]]
    said = CliRunner().invoke(cli.app, ["sweep", *words, "--workspace", str(tmp_path / "w")]).stderr
    assert f"alpha 0.1: 85.60 in Table V (alpha: 0.1); because here: {first['differs']}" in " ".join(said.split())
