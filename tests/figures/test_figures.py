import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from small_runs import BOXES, CLASSES, make_faces, make_predictions, make_regions, make_run, make_subsets

from fertool import artefact
from fertool.errors import ArtefactError, DataError, UsageError
from fertool.figures import (
    confusion,
    curves,
    gradcam,
    preprocessing,
    preview,
    region_weights,
    regions,
    robustness,
    style,
    sweep,
)
from fertool.settings import Visualize
from fertool.stages import visualize
from fertool.stages.visualize import attention
from fertool.stages.visualize.inputs import named

QUICK = Visualize(dpi=60, faces=3)
LABELS = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, -1, 2]


@pytest.fixture(autouse=True)
def _look():
    with style.look():
        yield


def _weights(n, k=6, seed=0):
    w = np.random.default_rng(seed).random((n, k)) + 0.1
    return w / w.sum(1, keepdims=True)


# ------------------------------------------------------------------------------------------------ single figures


def _panel_axes(figure):
    return [ax for ax in figure.axes if ax.images]


def test_regions_frame_the_highest_red_and_the_lowest_blue():
    weights = np.array([[0.1, 0.2, 0.05, 0.3, 0.15, 0.2]])
    panel = regions.Panel("run", BOXES[None], weights, ["fear"])
    axes = _panel_axes(regions.draw(np.zeros((1, 16, 16, 1), "u1"), ["fear"], [panel]))
    assert [ax.get_title() for ax in axes] == ["0.10", "0.20", "0.05", "0.30", "0.15", "0.20"]
    frames = [ax.spines["left"].get_edgecolor() if ax.spines["left"].get_visible() else None for ax in axes]
    r, g, b, _ = frames[3]
    assert r > 2 * max(g, b)
    r, g, b, _ = frames[2]
    assert b > 2 * max(r, g)
    assert [i for i, f in enumerate(frames) if f] == [2, 3]


def test_regions_show_the_pixels_of_their_boxes():
    image = np.arange(256, dtype="u1").reshape(1, 16, 16, 1)
    panel = regions.Panel("run", BOXES[None], _weights(1), ["fear"])
    axes = _panel_axes(regions.draw(image, ["fear"], [panel]))
    shown = [np.asarray(ax.images[0].get_array()) for ax in axes]
    assert np.array_equal(shown[0], image[0, :, :, 0])
    assert np.array_equal(shown[1], image[0, :12, :12, 0])
    assert np.array_equal(shown[2], image[0, :12, 4:, 0])
    assert np.array_equal(shown[3], image[0, 4:, 2:14, 0])


def test_regions_say_true_and_predicted_class_at_the_left():
    images, weights = np.zeros((3, 16, 16, 3), "u1"), _weights(3)
    boxes = np.repeat(BOXES[None], 3, 0)
    a = regions.Panel("with", boxes, weights, ["fear", "anger", "fear"])
    b = regions.Panel("without", boxes, weights, ["anger", "anger", "fear"])
    said = [t.get_text() for t in regions.draw(images, ["fear", "fear", ""], [a, b]).texts]
    assert said[:7] == ["with", "fear", "recognised", "fear", "as anger", "no label", "as fear"]
    assert said[7:10] == ["without", "fear", "as anger"]


def test_of_many_regions_the_whole_the_heaviest_and_the_lightest_are_shown():
    weights = np.arange(31, dtype=float)
    assert regions.choose(weights).tolist() == [0, 30, 29, 28, 27, 3, 2, 1]
    assert regions.choose(weights[:8]).tolist() == list(range(8))


@pytest.mark.parametrize("k", [6, 31])
def test_labels_of_regions_do_not_overlap(k):
    boxes = np.repeat(np.resize(BOXES, (k, 4))[None], 2, 0)
    panels = [regions.Panel("a-run-with-a-name", boxes, _weights(2, k), ["contempt"] * 2) for _ in range(2)]
    figure = regions.draw(np.zeros((2, 16, 16, 1), "u1"), ["sadly disgusted and appalled", "fear"], panels)
    figure.canvas.draw()
    texts = figure.texts + [ax.title for ax in figure.axes] + [t for ax in figure.axes for t in ax.texts]
    _assert_apart([t for t in texts if t.get_text()])


def _assert_apart(texts):
    extents = [(t.get_text(), t.get_window_extent()) for t in texts]
    for i, (a, box) in enumerate(extents):
        for b, other in extents[i + 1 :]:
            overlap = min(box.x1, other.x1) - max(box.x0, other.x0), min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap) <= 0.5, f"{a!r} and {b!r} overlap"


def _contrast(text, ground) -> float:
    """WCAG 2.2's contrast ratio of two colours."""
    rgb = np.array([to_rgb(text), ground[:3]])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)


def test_numbers_can_be_read_on_every_shade():
    """WCAG asks for 4.5; white on mid-blue had 2.6."""
    n = 21
    matrix = np.diag(np.linspace(0.01, 1, n))
    (ax,) = confusion.draw([matrix], ["shares"], [f"class {i}" for i in range(n)]).axes
    (shades,) = ax.images
    for text in ax.texts:
        x, y = map(int, text.get_position())
        assert _contrast(text.get_color(), shades.to_rgba(matrix[y, x])) >= 4.5, matrix[y, x]
    ax = Figure().subplots()
    region_weights.grid(ax, np.linspace(0, 1, 16), 0, 1)
    colours = ax.images[0].get_array()
    for text in ax.texts:
        x, y = (round(v) for v in text.get_position())
        assert _contrast(text.get_color(), colours[y, x]) >= 4.5
        assert text.get_alpha() in (None, 1)


def test_confusion_gives_percent_of_the_row_or_counts():
    matrix = np.array([[3, 1], [0, 0]])
    (ax,) = confusion.draw([matrix], ["run"], ["fear", "anger"]).axes
    assert [t.get_text() for t in ax.texts] == ["75.0", "25.0"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["fear (4)", "anger (0)"]
    (ax,) = confusion.draw([matrix], ["run"], ["fear", "anger"], counts=True).axes
    assert [t.get_text() for t in ax.texts] == ["3", "1"]
    assert np.ma.getmaskarray(np.ma.masked_invalid(ax.images[0].get_array())).tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_numbers_of_confusions_fit_their_cells(n):
    matrix = np.full((8, 8), 1234)
    figure = confusion.draw([matrix] * n, ["run"] * n, CLASSES, counts=True)
    figure.canvas.draw()
    used = [ax for ax in figure.axes if ax.images]
    assert len(used) == n
    for ax in used:
        _assert_apart(ax.texts)
        cell = ax.get_window_extent().width / 8
        assert max(t.get_window_extent().width for t in ax.texts) < cell


def _history(epochs, **over):
    t = np.arange(1, epochs + 1, dtype=float)
    return {"lr": 0.1**t, "loss": 1 / t, "train_accuracy": t / 50, "val_accuracy": t / 60} | over


def test_curves_of_one_run_show_terms_and_drops_of_the_rate():
    lr = np.array([0.1, 0.1, 0.01, 0.01])
    terms = {"loss_ce": np.ones(4), "loss_rank": np.zeros(4), "val_loss": 2 * np.ones(4), "val_loss_ce": np.ones(4)}
    loss, accuracy = curves.draw({"run": _history(4, **terms, lr=lr)}).axes
    names = [t.get_text() for t in loss.get_legend().get_texts()]
    assert names == ["training", "training, ce", "training, rank", "validation"]
    assert [x for line in accuracy.lines if (x := line.get_xdata())[0] == x[-1]][0] == [2.5, 2.5]
    assert accuracy.lines[1].get_ydata().tolist() == pytest.approx([100 / 60, 200 / 60, 5, 400 / 60])


def test_curves_of_several_runs_show_both_losses():
    runs = {"with": _history(3, val_loss=np.array([3.0, 2, 1])), "without": _history(3)}
    loss = curves.draw(runs).axes[0]
    thick = [line.get_ydata().tolist() for line in loss.lines if line.get_label() == "with"]
    assert thick == [[3, 2, 1]]
    assert any(np.allclose(line.get_ydata(), [1, 1 / 2, 1 / 3]) for line in loss.lines)


def test_curves_without_validation_and_of_one_epoch():
    loss, accuracy = curves.draw({"run": _history(1, val_accuracy=np.array([np.nan]))}).axes
    assert [t.get_text() for t in accuracy.get_legend().get_texts()] == ["training"]
    assert loss.lines[0].get_marker() == "."


def test_many_runs_are_told_apart():
    figure = curves.draw({f"run-{i}": _history(5) for i in range(12)})
    named = [line for line in figure.axes[0].lines if not line.get_label().startswith("_")]
    assert len({(line.get_color(), line.get_linestyle()) for line in named}) == 12
    assert len(figure.legends[0].get_texts()) == 12


def test_curves_of_several_runs_mark_each_runs_drops_in_its_colour():
    rate = np.array([0.1, 0.1, 0.01, 0.01, 0.01])
    slow = 0.1 * 0.95 ** np.arange(5)  # a cosine: no drop to mark
    figure = curves.draw({"a": _history(5, lr=rate), "b": _history(5, lr=slow), "c": _history(5, lr=rate[::-1])})
    for ax in figure.axes:
        dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
        assert [(line.get_xdata()[0], line.get_color()) for line in dotted] == [(2.5, style.COLOURS[0])]


# ------------------------------------------------------------------------------------------------ frames and axes


def test_crops_are_framed_on_all_four_sides():
    figure = preview.crops(np.zeros((1, 16, 16, 3), "u1"), BOXES[None], ["a"], list("012345"))
    for ax in figure.axes[1:]:
        assert all(spine.get_visible() for spine in ax.spines.values())


def test_a_box_that_reaches_beyond_its_image_stays_in_its_cell():
    image, none = np.zeros((20, 20, 3), "u1"), np.empty((0, 2))
    prepared = preprocessing.Prepared("a", image, np.array([-6.0, 2, 15, 27]), none, image, None)
    ax = preprocessing.steps([prepared]).axes[1]
    assert min(ax.get_xlim()) < -6
    assert max(ax.get_ylim()) > 27


def test_robustness_and_sweep_begin_at_zero_and_sweep_shows_chance():
    at = np.array([5.0, 20.0])
    curve = robustness.Curve(at, np.array([0.8, 0.7]), np.array([0.7, 0.6]), np.array([0.9, 0.8]), np.array([40, 20]))
    ax = robustness.draw([robustness.Panel("yaw", "degrees", {"a": curve, "b": curve})]).axes[0]
    assert ax.get_ylim()[0] == 0
    assert {"faces", "40", "20"} <= {t.get_text() for t in ax.texts}
    places = [container.lines[0].get_xdata()[0] for container in ax.containers]
    assert places[0] < 5 < places[1], "bars of two runs lie beside one another"
    point = {"accuracy": 0.8, "low": 0.7, "high": 0.9, "paper": None}
    ax = sweep.draw({"whole split": [(1, point), (2, point)]}, "train.x", chance=0.25).axes[0]
    assert ax.get_ylim()[0] == 0
    assert [line.get_ydata()[0] for line in ax.lines if line.get_label() == "chance"] == [25]


def test_regions_are_headed_by_their_names_and_colours_explained():
    names = ("face", "top-left", "top-right", "centre-down", "centre-90", "centre-85")
    panel = regions.Panel("run", BOXES[None], _weights(1), ["fear"], names=names)
    figure = regions.draw(np.zeros((1, 16, 16, 1), "u1"), ["fear"], [panel])
    figure.canvas.draw()
    heads = [t.get_text().replace("\n", "") for ax in figure.axes for t in ax.texts]
    assert heads == list(names)
    assert [t.get_text().strip() for t in figure.texts[-2:]] == ["highest weight", "lowest weight"]
    _assert_apart([t for ax in figure.axes for t in (*ax.texts, ax.title)] + figure.texts)


def test_gradcam_names_its_layer_and_has_a_scale_below_each_column():
    image = np.zeros((1, 16, 16, 3), "u1")
    panel = gradcam.Panel("run", image, ["fear"], np.ones((1, 16, 16)), np.ones((1, 16, 16, 3)), "layer4")
    texts = [t.get_text() for t in gradcam.draw(["fear"], [panel]).texts]
    assert "layer layer4" in texts
    assert {"0", "each map's highest", "against", "for the class"} <= set(texts)


def test_long_names_are_cut_in_the_middle():
    assert style.shorten("contempt") == "contempt"
    assert style.shorten("sadly disgusted and appalled", 15) == "sadly disg…lled"


# ----------------------------------------------------------------------------------------------------- the stage


@pytest.fixture
def faces(tmp_path):
    return make_faces(tmp_path / "ferplus", LABELS)


def _run(faces, name, predicted=None, attention=True, gates=None):
    boxes = make_regions(faces) if attention else None
    run = make_run(faces, name, parents=[boxes.as_parent()] if attention else [])
    predicted = (
        np.where(np.arange(faces.rows) % 4 == 3, 0, np.maximum(faces["label"], 0)) if predicted is None else predicted
    )
    weights = {"weight": _weights(faces.rows), **(gates or {})} if attention else None
    make_predictions(run, faces, predicted, attention=weights, parents=[boxes.as_parent()] if attention else [])
    return run.path.parent


def _size(path):
    with Image.open(path) as image:
        image.load()
        return image.size


def test_regions_of_two_runs(faces):
    make_subsets(faces, pose45=np.arange(12) > 3)
    runs = [_run(faces, "ran-1"), _run(faces, "ran-relation-1", np.zeros(12, int))]
    png, h5 = visualize.run("regions", runs, settings=QUICK, subset="pose45")
    assert png == runs[0] / "figures" / "regions-pose45-ran-1-ran-relation-1.png"
    assert _size(png)[0] > 350
    kept = artefact.read(h5, "figures").group(png.stem)
    assert kept["ran-1/weight"].shape == (3, 6)
    assert kept["images"].shape == (3, 16, 16, 1)
    place = [list(faces.ids).index(i) for i in kept["id"]]
    assert min(place) > 3
    assert kept["label"].tolist() == [CLASSES[LABELS[i]] for i in place]
    assert np.allclose(kept["ran-1/weight"], _weights(12)[place])
    right = kept["label"] == kept["ran-1/predicted"]
    assert right.tolist() == [True, True, False]  # the last face is one the run got wrong
    assert set(kept["ran-relation-1/predicted"]) == {"neutral"}


def test_the_seed_chooses_and_ids_override(faces):
    run = _run(faces, "ran-1")

    def shown(**settings):
        _, h5 = visualize.run("regions", [run], settings=Visualize(dpi=50, faces=3, **settings))
        return artefact.read(h5)["regions/id"].tolist()

    assert shown() == shown()
    assert shown() != shown(seed=1)
    assert shown(ids=("face010.png", "face001.png")) == ["face010.png", "face001.png"]  # face 10 has no label
    with pytest.raises(UsageError, match="face999") as e:
        shown(ids=("face999.png",))
    assert "face" in e.value.hint


@pytest.mark.parametrize(("names", "product"), [(("mu", "nu"), "µν"), (("mu",), "µ")])
def test_regions_show_shares_or_the_papers_softmax(faces, names, product):
    gates = {name: _weights(faces.rows, seed=i) for i, name in enumerate(names, 1)}
    run = _run(faces, "ran-1", gates=gates)

    def shown(kind):
        drawn = attention.draw_regions(named([run]), Visualize(region_weights=kind, faces=3), None)
        return drawn.arrays["ran-1/weight"], drawn.figure.texts[0].get_text(), drawn.arrays["id"]

    share, title, ids = shown("share")
    at = [list(faces.ids).index(i) for i in ids]
    assert title == f"ran-1: {product} / Σ{product}"
    assert np.allclose(share, _weights(faces.rows)[at])
    soft, title, _ = shown("softmax")
    assert title == f"ran-1: softmax({product})"
    both = np.exp(np.prod([g[at] for g in gates.values()], axis=0))
    assert np.allclose(soft, both / both.sum(1, keepdims=True))


def test_both_weights_of_regions_are_kept_beside_one_another(faces):
    run = _run(faces, "ran-1", gates={name: _weights(faces.rows, seed=i) for i, name in enumerate(("mu", "nu"), 1)})
    for kind in ("share", "softmax"):
        visualize.run("regions", [run], settings=Visualize(region_weights=kind, faces=3))
    assert {p.name for p in (run / "figures").iterdir()} == {"regions.png", "regions-softmax.png", "figures.h5"}
    assert artefact.read(run / "figures/figures.h5").params["figures"].keys() == {"regions", "regions-softmax"}


def test_the_softmax_needs_both_gates(faces):
    with pytest.raises(UsageError, match="ran-1 kept no µ and ν"):
        visualize.run("regions", [_run(faces, "ran-1")], settings=Visualize(region_weights="softmax"))


def test_a_run_without_attention_is_refused(faces):
    run = _run(faces, "baseline-1", attention=False)
    make_regions(faces)
    with pytest.raises(UsageError, match="baseline-1 has no attention"):
        visualize.run("regions", [run], settings=QUICK)


def test_confusion_of_a_subset_beside_another_run(faces):
    make_subsets(faces, occlusion=np.arange(12) < 4, pose45=np.zeros(12))
    runs = [_run(faces, "ran-1"), _run(faces, "baseline-1", np.zeros(12, int), attention=False)]
    png, h5 = visualize.run("confusion", runs, settings=QUICK, subset="occlusion")
    width, height = _size(png)
    assert width > 1.5 * height
    kept = artefact.read(h5).group(png.stem)
    assert np.trace(kept["ran-1/counts"]) == 3
    assert kept["ran-1/counts"].sum() == 4
    assert kept["baseline-1/counts"][:, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert kept["classes"].tolist() == list(CLASSES)
    with pytest.raises(DataError, match="no labelled face of pose45"):
        visualize.run("confusion", runs, settings=QUICK, subset="pose45")
    with pytest.raises(UsageError, match="oclusion"):
        visualize.run("confusion", runs, settings=QUICK, subset="oclusion")


def test_arrays_of_all_pictures_are_kept_together(faces):
    run = _run(faces, "ran-1")
    visualize.run("curves", [run], settings=QUICK)
    visualize.run("crops", [run], settings=QUICK)
    _, h5 = visualize.run("curves", [run], settings=QUICK)
    kept = artefact.read(h5, "figures")
    assert set(kept.params["figures"]) == {"curves", "crops"}
    assert kept["curves/ran-1/loss"].tolist() == [2, 1, 2 / 3]
    assert kept["crops/boxes"].shape == (3, 6, 4)
    assert {p.role: p.kind for p in kept.inputs} == {"curves/0": "run", "crops/0": "faces", "crops/1": "regions"}


def test_out_dir_decides_where(faces, tmp_path):
    files = visualize.run("curves", [_run(faces, "ran-1")], settings=QUICK, out_dir=tmp_path / "for the paper")
    assert [f.name for f in files] == ["curves.png", "figures.h5"]
    assert all(f.parent == tmp_path / "for the paper" and f.is_file() for f in files)
    assert visualize.summary(files) == {"figures": [str(f) for f in files]}


def test_what_cannot_be_drawn_is_said(faces):
    run = _run(faces, "ran-1")
    with pytest.raises(UsageError, match="no figure 'confusions'") as e:
        visualize.run("confusions", [run], settings=QUICK)
    assert "'confusion'" in e.value.hint
    with pytest.raises(UsageError, match="at most two"):
        visualize.run("regions", [_run(faces, f"ran-{i}") for i in range(3)], settings=QUICK)
    with pytest.raises(UsageError, match="named twice"):
        visualize.run("curves", [run, run], settings=QUICK)
    with pytest.raises(ArtefactError, match="no subsets"):
        visualize.run("regions", [run], settings=QUICK, subset="pose45")
    with pytest.raises(UsageError, match="not of subsets"):
        visualize.run("curves", [run], settings=QUICK, subset="pose45")
    (run / "predictions.h5").unlink()
    with pytest.raises(ArtefactError, match="ran-1 has no predictions") as e:
        visualize.run("confusion", [run], settings=QUICK)
    assert "fertool eval" in e.value.hint


def test_predictions_older_than_their_run_are_refused(faces):
    run = _run(faces, "ran-1")
    make_run(faces, "ran-1", epochs=4, parents=[make_regions(faces).as_parent()])
    with pytest.raises(ArtefactError, match="another run"):
        visualize.run("confusion", [run], settings=QUICK)


def test_predictions_of_other_regions_are_refused(faces):
    run = _run(faces, "ran-1")
    make_regions(faces, BOXES * 0.5)
    with pytest.raises(ArtefactError, match="another regions"):
        visualize.run("regions", [run], settings=QUICK)
