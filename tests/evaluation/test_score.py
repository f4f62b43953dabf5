import csv
import io
import json

import numpy as np
import pytest
from rich.console import Console
from small_runs import CLASSES, make_faces, make_predictions, make_run, make_subsets

from fertool.errors import ArtefactError, DataError, UsageError
from fertool.evaluation import tables
from fertool.evaluation.comparison import beside
from fertool.evaluation.score import compare, score
from fertool.evaluation.setups import setup_of

LABELS = [0, 0, 0, 0, 1, 1, 1, 2, 2, -1]
PREDICTED = [0, 0, 0, 1, 1, 1, 0, 2, 2, 3]


@pytest.fixture
def faces(tmp_path):
    return make_faces(tmp_path / "ferplus", LABELS)


@pytest.fixture
def subsets(faces):
    i = np.arange(faces.rows)
    return make_subsets(faces, pose30=i < 5, pose45=i < 2, occlusion=i > 5, occlusion_upper=np.zeros(faces.rows))


def _predict(faces, predicted=PREDICTED, name="ran-1", **kwargs):
    return make_predictions(make_run(faces, name, variant=name.split("-")[0]), faces, predicted, **kwargs)


def test_whole_split(faces):
    s = score(_predict(faces))["subsets"]["all"]
    assert (s["n_rows"], s["n_unlabelled"], s["n_total"], s["n_correct"]) == (10, 1, 9, 7)
    assert s["accuracy"] == pytest.approx(7 / 9)
    assert s["low"] < s["accuracy"] < s["high"]
    assert s["macro_accuracy"] == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)
    assert np.array(s["confusion"])[:3, :3].tolist() == [[3, 1, 0], [1, 2, 0], [0, 0, 2]]
    assert s["classes"]["happiness"]["recall"] == pytest.approx(2 / 3)
    assert s["classes"]["contempt"]["recall"] is None


def test_missed_faces_are_also_counted_apart(faces):
    s = score(_predict(faces))["subsets"]["all"]
    # rows 4 and 9 were kept whole; row 9 has no label
    assert s["n_missed"] == 1
    assert (s["missed"]["n_correct"], s["missed"]["n_total"]) == (1, 1)
    assert (s["found"]["n_correct"], s["found"]["n_total"]) == (6, 8)


def test_confidence_widens_the_interval(faces):
    narrow, wide = (score(_predict(faces), confidence=c)["subsets"]["all"] for c in (0.5, 0.99))
    assert wide["low"] < narrow["low"]
    assert wide["high"] > narrow["high"]


def test_named_subsets_follow_the_whole(faces, subsets):
    result = score(_predict(faces), subsets, ["pose45", "occlusion"])["subsets"]
    assert list(result) == ["all", "pose45", "occlusion"]
    assert (result["pose45"]["n_correct"], result["pose45"]["n_total"]) == (2, 2)
    assert (result["occlusion"]["n_correct"], result["occlusion"]["n_total"], result["occlusion"]["n_rows"]) == (
        2,
        3,
        4,
    )


def test_all_is_every_subset_that_has_rows(faces, subsets):
    result = score(_predict(faces), subsets, ["all"])["subsets"]
    assert set(result) == {"all", "pose30", "pose45", "occlusion"}


def test_subsets_are_looked_up_by_the_row_in_the_faces(faces, subsets):
    rows = [9, 1, 7]
    result = score(_predict(faces, [3, 0, 1], rows=rows), subsets, ["pose45", "occlusion"])["subsets"]
    assert (result["pose45"]["n_correct"], result["pose45"]["n_total"]) == (1, 1)
    assert (result["occlusion"]["n_correct"], result["occlusion"]["n_total"]) == (0, 1)


def test_an_empty_subset_is_said_and_not_a_crash(faces, subsets):
    result = score(_predict(faces), subsets, ["occlusion-upper"])
    s = result["subsets"]["occlusion-upper"]
    assert s["n_total"] == 0
    assert s["accuracy"] is s["low"] is s["macro_accuracy"] is None
    assert "occlusion-upper: no face of this split is in it" in tables.notes({"ran-1": result})


def test_an_unknown_subset_names_the_nearest(faces, subsets):
    with pytest.raises(UsageError) as e:
        score(_predict(faces), subsets, ["pose54"])
    assert "pose45" in e.value.hint


def test_subsets_of_other_faces_are_refused(faces, tmp_path):
    other = make_faces(tmp_path / "other", LABELS, seed=1)
    foreign = make_subsets(other, pose45=np.ones(10))
    with pytest.raises(ArtefactError, match="other faces"):
        score(_predict(faces), foreign, ["pose45"])
    with pytest.raises(ArtefactError, match="no subsets"):
        score(_predict(faces), None, ["pose45"])


def test_fusion_sides_with_the_surer_run(faces):
    sure = _predict(faces, np.zeros(10, int), "baseline-1", sure=9.0)
    unsure = _predict(faces, np.ones(10, int), "ran-1", sure=1.0)
    result = score([sure, unsure])
    assert result["fused"] == 2
    assert result["subsets"]["all"]["n_correct"] == 4  # all called class 0


def test_fusion_is_of_probabilities(faces):
    # the sum of logits would be 30 for class 0 and 10 for class 1
    very_sure = _predict(faces, np.zeros(10, int), "a-1", sure=30.0)
    two = [_predict(faces, np.ones(10, int), name, sure=5.0) for name in ("b-1", "c-1")]
    assert score([very_sure, *two])["subsets"]["all"]["classes"]["happiness"]["n_predicted"] == 9


def test_fusion_matches_faces_by_id(faces):
    a = _predict(faces, PREDICTED, "a-1")
    b = _predict(faces, PREDICTED[::-1], "b-1", rows=np.arange(10)[::-1])
    assert score([a, b])["subsets"]["all"]["n_correct"] == 7


@pytest.mark.parametrize("rows", [np.arange(9), np.arange(1, 10)])
def test_fusion_of_other_faces_is_refused_by_name(faces, rows):
    a, b = _predict(faces, PREDICTED, "a-1"), _predict(faces, np.zeros(9, int), "b-1", rows=rows)
    odd = "face009.png" if rows[0] == 0 else "face000.png"
    for one, two in ((a, b), (b, a)):
        with pytest.raises(ArtefactError, match=odd):
            score([one, two])


def test_fusion_of_other_labels_is_refused(faces, tmp_path):
    other = make_faces(tmp_path / "distribution", [1, *LABELS[1:]])
    with pytest.raises(ArtefactError, match="different labels"):
        score([_predict(faces), _predict(other)])


def test_comparison_is_paired(faces, subsets):
    better = [0, 0, 0, 0, 1, 1, 1, 2, 0, 3]
    runs = {"ran-1": _predict(faces), "self-1": _predict(faces, better, "self-1")}
    result = compare(runs, subsets, ["pose30", "occlusion-upper"])
    whole = result["subsets"]["all"]
    assert whole["n_total"] == 9
    assert whole["runs"]["ran-1"] == {"n_correct": 7, "n_total": 9, "accuracy": pytest.approx(7 / 9)}
    second = whole["runs"]["self-1"]
    assert (second["only_this"], second["only_reference"]) == (2, 1)
    assert second["difference"] == pytest.approx(1 / 9)
    assert second["p_exact"] == 1.0
    assert result["subsets"]["pose30"]["runs"]["self-1"]["only_this"] == 1
    assert result["subsets"]["occlusion-upper"]["runs"]["self-1"]["difference"] is None


def _printed(*shown) -> str:
    console = Console(width=100, file=io.StringIO())
    for one in shown:
        console.print(one)
    return console.file.getvalue()


def test_tables_show_the_numbers(faces, subsets):
    result = score(_predict(faces), subsets, ["pose45", "occlusion-upper"])
    out = _printed(
        tables.scores({"ran-1": result}, "ran-1"), tables.classes(result), tables.confusion(result, "pose45")
    )
    whole = next(line for line in out.splitlines() if line.startswith("whole split"))
    assert whole.split()[2:7] == ["*", "9", "7", "77.78", "45.26–93.68"], "the star marks few faces"
    assert "happiness" in out
    assert any("left out for want of a label: 1 of 10" in n for n in tables.notes({"ran-1": result}))


def test_no_paper_is_named_where_it_has_no_number(tmp_path):
    faces = make_faces(tmp_path / "rendered", LABELS, dataset="rendered")
    run = make_run(faces, "ran-1")
    predictions = make_predictions(run, faces, PREDICTED)
    result = beside(score(predictions), setup_of(run, predictions, faces))
    assert not any("paper" in line for line in tables.notes({"ran-1": result}))


def test_several_runs_share_a_table_and_its_notes(faces, subsets):
    results = {}
    for name in ("ran-1", "baseline-1"):
        run = make_run(faces, name, variant=name.split("-")[0])
        predictions = make_predictions(run, faces, PREDICTED)
        results[name] = beside(score(predictions, subsets, ["pose45"]), setup_of(run, predictions, faces, subsets))
    lines = _printed(tables.scores(results, "Scores")).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["ran-1", "whole", "pose45", "baseline-1", "whole", "pose45"]
    assert not any("80.40" in line for line in lines), "a number that is not compared stands in no column"
    said = tables.notes(results)
    assert len(said) == len(set(said))
    assert any(line.startswith("not compared with the paper: whole split 88.55") for line in said)


def test_comparison_table_names_gains_and_losses(faces):
    runs = {"ran-1": _predict(faces), "self-1": _predict(faces, np.zeros(10, int), "self-1")}
    out = _printed(tables.comparison(compare(runs)))
    assert next(line for line in out.splitlines() if "self-1" in line).split()[-4:] == ["-33.33", "1", "4", "0.375"]


def test_results_are_json_without_nan(faces, subsets):
    runs = {"ran-1": _predict(faces), "self-1": _predict(faces, name="self-1")}
    text = json.dumps([score(runs["ran-1"], subsets, ["occlusion-upper"]), compare(runs)], allow_nan=False)
    assert json.loads(text)[0]["classes"] == list(CLASSES)


def test_csv_gives_the_counts_back(faces, subsets, tmp_path):
    result = score(_predict(faces), subsets, ["pose45", "occlusion-upper"])
    path = tables.write_csv(tmp_path / "scores.csv", tables.score_rows(result, "ran-1"))
    with open(path, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert [r["subset"] for r in rows] == ["all", "pose45", "occlusion-upper"]
    assert float(rows[0]["accuracy"]) == pytest.approx(int(rows[0]["n_correct"]) / int(rows[0]["n_total"]))
    assert rows[2]["accuracy"] == ""
    cells = tables.class_rows(result, "ran-1")
    assert sum(r[f"predicted_{c}"] for r in cells if r["subset"] == "all" for c in CLASSES) == 9


def test_csv_that_cannot_be_written_is_an_error(faces, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError):
        tables.write_csv(tmp_path / "file" / "scores.csv", tables.score_rows(score(_predict(faces)), "ran-1"))
