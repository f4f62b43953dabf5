"""The papers' numbers, and whether one of them belongs beside a result: through `fertool eval` and its files."""

import math
from dataclasses import replace

import numpy as np
import pytest
from commands import tell
from paper_runs import Workbench, write_faces, write_run
from typer.testing import CliRunner

from fertool import cli
from fertool.errors import RecipeError
from fertool.evaluation import differences, paper_results
from fertool.evaluation.cells import cells
from fertool.evaluation.comparison import compare, departs
from fertool.evaluation.units import percent, points
from fertool.labels import EMOTIONS, PROTOCOLS
from fertool.settings import STAGES
from fertool.subsets.ran_lists import LAYOUTS

FERPLUS = {"all": 3137, "occlusion": 605, "pose30": 1170, "pose45": 633}


def cell(paper: str, value: float, table: str = ""):
    return next(c for c in cells(paper) if c.row.value == value and table in c.row.table)


def setup(paper: str, value: float, table: str = ""):
    """What the commands of a number lead to."""
    found = cell(paper, value, table)
    return Workbench(found.row).carry_out(found.commands)


def printed(*words) -> str:
    """What a command prints for people, on one line."""
    return " ".join(CliRunner().invoke(cli.app, [str(w) for w in words]).stderr.split())


def changed(made, **sections):
    """A setup of one network with some settings otherwise: train={"lr": 1}, model, lineage, prepared."""
    network = dict(made.networks[0])
    top = {k: sections.pop(k) for k in ("finished", "classes") if k in sections}
    for name, values in sections.items():
        network[name] = {**network[name], **values}
    return replace(made, networks=({**network, **top},))


# ---------------------------------------------------------------------------------------------------- the files


def test_every_paper_is_there_in_full():
    counts = {name: len(paper_results.load(name).results) for name in paper_results.names()}
    assert counts == {"lnlattennet": 146, "man": 27, "ran": 80, "va-cnn": 25, "ws-lgrn": 24}


@pytest.mark.parametrize("name", paper_results.names())
def test_rows_make_sense(name):
    paper = paper_results.load(name)
    assert paper.title
    for row in paper.results:
        assert 20 < row.value <= 100, row
        assert row.own == bool(row.members), row
        if row.n_total:
            cut_off = math.floor(1e4 * row.n_correct / row.n_total) / 100
            rounded = round(100 * row.n_correct / row.n_total, 2)
            assert row.value in (cut_off, rounded), row


@pytest.mark.parametrize("name", ["man", "va-cnn", "lnlattennet"])
def test_confusion_matrices_are_of_emotions_and_sum_to_hundred(name):
    paper = paper_results.load(name)
    for key in paper.confusions:
        classes, matrix = paper.confusion(key)
        assert set(classes) <= set(EMOTIONS)
        assert matrix.shape == (7, 7)
        sums = matrix.sum(1)
        if (name, key) == ("man", "ckplus"):
            assert sums[classes.index("fear")] == pytest.approx(90)
            sums = np.delete(sums, classes.index("fear"))
        known = sums[~np.isnan(sums)]
        assert known == pytest.approx([100] * len(known), abs=0.25)
        assert len(known) == (6 if key.startswith("pose") or key == "ckplus" else 7)


def test_mans_matrix_counts_whole_faces():
    paper = paper_results.load("man")
    _, matrix = paper.confusion("rafdb")
    support = np.array(paper.confusions["rafdb"]["support"])
    right = np.diag(matrix) * support / 100
    assert right == pytest.approx(right.round(), abs=0.05)
    assert (right.round().sum(), support.sum()) == (2629, 3068)
    assert np.diag(matrix).mean() == pytest.approx(77.27, abs=0.005)


def test_the_average_of_lnlattennet_is_that_of_its_data_sets():
    rows = [r for r in paper_results.load("lnlattennet").results if r.table == "Table IV" and r.system == "LNLAttenNet"]
    *each, average = [r.value for r in rows]
    assert len(each) == 5
    assert np.mean(each) == pytest.approx(average, abs=0.01)


def test_sizes_of_subsets_are_those_that_build_subsets_knows():
    data = {r.dataset: r.data.subsets for r in paper_results.load("ran").results if r.data.subsets}
    names = {"FERPlus": "ferplus", "RAF-DB": "rafdb", "AffectNet": "affectnet"}
    for layout in LAYOUTS:
        assert {k: data[names[layout.title]][k] for k in layout.paper} == layout.paper


def test_an_unknown_paper_is_an_error_with_the_nearest():
    with pytest.raises(RecipeError) as e:
        paper_results.load("man-")
    assert "'man'" in e.value.hint


def test_settings_that_are_not_compared_exist():
    for name in differences.NOT_COMPARED:
        section, _, key = name.partition(".")
        assert key in STAGES[section]().as_dict(), name


# ------------------------------------------------------------------------------------ every cell of every paper


@pytest.mark.parametrize("name", paper_results.names())
def test_every_number_of_a_paper_has_commands_after_which_ours_stands_beside_it(name):
    setups = {}
    for c in cells(name):
        if c.reason:
            assert c.row.dataset in ("average", "fedro"), c
            continue
        if c.commands not in setups:
            setups[c.commands] = Workbench(c.row).carry_out(c.commands)
        assert departs(setups[c.commands], c.row, c.row.faces) == (), c


def test_papers_lists_them():
    told = printed("papers", "man")
    assert "fertool run man-rafdb data/rafdb --name man-rafdb --variant man --set train.model.pixels=imagenet" in told
    assert "75.59 MAN, Table 3" in told


@pytest.mark.parametrize(
    ("paper", "value", "table"),
    [
        ("ran", 88.55, "Table IV"), ("ran", 88.23, "Table IV"), ("ran", 87.85, "Table IV"), ("ran", 89.16, ""),
        ("ran", 52.50, ""), ("ran", 52.97, "Table V"), ("ran", 59.5, ""), ("ran", 86.90, ""), ("ran", 56.4, ""),
        ("ran", 78.45, ""), ("ran", 87.04, ""), ("man", 75.59, ""), ("man", 73.27, ""), ("lnlattennet", 84.97, ""),
        ("va-cnn", 40.0, ""), ("va-cnn", 48.3, ""),
    ],
)  # fmt: skip
def test_the_number_is_that_of_the_settings(paper, value, table):
    found = cell(paper, value, table)
    made = Workbench(found.row).carry_out(found.commands)
    assert compare(made, found.row.subset, found.row.faces).reported.value == value


def test_a_paper_that_contradicts_itself_gives_both_numbers():
    found = compare(setup("ws-lgrn", 85.79), n_total=3068)
    assert (found.reported.value, found.reported.n_correct) == (85.79, 2632)
    assert [o.value for o in found.others] == [85.20]
    assert [o.value for o in compare(setup("man", 85.69), n_total=3068).others] == [85.82]


# -------------------------------------------------------------------------------------------- through the command


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A workspace with FERPlus as large as the authors' lists, and the setup of RAN on it."""
    made = setup("ran", 83.63, "Table II")
    space = tmp_path_factory.mktemp("space")
    return space, write_faces(made, space / "ferplus", FERPLUS), made


def evaluated(space, name: str, *more) -> dict:
    return tell("eval", "--run", name, "--gpus", 0, *more, space=space)["runs"][name]


def printed_value(entry: dict) -> float | None:
    """The paper's number as it prints it, in percent."""
    return entry["value"] and round(100 * entry["value"], 2)


def values(result: dict) -> dict:
    return {name: printed_value(s["paper"]) for name, s in result["subsets"].items() if s["paper"]}


def test_a_run_of_the_recipe_has_the_papers_numbers_beside_it(bench):
    space, faces, made = bench
    write_run(made, faces, "as-it-is-1", right=0.9)
    result = evaluated(space, "as-it-is-1", "--subset", "all")
    assert values(result) == {"all": 88.55, "occlusion": 83.63, "pose30": 82.23, "pose45": 80.40}
    whole = result["subsets"]["all"]
    assert whole["paper"]["difference"] == pytest.approx(whole["accuracy"] - 0.8855)
    assert whole["paper"]["assumed"] == "provided that MS-CELEB-1M.pth holds weights of MS-Celeb-1M"
    assert whole["paper"]["differs"] == {}
    table = printed("eval", "--run", "as-it-is-1", "--gpus", 0, "--subset", "all", "--workspace", space)
    assert percent(whole["accuracy"]) in table
    assert f"88.55 {points(whole['paper']['difference'])}" in table
    assert "occlusion, pose30, pose45: compared with Table II" in table
    assert "IEEE Transactions on Image Processing" in table


ALTERED = {
    "random weights": ({"lineage": {"init": {"name": "none", "run": None}}}, "starting weights", "none"),
    "ImageNet": ({"lineage": {"init": {"name": "imagenet", "run": None}}}, "starting weights", "imagenet"),
    "short": ({"train": {"epochs": 5}}, "training", "5 epochs"),
    "too long": ({"train": {"epochs": 80}}, "training", "80 epochs"),
    "iterations": ({"train": {"iterations": 100}}, "training", "100 iterations"),
    "unfinished": ({"finished": False}, "training", "stopped after epoch 12 of 40 epochs"),
    "lr": ({"train": {"lr": 1.0}}, "learning rate", "1"),
    "schedule": ({"train": {"lr_milestones": [5]}}, "learning rate", "0.01, × 0.1 at epoch 5"),
    "a rate of nothing": ({"train": {"lr_gamma": 1e-300}}, "learning rate", "0.01, × 1e-300 at epoch 15, 30"),
    "optimiser": ({"train": {"optimizer": "adam"}}, "train.optimizer", "adam"),
    "batch": ({"train": {"global_batch": 32}}, "train.global_batch", "32"),
    "weight decay": ({"train": {"weight_decay": 0.0}}, "train.weight_decay", "0"),
    "augmentation": ({"train": {"rotate": 10.0}}, "train.rotate", "10"),
    "no flips": ({"train": {"flip": 0.0}}, "train.flip", "0"),
    "oversampling": ({"train": {"oversample": True}}, "train.oversample", "true"),
    "splits": ({"train": {"train_splits": ["train"]}}, "train.train_splits", "train"),
    "label rule": ({"train": {"labels": "distribution"}}, "train.labels", "distribution"),
    "training faces": ({"lineage": {"faces": 2000}}, "faces to train on", "2,000"),
    "checkpoint": ({"train": {"select_on": "test"}}, "checkpoint", "best on test"),
    "network": ({"model": {"backbone": "tiny"}}, "train.model.backbone", "tiny"),
    "margin": ({"model": {"rank_margin": 0.1}}, "train.model.rank_margin", "0.1"),
    "not recorded": ({"lineage": {"faces": None}}, "faces to train on", "not recorded"),
}


@pytest.mark.parametrize("case", ALTERED)
def test_what_influences_the_result_forbids_the_comparison(bench, case):
    space, faces, made = bench
    how, name, here = ALTERED[case]
    write_run(changed(made, **how), faces, f"{case.replace(' ', '-')}-1")
    paper = evaluated(space, f"{case.replace(' ', '-')}-1")["subsets"]["all"]["paper"]
    assert (paper["value"], paper["difference"]) == (None, None)
    assert 88.55 in map(printed_value, paper["others"])
    assert paper["differs"][name]["here"] == here
    assert f"{here} instead of {paper['differs'][name]['paper']}" in paper["says"]


EQUAL = {
    "precision and speed": {"train": {"precision": "bf16", "cache": "host", "compile": True, "accumulate": 4}},
    "seed": {"train": {"seed": 7}},
    "a little longer": {"train": {"epochs": 41}},
    "a schedule written in fractions": {"train": {"lr_unit": "fraction", "lr_milestones": [0.375, 0.75]}},
    "the authors' labels": {"train": {"labels": "list"}},
    "the authors' number of faces": {"lineage": {"faces": 28256}},
}


@pytest.mark.parametrize("case", EQUAL)
def test_what_does_not_influence_it_is_no_obstacle(bench, case):
    space, faces, made = bench
    name = case.replace(" ", "-").replace("'", "") + "-1"
    write_run(changed(made, **EQUAL[case]), faces, name)
    assert values(evaluated(space, name)) == {"all": 88.55}


def test_differences_come_worst_first_and_in_one_line(bench):
    space, faces, made = bench
    altered = changed(
        made,
        train={"epochs": 5, "flip": 0.0, "lr": 0.05},
        model={"size": 64},
        lineage={"init": {"name": "none", "run": None}},
    )
    write_run(altered, faces, "many-1")
    paper = evaluated(space, "many-1")["subsets"]["all"]["paper"]
    assert list(paper["differs"]) == ["train.model.size", "training", "starting weights", "learning rate", "train.flip"]
    assert paper["says"].startswith(
        "size 64 instead of 224; training 5 epochs instead of 40 epochs; starting weights none"
    )


def test_the_table_the_json_and_the_report_say_the_same(bench):
    space, faces, made = bench
    write_run(changed(made, train={"epochs": 5}), faces, "shown-1")
    result = evaluated(space, "shown-1", "--subset", "all")
    table = printed("eval", "--run", "shown-1", "--gpus", 0, "--subset", "all", "--workspace", space)
    says = result["paper"]["says"]
    assert says[0].startswith("not compared with the paper: whole split 88.55 in Table IV")
    assert says[1] == "because here: training 5 epochs instead of 40 epochs"
    for line in says:
        assert line in table
    told = tell("report", "--run", "shown-1", space=space)
    assert told["runs"]["shown-1"]["scores"]["paper"] == result["paper"]
    page = " ".join((space / "ferplus/runs/shown-1/report.html").read_text().split())
    assert "Not to be compared" in page
    assert "training 5 epochs instead of 40 epochs" in page


# ------------------------------------------------------------------------------------------- subsets and test faces


@pytest.mark.parametrize(
    ("source", "said"),
    [("estimate", "the estimated head pose"), ("table", "a table of your own"), ("truth", "what rendered faces know")],
)
def test_subsets_of_another_origin_have_no_number(tmp_path, source, said):
    made = setup("ran", 83.63, "Table II")
    faces = write_faces(made, tmp_path / "ferplus", FERPLUS, dict.fromkeys(made.subset_sources, source))
    write_run(made, faces, "ran-1")
    result = evaluated(tmp_path, "ran-1", "--subset", "all")
    assert values(result) == {"all": 88.55, "occlusion": None, "pose30": None, "pose45": None}
    paper = result["subsets"]["pose30"]["paper"]
    assert paper["differs"] == {"subset": {"paper": "by the authors' lists", "here": f"by {said}"}}
    assert [*map(printed_value, paper["others"])] == [82.23]


def test_subsets_of_another_size_have_no_number(tmp_path):
    made = setup("ran", 83.63, "Table II")
    faces = write_faces(made, tmp_path / "ferplus", {**FERPLUS, "pose30": 120})
    write_run(made, faces, "ran-1")
    result = evaluated(tmp_path, "ran-1", "--subset", "all")
    assert values(result) == {"all": 88.55, "occlusion": 83.63, "pose30": None, "pose45": 80.40}
    assert result["subsets"]["pose30"]["paper"]["differs"] == {"subset faces": {"paper": "1,171", "here": "120"}}


def test_a_part_of_the_test_faces_has_no_number(tmp_path):
    made = setup("ran", 88.55, "Table IV")
    limited = replace(made, faces={**made.faces, "limit": 500})
    faces = write_faces(limited, tmp_path / "ferplus", {"all": 500})
    write_run(limited, faces, "ran-1")
    paper = evaluated(tmp_path, "ran-1")["subsets"]["all"]["paper"]
    assert paper["value"] is None
    assert paper["differs"]["test faces"] == {"paper": "3,137", "here": "500"}
    assert paper["differs"]["detect-align.limit of the faces scored"] == {"paper": "none", "here": "500"}


def test_faces_prepared_otherwise_or_without_those_that_were_missed_have_no_number():
    made = setup("ran", 88.55, "Table IV")
    for key, here in (
        ("align", "none"),
        ("on_no_face", "mark"),
        ("size", 112),
        ("data.votes", "auto"),
        ("detector", "dlib-hog"),
    ):
        changes = {"data": {**made.faces["data"], "votes": here}} if key == "data.votes" else {key: here}
        prepared = {**made.faces, **changes}
        other = replace(changed(made, prepared={"faces": prepared}), faces=prepared)
        assert f"detect-align.{key}" in [d.name for d in compare(other, n_total=3137).found]
        elsewhere = compare(replace(made, faces=prepared), n_total=3137).found
        assert [d.name for d in elsewhere] == [f"detect-align.{key} of the faces scored"]


def test_another_split_and_other_faces_have_no_number(tmp_path):
    made = setup("ran", 88.55, "Table IV")
    assert [d.name for d in compare(replace(made, split="val"), n_total=3137).found] == ["test split"]
    faces = write_faces(made, tmp_path / "ferplus", {"all": 3137})
    write_run(replace(made, split="train"), faces, "ran-1")
    assert "paper" not in evaluated(tmp_path, "ran-1", "--split", "train"), "it was trained on"


def test_a_run_on_foreign_faces_has_no_number_of_theirs():
    """67.98 on FED-RO is of a network trained on RAF-DB and AffectNet."""
    made = setup("ran", 88.55, "Table IV")
    foreign = compare(replace(made, dataset="rafdb", faces={**made.faces, "dataset": "rafdb"}), n_total=3068)
    assert foreign.reported is None
    assert ("trained on", "rafdb", "ferplus") in [(d.name, d.paper, d.here) for d in foreign.found]


def test_more_training_data_than_the_paper_has_no_number():
    made = setup("va-cnn", 40.0)
    found = compare(changed(made, lineage={"datasets": ["fer2013", "sfew"], "faces": 36752}), n_total=400)
    assert found.reported is None
    assert [d.name for d in found.found] == ["training"], "closest is the number with FER2013, of 300 epochs"
    assert [o.value for o in found.others] == [48.3]


# ------------------------------------------------------------------------------- what a network stands on, fusions


def test_the_pretrained_part_is_compared():
    made = setup("ws-lgrn", 98.37, "Table 2")
    part = made.networks[0]["lineage"]["pretrained_part"]
    short = {**part, "train": {**part["train"], "epochs": 1}}
    found = compare(changed(made, lineage={"pretrained_part": short}), n_total=981)
    assert [str(d) for d in found.found] == ["pretrained part: training 1 epochs instead of 60 epochs"]
    lost = compare(changed(made, lineage={"pretrained_part": None}), n_total=981)
    assert [d.here for d in lost.found] == ["not recorded"]


def test_the_run_that_a_training_starts_from_is_compared():
    made = setup("ws-lgrn", 98.37, "Table 2")
    run = made.networks[0]["lineage"]["init"]["run"]
    other = {**run, "train": {**run["train"], "epochs": 1}}
    found = compare(changed(made, lineage={"init": {"name": "run.h5", "run": other}}), n_total=981)
    assert [str(d) for d in found.found] == ["starting weights: training 1 epochs instead of 40 epochs"]
    none = compare(changed(made, lineage={"init": {"name": "none", "run": None}}), n_total=981)
    assert [str(d) for d in none.found] == ["starting weights none instead of a run of ws-lgrn-fer2013"]


def test_regions_otherwise_than_in_training_are_named():
    made = setup("ran", 88.55, "Table IV")
    many = compare(replace(made, regions={**made.regions, "mode": "random", "random_n": 30}), n_total=3137)
    assert [d.name for d in many.found] == [f"crop-regions.{k} of the faces scored" for k in ("mode", "random_n")]


def test_settings_decide_not_the_name_of_a_variant(bench):
    space, faces, made = bench
    unnamed = replace(changed(made, model={"rank_weight": 0.0}), variant="")
    write_run(unnamed, faces, "unnamed-1")
    assert values(evaluated(space, "unnamed-1")) == {"all": 88.23}


def test_fusion_of_equal_runs_is_not_the_single_run(bench):
    space, faces, made = bench
    for name in ("equal-1", "equal-2"):
        write_run(made, faces, name)
    told = tell("eval", "--run", "equal-1", "--run", "equal-2", "--fuse", "--gpus", 0, space=space)
    assert told["fused"]["subsets"]["all"]["paper"] is None


# ----------------------------------------------------------------------------------------------------- folds


def folds_of(paper: str, value: float, space, faces: int, people: int = 100, classes=(), **more):
    made = setup(paper, value)
    written = write_faces(made, space / "data", {"all": faces}, people=people, classes=classes)
    for fold in range(int(made.folds.partition(" ")[0])):
        write_run(made, written, f"{made.networks[0]['model']['name']}-fold{fold}-1", fold=fold, **more)
    return made, written


def test_a_cross_validation_says_why_it_is_compared_so(tmp_path):
    made, _ = folds_of("ws-lgrn", 98.37, tmp_path, 981, right=0.98)
    (system,) = tell("eval", "--folds", "--gpus", 0, space=tmp_path)["systems"].values()
    paper = system["paper"]
    assert (printed_value(paper), paper["aggregation"]) == (98.37, "pooled")
    assert paper["difference"] == pytest.approx(system["pooled"]["accuracy"] - 0.9837)
    assert any("compared with the pooled accuracy" in s and "981" in s for s in paper["says"])
    single = evaluated(tmp_path, "ws-lgrn-fold0-1")["subsets"]["all"]["paper"]
    assert single["value"] is None
    assert single["differs"]["folds"] == {"paper": "10 folds (subjects)", "here": "fold 0 of 10 folds (subjects)"}
    assert made.folds == "10 folds (subjects)"


def test_other_folds_have_no_number():
    made = setup("man", 96.28)
    found = compare(replace(made, folds="10 folds (faces)"), n_total=981)
    assert [(d.paper, d.here) for d in found.found] == [("10 folds (subjects)", "10 folds (faces)")]
    assert compare(made, n_total=327).found[0].name == "test faces"


def test_the_papers_confusions_stand_below_ours(tmp_path):
    """MAN's Table 6: every fold's rows in percent, averaged over folds."""
    made, faces = folds_of("man", 96.28, tmp_path, 981, classes=PROTOCOLS["ckplus7c"])
    words = ["eval", "--folds", "--classes", "--gpus", 0, "--workspace", tmp_path]
    (system,) = tell(*words[:5], space=tmp_path)["systems"].values()
    classes, matrix = paper_results.load("man").confusion("ckplus")
    ours = system["classes"]
    printed_rows = system["paper"]["confusions"]["Table 6, ckplus"]
    assert printed_rows[ours.index("anger")][ours.index("sadness")] == pytest.approx(0.081)
    assert np.diag(printed_rows) == pytest.approx([matrix[classes.index(c), classes.index(c)] / 100 for c in ours])
    assert "The paper's, in % (Table 6, ckplus)" in printed(*words)
    short = changed(made, train={"iterations": 10})
    write_run(short, faces, "man-fold3-2", fold=3)
    for fold in (k for k in range(10) if k != 3):
        write_run(short, faces, f"man-fold{fold}-2", fold=fold)
    words += ["--run", tmp_path / "data/runs/man-fold0-2"]
    assert "The paper's" not in printed(*words)


def test_a_single_runs_confusion_has_the_papers_below_it(tmp_path):
    made = setup("man", 85.69)
    faces = write_faces(made, tmp_path / "data", {"all": 3068}, classes=PROTOCOLS["rafdb7"])
    write_run(made, faces, "man-1")
    assert list(evaluated(tmp_path, "man-1")["paper"]["confusions"]) == ["Table 4, rafdb"]
    assert "(Table 4, rafdb)" in printed("eval", "--classes", "--gpus", 0, "--workspace", tmp_path)
    assert "(Table 4, rafdb)" not in printed("eval", "--gpus", 0, "--workspace", tmp_path)


def test_a_baseline_that_is_another_papers_network_belongs_to_the_paper_of_its_recipe(tmp_path):
    """LNLAttenNet's VGG-16 is MAN's network without its attention."""
    made = setup("lnlattennet", 80.96)
    assert made.networks[0]["model"]["name"] == "man"
    faces = write_faces(made, tmp_path / "data", {"all": 3068})
    write_run(made, faces, "vgg-1", recipe="lnlattennet-vgg16-rafdb")
    assert values(evaluated(tmp_path, "vgg-1")) == {"all": 80.96}
    write_run(changed(made, train={"epochs": 2}), faces, "vgg-2", recipe="lnlattennet-vgg16-rafdb")
    paper = evaluated(tmp_path, "vgg-2")["subsets"]["all"]["paper"]
    assert [*map(printed_value, paper["others"])] == [80.96]
    assert paper["says"] == "training 2 epochs instead of 24 epochs"


def test_the_last_ten_epochs_are_averaged_over_folds(tmp_path):
    """LNLAttenNet, IV-B: all results are the average of the last 10 epochs."""
    folds_of("lnlattennet", 98.18, tmp_path, 618, people=90, right=0.9)
    (system,) = tell("eval", "--folds", "--gpus", 0, space=tmp_path)["systems"].values()
    one = np.linspace(0.5, 0.9, 12)[-10:].mean()
    assert system["last_epochs"] == {"epochs": 10, "mean": pytest.approx(one)}
    assert [f["last_epochs"] for f in system["folds"]] == [pytest.approx(one)] * 5
    assert printed_value(system["paper"]) == 98.18
    assert "over the last 10 epochs" in printed("eval", "--folds", "--gpus", 0, "--workspace", tmp_path)


def test_one_fold_that_differs_forbids_the_comparison(tmp_path):
    made, faces = folds_of("man", 96.28, tmp_path, 981)
    part = made.networks[0]["lineage"]["pretrained_part"]
    other = changed(made, lineage={"pretrained_part": {**part, "train": {**part["train"], "iterations": 10}}})
    write_run(other, faces, "man-fold7-1", fold=7)
    (system,) = tell("eval", "--folds", "--gpus", 0, space=tmp_path)["systems"].values()
    assert system["paper"]["value"] is None
    assert "pretrained part: training 10 iterations instead of 1,000 iterations" in " ".join(system["paper"]["says"])
