"""Whether papers agree with themselves, through `fertool papers --check`, and their matrices beside those of runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from paper_runs import Workbench, write_faces, write_run
from rates import beyond_one
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.evaluation import paper_results
from fertool.evaluation.cells import cells
from fertool.labels import PROTOCOLS

PAPER = """
paper: mine
title: A small network
authors: A, B
venue: Workshop 2024
data: {rafdb: {test: TEST}}
results:
  - {table: Table 1, dataset: rafdb, rows: [{system: ours, variant: ran, recipe: ran-rafdb, value: VALUE, own: true}]}
  - {table: Table 2, dataset: rafdb, rows: [{system: other rate, variant: ran, recipe: ran-rafdb, value: 12.34,
     own: true, given: {lr: 0.5}}]}
confusions:
  all: {table: Fig. 1, dataset: rafdb, variant: ran, recipe: ran-rafdb, classes: [fear, anger], SUPPORT
    rows: [ROW, [0, 100]]}
"""
#: the numbers of Table II that no counts behind the printed shares can give
CONTRADICTIONS = {
    "affectnet-occlusion-baseline",
    "affectnet-occlusion-ran",
    "affectnet-pose45-baseline",
    "affectnet-pose45-ran",
    "ferplus-occlusion-baseline",
}


def invoke(*words):
    return CliRunner().invoke(cli.app, [str(w) for w in words])


def checked(*words) -> dict:
    result = invoke("papers", *words, "--check", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)["papers"]
    assert not list(beyond_one(facts))
    return facts


def written(folder, value=90.0, support="support: [3, 1],", row="[67, 33]", test=4):
    text = PAPER.replace("VALUE", str(value)).replace("SUPPORT", support).replace("ROW", row)
    (folder / "mine.yaml").write_text(text.replace("TEST", str(test)))
    return folder / "mine.yaml"


def of_mine(*args, **kwargs) -> dict:
    (paper,) = checked(written(*args, **kwargs)).values()
    return paper


def test_ran_contradicts_itself_where_its_matrices_leave_its_table():
    paper = checked("ran")["ran"]
    claims = {m["matrix"]: m["claims"] for m in paper["matrices"]}
    assert all(len(each) == 1 for each in claims.values())
    assert {n for n, (c,) in claims.items() if c["contradicts"]} == CONTRADICTIONS
    assert paper["contradictions"] == len(CONTRADICTIONS)
    worst = next(m for m in paper["matrices"] if m["matrix"] == "ferplus-occlusion-baseline")
    assert (worst["low"], worst["high"]) == pytest.approx((451 / 605, 452 / 605))
    assert worst["accuracy"] == pytest.approx(0.74455, abs=5e-6)
    assert worst["claims"][0]["value"] == 0.7333
    assert worst["claims"][0]["tables"] == ["Table II", "Table III"]
    assert {m["matrix"]: m["impossible_rows"] for m in paper["matrices"] if m["impossible_rows"]} == {
        "affectnet-occlusion-ran": ["happiness"]
    }


def test_rans_rows_are_whole_percents_that_sum_to_hundred():
    paper = paper_results.load("ran")
    assert len(paper.confusions) == 8
    for name, row in paper.matrices.items():
        classes, matrix = paper.confusion(name)
        assert set(classes) == set(PROTOCOLS["ferplus8"])
        assert np.abs(matrix.sum(1) - 100).max() <= 2
        assert abs(sum(paper.confusions[name]["support"]) - row.faces) <= 1


def test_rans_printed_weights_come_from_the_equations():
    """No softmax after the sigmoids gives them: its products differ too little."""
    printed = paper_results.load("ran").facts["region_weights"]
    ratios = [max(face) / min(face) for figure in printed.values() for face in figure]
    assert (min(ratios), max(ratios)) == pytest.approx((0.184 / 0.142, 0.225 / 0.126))
    assert all(abs(sum(face) - 1) <= 0.006 for figure in printed.values() for face in figure)
    gates = torch.cat([torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6), torch.rand(500, 6)]).softmax(1)
    products = gates[:, None] * gates[None]
    bound = (products.amax(2) - products.amin(2)).max().exp().item()
    assert bound == pytest.approx(np.exp((np.e**2 - 1) / (np.e + 5) ** 2))
    assert bound < 1.12 < min(ratios)


def test_whole_faces_are_counted(tmp_path):
    """67 % of three faces are two of them: three of four are right, whatever 67 may have been rounded from."""
    paper = of_mine(tmp_path, 75.0)
    (matrix,) = paper["matrices"]
    assert (matrix["low"], matrix["high"]) == (0.75, 0.75)
    assert matrix["accuracy"] == pytest.approx(0.7525)
    (claim,) = matrix["claims"]
    assert claim["value"] == 0.75
    assert not claim["contradicts"], "the number of another learning rate is not compared"


@pytest.mark.parametrize(("value", "contradicts"), [(66.67, False), (66.66, False), (66.65, True), (66.68, True)])
def test_a_number_may_be_rounded_or_cut_off(tmp_path, value, contradicts):
    paper = of_mine(tmp_path, value, support="support: [2, 1],", row="[50, 50]", test=3)
    assert paper["contradictions"] == contradicts


@pytest.mark.parametrize(("test", "low", "high"), [(5, 0.6, 0.8), (3, 2 / 3, 1)])
def test_faces_that_only_one_source_counts_may_be_right_or_wrong(tmp_path, test, low, high):
    (matrix,) = of_mine(tmp_path, 75.0, test=test)["matrices"]
    assert (matrix["low"], matrix["high"]) == pytest.approx((low, high))
    assert (matrix["faces"], matrix["faces_in_paper"]) == (4, test)


def test_a_row_that_whole_faces_cannot_give_is_named(tmp_path):
    (matrix,) = of_mine(tmp_path, row="[60, 40]")["matrices"]
    assert matrix["impossible_rows"] == ["fear"]
    assert (matrix["low"], matrix["high"]) == pytest.approx(((1.785 + 1) / 4, (1.815 + 1) / 4))
    assert "no whole faces give the row of fear" in invoke("papers", tmp_path / "mine.yaml", "--check").stderr


def test_the_table_says_what_contradicts(tmp_path):
    result = invoke("papers", written(tmp_path, 90.0), "--check")
    assert result.exit_code == 0
    assert "contradicts" in result.stderr
    assert "1 of 1 numbers contradict their matrix beyond rounding" in result.stderr
    assert "agrees" in invoke("papers", written(tmp_path, 75.0), "--check").stderr


def test_a_paper_without_class_counts_has_nothing_to_check(tmp_path):
    assert "no confusion matrix with class counts: nothing to check" in invoke("papers", "va-cnn", "--check").stderr
    paper = of_mine(tmp_path, support="")
    assert (paper["matrices"], paper["unchecked"]) == ([], {"all": "no class counts (support)"})
    assert set(checked()) == set(paper_results.names())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"support": "support: [3],"}, "support is not 2 counts of faces"),
        ({"support": "support: [3, 1.5],"}, "support is not 2 counts of faces"),
        ({"support": "support: [0, 0],"}, "support counts no faces"),
        ({"row": "[67]"}, "the row of fear is not 2 percentages"),
        ({"row": "[67, 133]"}, "the row of fear is not 2 percentages"),
    ],
)
def test_a_malformed_matrix_is_an_error(tmp_path, changes, problem):
    result = invoke("papers", written(tmp_path, **changes), "--check")
    assert result.exit_code == 4
    assert f"confusion all: {problem}" in " ".join(result.stderr.split())


# ------------------------------------------------------------------------------------------- matrices beside a run's


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A workspace with a run of RAN on as many faces as the authors' lists have."""
    (found, *_) = [c for c in cells("ran") if c.row.value == 83.63]
    made = Workbench(found.row).carry_out(found.commands)
    space = tmp_path_factory.mktemp("space")
    faces = write_faces(made, space / "ferplus", {"all": 3137, "occlusion": 605, "pose30": 1170})
    write_run(made, faces, "ran-1", right=0.9)
    return space, faces, made


def drawn(space, *words):
    return invoke("visualize", "confusion", "--dpi", 150, *words, "--workspace", space)


def test_the_papers_matrix_of_a_subset_is_drawn_beside_the_runs(bench):
    space, _, _ = bench
    result = drawn(space, "--paper", "ran", "--subset", "occlusion", "--run", "ran-1")
    assert result.exit_code == 0, result.output
    assert "note:" not in result.stderr
    kept = artefact.read(space / "ferplus/runs/ran-1/figures/figures.h5").group("confusion-occlusion")
    assert kept["ran-1/counts"].sum() == 605
    printed = kept["ran, Fig. 4, ferplus-occlusion-ran/share"]
    classes = kept["classes"].tolist()
    assert printed[classes.index("fear"), classes.index("sadness")] == 0.25
    assert printed[classes.index("happiness"), classes.index("happiness")] == 0.93


def test_a_subset_without_a_printed_matrix_is_an_error_that_lists_those_there_are(bench):
    result = drawn(bench[0], "--paper", "ran", "--subset", "pose30", "--run", "ran-1")
    assert result.exit_code == 2
    told = " ".join(result.stderr.split())
    assert "ran prints no confusion matrix that belongs beside ran-1, pose30" in told
    assert "ferplus-occlusion-baseline (ferplus, occlusion)" in told


def test_classes_that_a_run_lacks_are_said(bench, tmp_path):
    _, _, made = bench
    classes = PROTOCOLS["ferplus8"][:7]
    network = {**made.networks[0], "classes": 7}
    made = replace(made, networks=(network,))
    faces = write_faces(made, tmp_path / "ferplus", {"all": 3137, "occlusion": 605}, classes=classes)
    write_run(made, faces, "ran-1", right=0.9)
    result = drawn(tmp_path, "--paper", "ran", "--subset", "occlusion", "--run", "ran-1")
    assert result.exit_code == 0, result.output
    told = " ".join(result.stderr.split())
    assert "note: ran-1 has no contempt" in told
    assert "classes 7 instead of 8" in told
    kept = artefact.read(tmp_path / "ferplus/runs/ran-1/figures/figures.h5").group("confusion-occlusion")
    assert kept["classes"].tolist()[-1] == "contempt"
    assert kept["ran-1/counts"].shape == (8, 8)
    assert kept["ran-1/counts"][7].sum() == 0
