"""Accuracy by groups of faces: which groups a column makes, their scores, and the gap between them."""

import csv
from itertools import combinations

import numpy as np
import pytest
import toy
from commands import call, tell
from rates import rows_beyond_one
from small_runs import make_faces
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.errors import UsageError
from fertool.evaluation import metrics
from fertool.evaluation.groups import group_names, groups_by, largest_gap, score_groups

TRAIN = ["train", "ran", "--variant", "baseline", "--epochs", 2, "--lr", 0.05, "--gpus", 0]
TRAIN += [w for e in ("model.backbone=tiny", "model.size=24", "global_batch=16") for w in ("--set", f"train.{e}")]


def write_faces(folder, **columns):
    n = len(next(iter(columns.values())))
    faces = make_faces(folder, np.arange(n) % 8)
    kept = {name: np.asarray(faces[name]) for name in faces.columns if name != "id"}
    columns = {"id": np.array(faces.ids, object), **kept, **columns}
    return artefact.save(faces.path, "faces", columns, params=faces.params, classes=faces.classes)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    n = 40
    pose = np.zeros((n, 3), "f4")
    pose[:, 1] = np.linspace(-60, 59, n)
    pose[3] = np.nan
    box = np.stack([np.zeros(n), np.zeros(n), np.arange(n) + 20.0, np.full(n, 100.0)], axis=1).astype("f4")
    return write_faces(
        tmp_path_factory.mktemp("faces") / "toy",
        gender=np.array(["female", "male", "", "male"] * 10, dtype=object),
        stars=np.arange(n) % 3,
        age=np.arange(n) + 10,
        pose=pose,
        bbox=box,
        wearer=np.array([f"person {i}" for i in range(n)], dtype=object),
    )


def sizes(faces, by) -> dict[str, int]:
    return {name: int(rows.sum()) for name, rows in groups_by(faces, by, np.arange(faces.rows)).items()}


def test_text_and_few_numbers_are_categories(faces):
    assert sizes(faces, "gender") == {"female": 10, "male": 20, "unknown": 10}
    assert sizes(faces, "stars") == {"0": 14, "1": 13, "2": 13}
    assert sizes(faces, "status") == {"no face, whole image kept": 8, "ok": 32}
    assert sizes(faces, "label")["neutral"] == 5


def test_many_numbers_are_ranges(faces):
    assert list(sizes(faces, "age")) == ["below 20", "20 to 30", "30 to 39", "from 39"]
    assert sizes(faces, "age:20,40") == {"below 20": 10, "20 to 40": 20, "from 40": 10}
    assert sizes(faces, "size:30") == {"below 30": 10, "from 30": 30}


def test_angles_count_either_way_and_what_is_not_known_is_a_group_of_its_own(faces):
    found = groups_by(faces, "yaw", np.arange(faces.rows))
    assert list(found) == ["below 15", "15 to 30", "30 to 45", "from 45", "unknown"]
    yaw = np.asarray(faces["pose"])[:, 1]
    assert np.array_equal(found["from 45"], np.abs(yaw) >= 45)
    assert np.flatnonzero(found["unknown"]).tolist() == [3]


def test_rows_are_those_of_the_predictions(faces):
    found = groups_by(faces, "gender", np.array([1, 0, 3]))
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "female": [False, True, False],
        "male": [True, False, True],
    }


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("gendr", "no column 'gendr'"),
        ("images", "no column 'images'"),
        ("roll", None),
        ("age:40,20", "no ascending numbers"),
        ("age:old", "no ascending numbers"),
        ("gender:1", "holds no numbers"),
    ],
)
def test_columns_that_make_no_groups_are_refused(faces, by, message):
    assert "images" not in group_names(faces)
    if message is None:
        assert groups_by(faces, by, np.arange(faces.rows))
        return
    with pytest.raises(UsageError, match=message) as e:
        groups_by(faces, by, np.arange(faces.rows))
    assert e.value.hint


def test_a_column_that_names_single_faces_is_refused(tmp_path):
    faces = write_faces(tmp_path / "toy", owner=np.array([f"person {i}" for i in range(60)], dtype=object))
    with pytest.raises(UsageError, match="makes 60 groups, of 1.0 faces each"):
        groups_by(faces, "owner", np.arange(60))


# ------------------------------------------------------------------------------------------------------ scores


def test_groups_have_intervals_and_small_ones_no_part_in_the_gap():
    labels = np.concatenate([np.zeros(40, int), np.ones(40, int), np.zeros(10, int), [-1]])
    said = labels.copy()
    said[:10] = 1  # three quarters of the first group
    said[80:90] = 1  # none of the small one
    names = np.array(["a"] * 40 + ["b"] * 40 + ["small"] * 11)
    result = score_groups(labels, said, {n: names == n for n in ("a", "b", "small")}, 2)
    a, small = result["groups"]["a"], result["groups"]["small"]
    assert (a["n_total"], a["n_correct"], a["accuracy"], a["few"]) == (40, 30, 0.75, False)
    assert (a["low"], a["high"]) == pytest.approx(metrics.wilson(30, 40))
    assert (small["n_total"], small["accuracy"], small["few"]) == (10, 0, True)
    gap = result["gap"]
    assert (gap["highest"], gap["lowest"], gap["difference"]) == ("b", "a", 0.25)
    assert gap["significant"]


def test_no_gap_without_two_large_groups():
    labels = np.zeros(40, int)
    result = score_groups(labels, labels, {"a": np.arange(40) < 35, "unknown": np.arange(40) >= 35}, 2)
    assert result["gap"] is None
    nothing = score_groups(labels - 1, labels, {"a": np.ones(40, bool)}, 2)["groups"]["a"]
    assert nothing["n_total"] == 0
    assert nothing["accuracy"] is nothing["low"] is nothing["macro_accuracy"] is None


def test_the_permutation_test_agrees_with_all_permutations():
    """Two groups of five faces, six of ten right: every way to deal them, counted."""
    ways = [sum(i < 5 for i in right) for right in combinations(range(10), 6)]
    exact = np.mean([abs(2 * first - 6) / 5 >= 0.4 - 1e-12 for first in ways])
    difference, p = largest_gap([4, 2], [5, 5])
    assert difference == pytest.approx(0.4)
    assert p == pytest.approx(exact, abs=0.02)
    assert largest_gap([4, 2], [5, 5]) == (difference, p), "the same twice"


def test_equal_networks_have_a_significant_gap_as_seldom_as_the_level_says():
    rng = np.random.default_rng(1)
    p = [largest_gap(rng.binomial(50, 0.7, 4), [50] * 4)[1] for _ in range(300)]
    assert np.mean(np.array(p) < 0.05) < 0.09


# --------------------------------------------------------------------------------------------------- commands


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    n = 48 + 80
    gender = np.where(np.arange(n) % 2 == 0, "female", "male").astype(object)
    age = np.where(np.arange(n) < n - 10, "adult", "child").astype(object)
    toy.write_faces(folder / "toy", train=48, test=80, gender=gender, age=age)
    tell(*TRAIN, space=folder)
    tell(*TRAIN, "--set", "train.seed=1", space=folder)
    return folder


def test_groups_in_json_csv_table_and_page(space, tmp_path):
    runs = ["--run", "ran-baseline-1", "--run", "ran-baseline-2"]
    words = ["eval", *runs, "--by", "gender", "--by", "age", "--gpus", 0]
    facts = tell(*words, "--csv", tmp_path / "scores.csv", space=space)
    for name, run in facts["runs"].items():
        assert list(run["groups"]) == ["gender", "age"]
        gender, age = run["groups"]["gender"], run["groups"]["age"]
        predictions = artefact.read(run["predictions"], "predictions")
        right = np.asarray(predictions["logits"]).argmax(1) == np.asarray(predictions["label"])
        female = np.asarray(predictions["row"]) % 2 == 0
        assert gender["groups"]["female"]["n_correct"] == right[female].sum(), name
        assert sum(g["n_correct"] for g in gender["groups"].values()) == run["subsets"]["all"]["n_correct"]
        assert gender["gap"]["difference"] == pytest.approx(abs(right[female].mean() - right[~female].mean()))
        assert age["groups"]["child"]["few"]
        assert age["gap"] is None
    table = tmp_path / "scores-groups.csv"
    assert str(table) in facts["csv"]
    assert rows_beyond_one(table) == []
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["by"], r["group"]) for r in rows[:4]] == [
        ("gender", "female"), ("gender", "male"), ("age", "adult"), ("age", "child"),
    ]  # fmt: skip
    assert len(rows) == 8
    said = CliRunner().invoke(cli.app, [*map(str, words), "--workspace", str(space)]).stderr
    assert "ran-baseline-1, by gender" in said
    assert "child *" in said
    assert "largest gap: +" in said
    assert "permutation test" in said
    told = tell("report", *runs, "--by", "gender", space=space)
    grouped = facts["runs"]["ran-baseline-1"]["groups"]["gender"]
    assert told["runs"]["ran-baseline-1"]["scores"]["groups"] == {"gender": grouped}
    assert "by gender, in percent" in (space / "toy/report.html").read_text()


def test_an_unknown_column_is_refused_before_a_network_runs(space):
    for command in ("eval", "report"):
        told = tell(command, "--by", "gendre", space=space, ok=False)
        assert "no column 'gendre'" in told["error"]
        assert "gender" in told["hint"]
    assert call("eval", "--folds", "--by", "gender", space=space).exit_code == 2
