"""The numbers behind the papers' figures: means, soft boxes, windows, covered parts, printed matrices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from paper_runs import Workbench

from fertool.evaluation import paper_results
from fertool.evaluation.cells import cells
from fertool.evaluation.comparison import beside_matrix, in_words
from fertool.faces.illumination import normalise
from fertool.faces.windows import normalise_windows
from fertool.figures import attention, confusion, gradcam, group, mean_attention, region_weights, style
from fertool.figures.sheet import enlarge, heated
from fertool.models.va_cnn import VaCnn, VaCnnSettings
from fertool.regions.soft_boxes import on_boxes, soft_boxes
from fertool.stages.visualize.group import attend
from fertool.stages.visualize.region_weights import cover

BOX = np.array([[10, 6, 20, 16]])


@pytest.fixture(autouse=True)
def _look():
    with style.look():
        yield


@pytest.fixture
def random():
    return np.random.default_rng(0)


# ------------------------------------------------------------------------------------------------ whole images


def test_soft_boxes_are_one_inside_and_fall_off_as_a_gaussian():
    found = soft_boxes(BOX, 40, 50, scale=1.2, falloff=0.15)
    assert (found[5:18, 9:22] == 1).all(), "the box is widened from 10 to 12 pixels a side"
    assert found[11, 21 + 3] == pytest.approx(np.exp(-(3**2) / (2 * 1.8**2)))
    assert found[17 + 2, 21 + 3] == pytest.approx(np.exp(-(3**2 + 2**2) / (2 * 1.8**2)))
    assert found[39, 49] < 1e-12
    assert not soft_boxes(np.empty((0, 4)), 4, 5).any()
    both = soft_boxes(np.array([BOX[0], [25, 6, 35, 16]]), 40, 50)
    assert np.array_equal(both, np.maximum(soft_boxes(BOX, 40, 50), soft_boxes([[25, 6, 35, 16]], 40, 50)))


def test_attention_on_faces_sums_to_one_again(random):
    spread = group.spread(random.random((5, 7)), 40, 50)
    found = on_boxes(spread, soft_boxes(BOX, 40, 50))
    assert spread.sum() == pytest.approx(1)
    assert found.sum() == pytest.approx(1)
    assert found[39].max() < 1e-12
    assert not on_boxes(spread, np.zeros((40, 50))).any()


def test_the_network_on_a_photograph_of_its_own_size_is_the_network(random):
    torch.manual_seed(0)
    net = VaCnn(VaCnnSettings(width=32, height=48), 3).eval()
    grey = random.integers(0, 256, (48, 32), dtype="u1")
    with torch.no_grad():
        view = (torch.from_numpy(grey).float() / 255 - 0.5) / 0.25
        fixed = net(view[None, None, None]).attention["map"][0].numpy()
    assert np.allclose(attend(net, grey), fixed, atol=1e-6)
    larger = attend(net, np.tile(grey, (3, 5)))
    assert larger.shape == (9, 10)
    assert larger.sum() == pytest.approx(1)


def test_even_light_in_windows(random):
    image = random.integers(0, 256, (30, 50), dtype="u1")
    assert np.array_equal(normalise_windows(image, 7.0, 0.004, (30, 50)), normalise(image, 7.0))
    assert np.array_equal(normalise_windows(image, 7.0, 0.004, (99, 99)), normalise(image, 7.0))
    found = normalise_windows(image, 7.0, 0.004, (30, 20))
    assert np.array_equal(found[:, :10], normalise(image[:, :20], 7.0)[:, :10])
    second = (normalise(image[:, :20], 7.0)[:, 10:].astype(float) + normalise(image[:, 10:30], 7.0)[:, :10]) / 2
    assert np.array_equal(found[:, 10:20], np.rint(second))


# ---------------------------------------------------------------------------------------------------- means, maps


def test_maps_are_enlarged_bilinearly(random):
    values = random.random((2, 4, 3))
    expected = torch.nn.functional.interpolate(torch.from_numpy(values)[None], size=(13, 17), mode="bilinear")[0]
    assert np.allclose(enlarge(values, 13, 17), expected)
    assert np.allclose(enlarge(np.full((1, 1), 3.0), 4, 5), 3)


def test_means_are_projected_to_the_input_and_multiplied(random):
    faces, maps = random.random((2, 8, 6, 1)) * 255, random.random((2, 4, 3))
    means = mean_attention.Means("run", faces, {"map": maps}, np.array([3, 4]))
    assert means.projected("map").max(axis=(1, 2)).tolist() == [1, 1]
    big = enlarge(maps, 8, 6)
    assert np.allclose(means.product("map"), faces * (big / big.max(axis=(1, 2), keepdims=True))[..., None])


def test_mean_attention_names_units_and_counts(random):
    faces, maps = random.random((3, 8, 6, 1)) * 255, random.random((3, 4, 3))
    panel = mean_attention.Means("va-cnn-1", faces, {"map": maps}, np.array([1, 4321, 0]))
    units = paper_results.load("va-cnn").facts["table4_regions_of_emotions"]
    figure = mean_attention.draw([panel], ["fear", "anger", "neutral"], units)
    said = [t.get_text() for t in figure.texts]
    assert {"1 face", "4,321 faces", "no faces"} <= set(said)
    assert any("AU 4+5" in words for words in said)
    assert sum("AU" in words for words in said) == 2, "nobody says anything about neutral faces"
    assert len([ax for ax in figure.axes if ax.images]) == 6


def test_what_is_cold_shows_the_face_as_it_is(random):
    image, values = random.integers(0, 256, (5, 5, 3), dtype="u1"), np.zeros((5, 5))
    values[2, 2] = 4
    shown = heated(image, values)
    grey = image.mean(axis=2, keepdims=True) / 255
    assert np.allclose(shown[0], grey[0])
    assert np.allclose(heated(image, np.zeros((5, 5))), grey)
    assert abs(shown[2, 2] - grey[2, 2]).max() > 0.1


def test_a_gradient_is_grey_where_it_is_nothing():
    gradient = np.array([[[0.0], [2.0]], [[-2.0], [1.0]]])
    assert gradcam.relief(gradient)[..., 0].tolist() == [[128, 255], [0, 191]]
    assert (gradcam.relief(np.zeros((2, 2, 1))) == 128).all()


# --------------------------------------------------------------------------------------------------- weights, words


def test_grids_are_darker_where_weights_are_larger(random):
    values = random.permutation(16) / 16
    figure = region_weights.draw_grids(np.zeros((1, 8, 8, 1), "u1"), ["fear"], {"global weight": values[None]})
    drawn = figure.axes[1].images[0].get_array()[..., :3].mean(axis=2).ravel()
    assert np.argsort(-drawn).tolist() == np.argsort(values).tolist()
    numbers = [t.get_text() for t in figure.axes[1].texts]
    assert numbers[0::2] == [str(i) for i in range(1, 17)]
    assert region_weights.shape(16) == (4, 4)
    assert region_weights.shape(8) == (4, 2)


def test_a_covered_part_is_black_and_framed(random):
    images = random.integers(1, 256, (2, 8, 8, 1), dtype="u1")
    boxes = np.array([[0, 0, 0.5, 0.25], [0, 0, 0, 0]])
    covered = cover(images, boxes)
    assert not covered[0, :2, :4].any()
    assert np.array_equal(covered[0, 2:], images[0, 2:])
    assert np.array_equal(covered[1], images[1]), "a part that is nowhere"
    shown = region_weights.draw_occlusion_sensitivity(
        images, ["fear", ""], covered[:, None], random.random((2, 2, 4)), [2], "local"
    )
    assert [len(ax.patches) for ax in shown.axes] == [0, 0, 0, 1] * 2
    assert "without 3" in [t.get_text() for t in shown.texts]


def test_traces_show_the_weights_at_iterations(random):
    iterations, values = np.arange(0, 1001, 50), random.random((21, 1, 16))
    figure = attention.draw_trace(iterations, values, ["a"], "global", at=(0, 250, 1000))
    grids = [ax for ax in figure.subfigs[0].subfigs[1].axes if ax.images]
    assert [ax.get_title() for ax in grids] == ["start", "iteration 250", "iteration 1,000"]
    drawn = grids[1].images[0].get_array()[..., :3].mean(axis=2).ravel()
    assert np.argsort(-drawn, kind="stable").tolist() == np.argsort(values[5, 0]).tolist()


def test_attention_by_class_has_a_box_for_every_expression(random):
    images, maps = random.integers(0, 256, (5, 8, 8, 1), dtype="u1"), {"eyes": random.random((5, 2, 2))}
    figure = attention.draw_groups(images, ["fear", "fear", "anger", "", "anger"], maps, [0, 0, 1, 1])
    assert len(figure.artists) == 2
    assert len([ax for ax in figure.axes if ax.images]) == 8
    assert {"fear", "anger"} <= {t.get_text() for t in figure.texts}


# ------------------------------------------------------------------------------------------------ printed matrices


def test_the_papers_matrices_that_belong_to_a_run():
    def made(paper, value):
        (found,) = [c for c in cells(paper) if c.row.value == value]
        return Workbench(found.row).carry_out(found.commands)

    fold = replace(made("va-cnn", 93.1), fold=0)
    found = beside_matrix(fold)
    assert list(found) == ["Table 6, pose-attention"]
    classes, matrix, differing = found["Table 6, pose-attention"]
    assert not differing
    assert np.isnan(matrix[classes.index("surprise")]).all()
    assert matrix[classes.index("happiness"), classes.index("happiness")] == 1
    assert not beside_matrix(replace(fold, fold=1)), "it is of the first fold"
    assert list(beside_matrix(made("man", 85.69))) == ["Table 4, rafdb"]
    man = made("man", 85.69)
    (network,) = man.networks
    short = {**network, "train": {**network["train"], "iterations": 100}}
    _, _, differing = beside_matrix(replace(man, networks=(short,)))["Table 4, rafdb"]
    assert in_words(differing) == "training 100 iterations instead of 20,000 iterations"
    _, _, differing = beside_matrix(man, n_total=500)["Table 4, rafdb"]
    assert in_words(differing) == "test faces 500 instead of 3,068"
    assert not beside_matrix(replace(man, dataset="ferplus"))


def test_rows_that_a_paper_does_not_print_are_grey():
    matrix = np.array([[0.25, 0.75], [np.nan, np.nan]])
    (ax,) = confusion.draw([matrix], ["paper"], ["fear", "anger"], counts=True).axes
    assert [t.get_text() for t in ax.texts] == ["25.0", "75.0"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["fear", "anger (not known)"]
    assert np.isnan(np.ma.filled(ax.images[0].get_array(), np.nan)[1]).all()
