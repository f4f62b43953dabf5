"""Cross-validation: who is left out together, training every fold, and adding the folds up."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
import toy
from commands import call, tell

from fertool import artefact
from fertool.errors import DataError, RecipeError
from fertool.evaluation import folds as adding
from fertool.subsets import folds


def people(n: int, each: int = 3) -> np.ndarray:
    return np.repeat([f"S{i:03d}" for i in range(1, n + 1)], each).astype(object)


def faces(folder, who: np.ndarray, label: np.ndarray | None = None, **columns):
    label = np.arange(len(who)) % 3 if label is None else label
    return toy.write_faces(folder, train=0, test=len(who), subject=who, label=label.astype("i2"), **columns)


def groups(found: np.ndarray, who: np.ndarray) -> dict[int, set[str]]:
    return {k: set(who[found == k]) for k in range(found.max() + 1)}


# --------------------------------------------------------------------------------------------- who is where


def test_every_tenth_person(tmp_path):
    who = people(118)
    found = folds.assign(faces(tmp_path, who), "subjects", 10)
    each = groups(found, who)
    assert [len(g) for g in each.values()] == [12] * 8 + [11] * 2
    assert each[0] == {f"S{i:03d}" for i in range(1, 119, 10)}
    assert sum(map(len, each.values())) == len(set.union(*each.values())) == 118, "nobody is in two folds"


def test_people_count_upwards_whatever_their_names(tmp_path):
    who = np.repeat(np.array(["S10", "S9", "S2"], dtype=object), 3)
    assert folds.assign(faces(tmp_path, who), "subjects", 3)[::3].tolist() == [2, 1, 0]


def test_ranges_of_rafd(tmp_path):
    models = [i for i in range(1, 74) if i not in (6, 13, 17, 34, 62, 66)]
    who = np.array([f"{i:02d}" for i in models], dtype=object)
    found = folds.assign(faces(tmp_path, who), "rafd", 0)
    assert np.bincount(found).tolist() == [13, 13, 13, 14, 14]
    assert found[models.index(15)] == 0
    assert found[models.index(16)] == 1
    with pytest.raises(DataError, match="'S001' is not a model of RaFD"):
        folds.assign(faces(tmp_path, people(2)), "rafd", 0)


def test_classes_spread_evenly(tmp_path):
    rng = np.random.default_rng(0)
    who, label = people(40, 10), (rng.random(400) < 0.2).astype(int)
    found = folds.assign(faces(tmp_path, who, label), "stratified", 5)
    rare = np.bincount(found[label == 1])
    assert rare.max() - rare.min() <= 3
    assert np.bincount(found).max() - np.bincount(found).min() <= 10
    folds.check_disjoint(found, who)


def test_other_units(tmp_path):
    who = people(4)
    one = faces(tmp_path, who, sequence=np.array([f"r{i // 2}" for i in range(12)], dtype=object))
    assert folds.assign(one, "one-subject", 0).tolist() == np.repeat(range(4), 3).tolist()
    assert folds.assign(one, "sequences", 3)[:6].tolist() == [0, 0, 1, 1, 2, 2]
    single = folds.assign(one, "faces", 2)
    assert all(np.bincount(single[one["label"] == c]).tolist() == [2, 2] for c in range(3))
    with pytest.raises(RecipeError, match="S001 is in folds 0 and 1"):
        folds.check_disjoint(np.arange(12) % 2, who)


def test_faces_without_a_label_are_in_no_fold(tmp_path):
    label = np.array([0, -1, 1, 2, -1, 0])
    found = folds.assign(faces(tmp_path, people(2), label), "subjects", 2)
    assert (found == folds.NONE).tolist() == (label < 0).tolist()


def test_folds_need_to_know_who_is_who(tmp_path):
    with pytest.raises(DataError, match="has labelled faces without a subject") as e:
        folds.assign(toy.write_faces(tmp_path), "subjects", 3)
    assert "--fold-scheme faces" in e.value.hint
    with pytest.raises(DataError, match="4 subjects, fewer than 5 folds"):
        folds.assign(faces(tmp_path, people(4)), "subjects", 5)


# ------------------------------------------------------------------------------------------------ the commands


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A workspace whose faces have no split, only people."""
    folder = tmp_path_factory.mktemp("folds")
    n = 60
    made = toy.write_faces(folder / "toy", train=n, test=0, subject=people(12, 5), split=np.full(n, "", dtype=object))
    toy.write_regions(made)
    return folder


TRAIN = ("train", "ran", "--gpus", 0, "--variant", "baseline", "--epochs", 2, "--batch", 16, "--lr", 0.05)
TRAIN += ("--set", "train.model.backbone=tiny", "--set", "train.model.size=24")


def test_cross_validation_from_the_command_line(space, tmp_path):
    refused = call(*TRAIN, "--folds", "all", space=space)
    assert refused.exit_code == 3
    assert "build-subsets --folds" in refused.stderr or "build-subsets --folds" in refused.stdout
    made = tell("build-subsets", "--folds", 3, space=space)
    assert [f["subjects"] for f in made["folds"]] == [4, 4, 4]

    assert tell(*TRAIN, "--folds", 1, space=space)["fold"] == 1
    incomplete = json.loads(call("eval", "--folds", space=space).stdout)
    assert incomplete["code"] == 3
    assert "of the 3 folds of ran-baseline, 0, 2 are not trained" in incomplete["error"]
    trained = tell(*TRAIN, "--folds", "all", space=space)["folds"]
    assert [f["fold"] for f in trained] == [0, 1, 2]
    assert len(list((space / "toy/runs").iterdir())) == 3, "the fold that was there is not trained again"

    subjects = artefact.read(space / "toy/faces.h5")["subject"]
    where = np.asarray(artefact.read(space / "toy/subsets.h5")["fold"])
    total = tell("eval", "--folds", "--csv", tmp_path / "folds.csv", space=space)["systems"]["ran-baseline"]
    tested = []
    for k, run in enumerate(total["runs"]):
        predictions = artefact.read(f"{run}/predictions.h5")
        assert set(where[predictions["row"]]) == {k}
        tested.append(set(subjects[predictions["row"]]))
    assert len(set.union(*tested)) == sum(map(len, tested)) == 12, "everybody is tested once"
    each = total["folds"]
    assert total["pooled"]["n_total"] == 60
    assert total["pooled"]["n_correct"] == sum(f["n_correct"] for f in each)
    assert total["fold_mean"]["accuracy"] == pytest.approx(np.mean([f["accuracy"] for f in each]))
    assert total["fold_mean"]["sd_sample"] == pytest.approx(np.std([f["accuracy"] for f in each], ddof=1))
    with open(tmp_path / "folds.csv") as file:
        assert [row["fold"] for row in csv.DictReader(file)] == ["0", "1", "2", "pooled", "fold mean"]


def test_pretrained_part_of_every_fold_was_trained_without_it(tmp_path):
    marks = np.array([[9.1, 10.7], [21.9, 10.7], [15.5, 18], [11, 24], [20, 24]], "f4")
    columns = {"subject": people(8, 3), "split": np.full(24, "", dtype=object)}
    toy.write_faces(tmp_path / "toy", train=24, test=0, landmarks=np.repeat(marks[None], 24, axis=0), **columns)
    tell("make-masks", space=tmp_path)
    tell("build-subsets", "--folds", 2, space=tmp_path)
    small = ("--gpus", 0, "--epochs", 1, "--batch", 12, "--lr", 0.001, "--set", "train.model.channels=4")
    parts = tell("train", "rasnet", *small, "--set", "train.flip=0", "--folds", "all", space=tmp_path)["folds"]
    runs = tell("train", "man", *small, "--folds", "all", space=tmp_path)["folds"]
    for part, run in zip(parts, runs, strict=True):
        assert artefact.read(run["run"]).parent("pretrained_part").digest == artefact.read(part["run"]).digest
    total = tell("eval", "--folds", space=tmp_path)["systems"]["man"]
    assert total["pooled"]["n_total"] == 24


def test_refusals(space):
    cases = (
        ((*TRAIN, "--folds", "7"), 3, "has no fold 7: they are 0 to 2"),
        ((*TRAIN, "--folds", "some"), 2, "neither all nor the number of a fold"),
        ((*TRAIN, "--folds", "0", "--set", "train.select_on=val"), 4, "no validation split"),
        (("eval", "--folds", "--subset", "pose30"), 2, "whole folds"),
    )
    for words, code, message in cases:
        told = json.loads(call(*words, space=space).stdout)
        assert told["code"] == code, told
        assert message in told["error"]


# ---------------------------------------------------------------------------------------------- adding up


def predictions(path, labels, predicted):
    logits = np.eye(2, dtype="f4")[predicted]
    ids = np.array([f"{path.name} {i}" for i in range(len(labels))])
    columns = {"id": ids, "row": np.arange(len(ids)), "label": np.array(labels, "i2"), "logits": logits}
    return artefact.save(path, "predictions", columns, params={}, classes=("anger", "fear"))


def test_three_ways_to_add_folds_up(tmp_path):
    first = predictions(tmp_path / "a.h5", [0, 0, 1, 1], [0, 0, 1, 0])
    second = predictions(tmp_path / "b.h5", [0, 0], [0, 1])  # no fear in this fold
    total = adding.score([first, second])
    assert total["pooled"]["accuracy"] == pytest.approx(4 / 6)
    assert total["fold_mean"]["accuracy"] == pytest.approx(0.625)
    assert total["fold_mean"]["sd_population"] == pytest.approx(0.125)
    assert total["confusion"] == [[3, 1], [1, 1]]
    assert np.allclose(total["confusion_mean"], [[0.75, 0.25], [0.25, 0.25]]), "the row of fear sums to a half"


# ------------------------------------------------------------------------------------- folds on several devices


@pytest.fixture
def two_folds(tmp_path):
    made = toy.write_faces(tmp_path / "toy", train=60, test=0, subject=people(12, 5))
    toy.write_regions(made)
    tell("build-subsets", "--folds", 2, space=tmp_path)
    return tmp_path


def histories(space) -> dict:
    found = {}
    for path in (space / "toy/runs").glob("*/run.h5"):
        run = artefact.read(path, "run")
        found[run.params["train"]["fold"]] = np.array(run.group("history")["loss"])
    return found


def test_folds_on_two_devices_at_once_are_the_folds_one_by_one(two_folds):
    one_by_one = tell(*TRAIN, "--folds", "all", "--resume", space=two_folds)["folds"]
    assert [f["fold"] for f in one_by_one] == [0, 1], "--resume begins folds that had not begun"
    losses = histories(two_folds)
    assert not np.allclose(losses[0], losses[1])
    for run in (two_folds / "toy/runs").iterdir():
        run.rename(two_folds / run.name)
    at_once = tell(*TRAIN, "--folds", "all", "--cpu-processes", 2, space=two_folds)["folds"]
    assert [f["fold"] for f in at_once] == [0, 1]
    for fold, loss in histories(two_folds).items():
        assert np.allclose(loss, losses[fold], rtol=1e-4)


def test_an_error_in_a_fold_is_that_of_the_command(two_folds):
    told = json.loads(call(*TRAIN, "--folds", "all", "--cpu-processes", 2, "--init", "no.pth", space=two_folds).stdout)
    assert told["code"] == 5
    assert "no.pth" in told["error"]


def test_ctrl_c_saves_every_fold_under_way(two_folds):
    # also where the shell has told its children to ignore it
    words = [*map(str, TRAIN), "--epochs", "2000", "--folds", "all", "--cpu-processes", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fertool", *words, "--workspace", two_folds],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        for _ in range(6000):
            if len(list((two_folds / "toy/runs").glob("*/run.h5"))) == 2 or process.poll() is not None:
                break
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, said
    assert "--resume goes on" in said
    runs = [artefact.read(p, "run") for p in (two_folds / "toy/runs").glob("*/run.h5")]
    assert sorted(r.params["train"]["fold"] for r in runs) == [0, 1]
    assert all(r["state/iteration"] > 0 and not r["state/finished"] for r in runs)
