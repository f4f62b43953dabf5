import math

import numpy as np
import pytest
from small_runs import make_faces, make_run

from fertool.errors import RecipeError
from fertool.evaluation import paper_results
from fertool.evaluation.paper_results import Setup, compare
from fertool.labels import EMOTIONS
from fertool.models.registry import model_settings
from fertool.settings import CropRegions

ALIGNED = {"align": True, "backbone": "resnet18", "labels": "majority", "oversample": False}


def _value(*setup, subset="all"):
    found = compare(Setup(*setup), subset).reported
    return found and found.value


def test_every_paper_is_there_in_full():
    counts = {name: len(paper_results.load(name).results) for name in paper_results.names()}
    assert counts == {"lnlattennet": 146, "man": 27, "ran": 80, "va-cnn": 25, "ws-lgrn": 24}


@pytest.mark.parametrize("name", paper_results.names())
def test_rows_make_sense(name):
    paper = paper_results.load(name)
    assert paper.title
    for row in paper.results:
        assert 20 < row.value <= 100, row
        assert row.own == bool(row.variants), row  # a variant of fertool's is the paper's own system
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


@pytest.mark.parametrize(
    ("variant", "settings", "subset", "value"),
    [
        ("ran", ALIGNED, "pose45", 80.40),
        ("ran", ALIGNED, "pose30", 82.23),
        ("ran", ALIGNED, "occlusion", 83.63),
        ("baseline", ALIGNED, "occlusion", 73.33),
        ("region-3", ALIGNED, "pose45", 76.84),
        ("aug", ALIGNED, "occlusion", 79.92),
        ("ran", ALIGNED, "all", 88.55),
        ("relation", ALIGNED, "all", 88.23),
        ("self", ALIGNED, "all", 87.80),
        ("baseline", ALIGNED, "all", 87.60),
        ("ran", ALIGNED | {"labels": "list"}, "all", 88.55),
        ("ran", ALIGNED | {"align": False}, "all", 87.85),
        ("baseline", ALIGNED | {"align": False}, "all", 86.50),
        ("ran", ALIGNED | {"backbone": "vgg16", "labels": "distribution"}, "all", 89.16),
    ],
)
def test_ran_on_ferplus(variant, settings, subset, value):
    assert _value("ran", "ferplus", variant, settings, subset=subset) == value


def test_oversampling_decides_on_affectnet():
    assert _value("ran", "affectnet", "ran", ALIGNED) == 52.50
    assert _value("ran", "affectnet", "ran", ALIGNED | {"align": False}) == 52.97
    assert _value("ran", "affectnet", "ran", ALIGNED | {"oversample": True}) == 59.5


def test_other_settings_have_no_number_but_the_closest_is_named():
    found = compare(Setup("ran", "ferplus", "ran", ALIGNED | {"align": False}), "occlusion")
    assert found.reported is None
    assert [o.value for o in found.others] == [83.63]
    assert "align: true" in found.others[0].source


def test_a_paper_that_contradicts_itself_gives_both_numbers():
    found = compare(Setup("ws-lgrn", "rafdb", "ws-lgrn"))
    assert (found.reported.value, found.reported.n_correct) == (85.79, 2632)
    assert [o.value for o in found.others] == [85.20]
    assert [o.value for o in compare(Setup("man", "rafdb", "man", {"init": "vgg.pth"})).others] == [85.82]


def test_training_from_scratch_has_its_own_number():
    assert _value("man", "rafdb", "man", {"init": "none"}) == 75.59
    assert _value("man", "rafdb", "man", {"init": "vgg.pth"}) == 85.69


def test_nothing_is_found_where_nothing_was_printed():
    assert compare(Setup("ran", "rendered", "ran")) == compare(Setup("ran", "ferplus", "ran"), "occlusion-upper")
    assert compare(Setup("ran", "rendered", "ran")).reported is None


def test_an_unknown_paper_is_an_error_with_the_nearest():
    with pytest.raises(RecipeError) as e:
        paper_results.load("man-")
    assert "'man'" in e.value.hint


def test_setup_of_a_run(tmp_path):
    faces = make_faces(tmp_path / "ferplus", [0, 1, 2])
    setup = paper_results.setup_of(make_run(faces, "self-1", variant="self"), faces, "test")
    assert (setup.paper, setup.dataset, setup.variant) == ("ran", "ferplus", "self")
    assert compare(setup).reported.value == 87.80
    whole = paper_results.setup_of(make_run(faces, "ran-1", variant=""), faces, "test")
    assert compare(whole).reported.value == 88.55


def test_no_number_stands_beside_faces_that_were_trained_on_or_are_foreign(tmp_path):
    faces = make_faces(tmp_path / "ferplus", [0, 1, 2])
    run = make_run(faces, "ran-1")
    assert paper_results.setup_of(run, faces, "train") is None
    other = make_faces(tmp_path / "other", [0, 1, 2], seed=1)
    foreign = compare(paper_results.setup_of(run, other, "test"))
    assert foreign.reported is None
    fed_ro = make_faces(tmp_path / "fedro", [0, 1, 2], dataset="fedro")
    assert compare(paper_results.setup_of(run, fed_ro, "test")).reported.value == 67.98


def test_a_network_of_other_settings_than_the_papers_is_not_compared(tmp_path):
    faces = make_faces(tmp_path / "ferplus", [0, 1, 2])
    setup = paper_results.setup_of(make_run(faces, "ran-1", backbone="tiny", size=48), faces, "test")
    found = paper_results.beside({"subsets": {"all": {"accuracy": 80.0}}}, setup)["subsets"]["all"]["paper"]
    assert (found["value"], found["difference"]) == (None, None)
    assert found["others"][0]["differs"] == {
        "backbone": {"paper": "resnet18", "here": "tiny"},
        "size": {"paper": "224", "here": "48"},
    }
    raf = make_faces(tmp_path / "raf", [0, 1, 2], dataset="rafdb")
    network = model_settings({"name": "lnlattennet", "patches": 9}).as_dict()
    named = paper_results.setup_of(make_run(raf, "lnl-1", variant="lnlattennet", **network), raf, "test")
    assert named.departs == {"patches": (16, 9)}
    assert compare(named).reported.when == {"patches": 9}, "a table has a row for it"


def test_what_a_network_stands_on_and_its_regions_are_compared_too(tmp_path):
    raf = make_faces(tmp_path / "raf", [0, 1, 2], dataset="rafdb")
    part = model_settings({"name": "rasnet", "channels": 8}).as_dict()
    man = make_run(raf, "man-1", variant="man", **model_settings({"name": "man"}).as_dict() | {"part": part})
    assert paper_results.setup_of(man, raf, "test").departs == {"part.channels": (64, 8)}
    ran = make_run(raf, "ran-1")
    ran.info["prepared"] = {"regions": CropRegions(mode="random", random_n=9).as_dict()}
    assert paper_results.setup_of(ran, raf, "test").departs["crop-regions.mode"] == ("fixed", "random")


def test_fusion_of_one_network_per_region_is_the_papers_score_fusion(tmp_path):
    faces = make_faces(tmp_path / "ferplus", [0, 1, 2])
    setups = [
        paper_results.setup_of(make_run(faces, f"region-{i}-1", variant=f"region-{i}", region=i), faces, "test")
        for i in range(6)
    ]
    assert compare(paper_results.fused(setups), "pose45").reported.value == 78.45
    assert compare(paper_results.fused(setups[:3]), "pose45").reported is None
    assert paper_results.fused([*setups, None]) is None


def test_fusion_of_equal_runs_is_not_the_single_run(tmp_path):
    faces = make_faces(tmp_path / "ferplus", [0, 1, 2])
    setups = [paper_results.setup_of(make_run(faces, f"ran-{i}"), faces, "test") for i in (1, 2)]
    assert compare(setups[0]).reported.value == 88.55
    assert compare(paper_results.fused(setups)).reported is None


def test_fusion_of_two_backbones_on_sfew():
    pair = [Setup("ran", "sfew", "ran", {"backbone": b}) for b in ("vgg16", "resnet18")]
    assert compare(pair[1]).reported.value == 54.19
    assert compare(paper_results.fused(pair)).reported.value == 56.4


def test_beside_puts_value_and_difference_into_a_result():
    result = {
        "subsets": {"all": {"accuracy": 90.0}, "pose45": {"accuracy": None}, "occlusion-upper": {"accuracy": 1.0}}
    }
    assert paper_results.beside(result, None) is result
    subsets = paper_results.beside(result, Setup("ran", "ferplus", "ran", ALIGNED))["subsets"]
    assert subsets["all"]["paper"]["value"] == 88.55
    assert subsets["all"]["paper"]["difference"] == pytest.approx(1.45)
    assert subsets["pose45"]["paper"]["value"] == 80.40
    assert subsets["pose45"]["paper"]["difference"] is None
    assert subsets["occlusion-upper"]["paper"] is None
