"""Where networks look: weights of regions, maps over faces, how they moved in training, and the crops themselves."""

from collections.abc import Sequence

import numpy as np

from fertool.artefact import Artefact
from fertool.errors import DataError, UsageError, nearest
from fertool.evaluation.metrics import softmax
from fertool.evaluation.score import membership
from fertool.faces.status import HAS_IMAGE
from fertool.figures import Drawn, attention, figure, preview, regions
from fertool.models.base import FerModel
from fertool.models.registry import network_of
from fertool.settings import Visualize
from fertool.stages.visualize.inputs import Run, choose, inside, only, subsets_of
from fertool.training.transforms import cut_boxes


@figure("regions", "weights of the regions of single faces, of one or two runs: µν / Σµν or softmax(µν)")
def draw_regions(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw RAN's Fig. 6."""
    if len(runs) > 2:
        raise UsageError("regions shows at most two runs side by side", "name one or two runs")
    faces = runs[0].faces()
    predictions = [r.predictions(r.faces()) for r in runs]
    boxes = [r.regions(r.faces()) for r in runs]
    for r, p, b in zip(runs, predictions, boxes, strict=True):
        if not _shown_weights(r, p):
            raise UsageError(
                f"{r.name} has no attention: its network does not weigh regions",
                "name a run whose network does; fertool train ran makes one",
            )
        p.require_parent(b)
    place = [{name: i for i, name in enumerate(p.ids)} for p in predictions]
    shared = [name for name in predictions[0].ids if all(name in p for p in place)]
    if not shared:
        raise UsageError(f"{' and '.join(r.name for r in runs)} have no face in common", "name runs on the same faces")
    ids = settings.ids or choose(predictions[0], faces, shared, settings, subset)
    unknown = [i for i in ids if any(i not in p for p in place)]
    if unknown:
        raise UsageError(f"there is no prediction for a face {unknown[0]!r}", nearest(unknown[0], shared))
    at = [np.array([p[i] for i in ids]) for p in place]
    first = predictions[0]
    rows = np.asarray(first["row"])[at[0]]
    images = np.asarray(faces["images"])[rows]
    true = [first.class_names[k] if k >= 0 else "" for k in np.asarray(first["label"])[at[0]]]
    panels, arrays = [], {"id": np.array(ids, object), "images": images, "label": np.array(true, object)}
    for r, p, b, i in zip(runs, predictions, boxes, at, strict=True):
        said = [p.class_names[k] for k in np.asarray(p["logits"])[i].argmax(1)]
        weights, measure = _region_weights(r, p, i, settings)
        mine = np.asarray(b["boxes"])[np.asarray(p["row"])[i]]
        panels.append(regions.Panel(r.name, mine, weights, said, measure, b.params["regions"]))
        arrays |= {f"{r.name}/weight": weights, f"{r.name}/boxes": mine, f"{r.name}/predicted": np.array(said, object)}
    return Drawn(regions.draw(images, true, panels), arrays, [faces, *predictions, *boxes])


def _shown_weights(run: Run, predictions: Artefact) -> str:
    """Return which attention of a run weighs its regions, "" for none."""
    mine = (n for n in network_of(run.run()).region_weights if f"attention_{n}" in predictions)
    return next(mine, "")


def _region_weights(run: Run, predictions: Artefact, at: np.ndarray, settings: Visualize) -> tuple[np.ndarray, str]:
    """Return the weights of the regions of some faces, (N, K), and what they are.

    They are the share of each region in the fused vector (RAN's µν / Σµν, Eq. 5), or the softmax of the product of the
    factors, as RAN's paper draws them.
    """
    network = network_of(run.run())
    factors = {n: symbol for n, symbol in network.region_factors.items() if f"attention_{n}" in predictions}
    product = "".join(factors.values())
    if settings.region_weights == "share":
        name = _shown_weights(run, predictions)
        words = f"{product} / Σ{product}" if product else network.region_weights[name]
        return np.asarray(predictions[f"attention_{name}"])[at], words
    if not factors:
        raise UsageError(
            f"{run.name} kept no {' and '.join(network.region_factors.values()) or 'factors of its weights'}, of which "
            "the softmax would be",
            "leave out --region-weights softmax",
        )
    weights = np.prod([np.asarray(predictions[f"attention_{n}"])[at] for n in factors], axis=0)
    return softmax(weights), f"softmax({product})"


@figure("attention", "attention as maps over single faces")
def draw_attention(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw WS-LGRN's Fig. 7 and the like: attention maps over faces."""
    one = only(runs, "attention")
    faces, trained = one.faces(), one.run()
    predictions = one.predictions(faces)
    found = {k.removeprefix("attention_"): predictions[k] for k in predictions.columns if k.startswith("attention_")}
    place = {name: i for i, name in enumerate(predictions.ids)}
    if settings.by in ("subject", "pose"):
        raise UsageError(f"attention is not ordered by {settings.by}", "--by class, or leave it out")
    grouped = settings.by == "class"
    ids: Sequence[str]
    if grouped and not settings.ids:
        ids = _some_of_each(predictions, inside(predictions, faces, subset), max(1, settings.faces // 3), settings.seed)
    else:
        ids = settings.ids or choose(predictions, faces, list(place), settings, subset)
    if unknown := [i for i in ids if i not in place]:
        raise UsageError(f"there is no prediction for a face {unknown[0]!r}", nearest(unknown[0], place))
    at = np.array([place[i] for i in ids])
    network = network_of(trained)
    shown = network.attention_maps({k: np.asarray(v)[at] for k, v in found.items()})
    if not shown:
        raise UsageError(
            f"{one.name} has no attention that is a map over the face",
            "its weights are of regions: fertool visualize regions" if network.region_weights else "name another run",
        )
    images = np.asarray(faces["images"])[np.asarray(predictions["row"])[at]]
    label = np.asarray(predictions["label"])[at]
    true = [predictions.class_names[k] if k >= 0 else "" for k in label]
    said = [predictions.class_names[k] for k in np.asarray(predictions["logits"])[at].argmax(1)]
    view = view_of(network, faces)
    if grouped:
        figure = attention.draw_groups(images, true, shown, view)
    else:
        figure = attention.draw(images, true, said, shown, view)
    arrays = {"id": np.array(ids, object), "images": images, "label": np.array(true, object)}
    return Drawn(figure, arrays | {"predicted": np.array(said, object), **shown}, [faces, trained, predictions])


def _some_of_each(predictions: Artefact, among: np.ndarray, n: int, seed: int) -> list[str]:
    """Return up to n faces of every class at random, recognised ones first."""
    label = np.asarray(predictions["label"])
    wrong = np.asarray(predictions["logits"]).argmax(1) != label
    shuffled = np.random.default_rng(seed).permutation(len(label))
    best = shuffled[np.argsort(wrong[shuffled], kind="stable")]
    ids = [
        predictions.ids[i]
        for k in range(len(predictions.class_names))
        for i in best[(label[best] == k) & among[best]][:n]
    ]
    if not ids:
        raise DataError("no labelled face to show", "name faces with --id")
    return ids


def view_of(network: FerModel, faces: Artefact) -> list[float]:
    """Return the part of a stored face that the network's maps cover, as fractions of its sides.

    It is the network's input, cut to whole multiples of the maps' stride.
    """
    spec, stride = network.input, network.map_stride
    x0, y0, x1, y1 = cut_boxes(1, faces["images"].shape[1:3], spec.size)[0, 0].tolist() if spec.crop else (0, 0, 1, 1)
    down, across = (side // stride * stride / side for side in spec.size)
    return [x0, y0, x0 + (x1 - x0) * across, y0 + (y1 - y0) * down]


@figure("trace", "how the attention of tracked faces moved in training")
def draw_trace(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw LNLAttenNet's Fig. 11 and 12."""
    one = only(runs, "trace")
    if subset:
        raise UsageError("a trace is of the faces that were tracked in training", "leave out --subset")
    trained = one.run()
    trace = trained.group("trace")
    curves_of = {k: np.array(v) for k, v in trace.items() if k != "iteration" and v.ndim == 3}
    if not curves_of:
        raise UsageError(
            f"{one.name} has kept no weights of tracked faces", "train with --set train.track=[ID] for two or three"
        )
    name = next(iter(curves_of))
    ids, iterations = trained.params["train"]["track"], np.array(trace["iteration"])
    if strange := sorted(set(settings.iterations) - set(iterations.tolist())):
        raise UsageError(
            f"{one.name} kept no weights at iteration {strange[0]}",
            f"it kept every {trained.params['train']['track_every']}th, from {iterations[0]} to {iterations[-1]}",
        )
    figure = attention.draw_trace(iterations, curves_of[name], ids, name, settings.iterations)
    return Drawn(figure, {"id": np.array(ids, object), "iteration": iterations, **curves_of}, [trained])


@figure("crops", "the regions that crop-regions cut", of_faces=True)
def draw_crops(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Return the regions of a few faces, as boxes and as the network sees them."""
    one = only(runs, "crops")
    faces = one.faces()
    boxes = one.regions(faces)
    has_image = np.isin(np.asarray(faces["status"]), HAS_IMAGE)
    if settings.ids:
        unknown = [i for i in settings.ids if i not in set(faces.ids)]
        if unknown:
            raise UsageError(f"there is no face {unknown[0]!r}", nearest(unknown[0], faces.ids))
        rows = np.array([np.flatnonzero(faces.ids == i)[0] for i in settings.ids])
    else:
        inside = membership(subsets_of(faces), subset) if subset else True
        rows = preview.pick(np.flatnonzero(has_image & inside), settings.faces)
    if not len(rows):
        raise DataError(f"no face with a picture is in {subset or faces.path}")
    images, mine, ids = np.asarray(faces["images"])[rows], np.asarray(boxes["boxes"])[rows], faces.ids[rows].tolist()
    names = boxes.params["regions"]
    figure = preview.crops(images, mine, ids, names)
    arrays = {"id": np.array(ids, object), "images": images, "boxes": mine, "regions": np.array(names, object)}
    return Drawn(figure, arrays, [faces, boxes])
