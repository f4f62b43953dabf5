"""Weights of the parts of a face: grids of them, and what covering a part does."""

from dataclasses import dataclass

import numpy as np

from fertool import console
from fertool.artefact import Artefact
from fertool.errors import UsageError, nearest
from fertool.figures import Drawn, figure
from fertool.figures import region_weights as sheets
from fertool.models.registry import network_of
from fertool.regions.crops import pixel_boxes
from fertool.settings import Visualize
from fertool.stages.evaluate import regions_of
from fertool.stages.visualize.inputs import Run, choose, inside, only
from fertool.stages.visualize.network import Network, open_network

_SPREAD = 6  # parts that are covered one by one in the picture
_STILL = 0.001  # a weight that changes less has stayed
_CHUNK = 16  # faces whose covered versions are looked at together


@figure("grid", "weights of the parts of single faces as grids, of runs side by side")
def draw_grid(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw LNLAttenNet's Fig. 10, and of several runs its Fig. 14."""
    faces = runs[0].faces()
    predictions = [r.predictions(r.faces()) for r in runs]
    names = [_weights_of(r, p, settings) for r, p in zip(runs, predictions, strict=True)]
    place = [{name: i for i, name in enumerate(p.ids)} for p in predictions]
    shared = [name for name in predictions[0].ids if all(name in p for p in place)]
    if not shared:
        raise UsageError(f"{' and '.join(r.name for r in runs)} have no face in common", "name runs on the same faces")
    ids = settings.ids or choose(predictions[0], faces, shared, settings, subset)
    if unknown := [i for i in ids if any(i not in p for p in place)]:
        raise UsageError(f"there is no prediction for a face {unknown[0]!r}", nearest(unknown[0], shared))
    first, at = predictions[0], np.array([place[0][i] for i in ids])
    images = np.asarray(faces["images"][np.asarray(first["row"])[at]])
    true = [first.class_names[k] if k >= 0 else "" for k in np.asarray(first["label"])[at]]
    panels, arrays = {}, {}
    for r, p, mine, name in zip(runs, predictions, place, names, strict=True):
        values = np.asarray(p[f"attention_{name}"])[[mine[i] for i in ids]]
        panels[_title(r, name, len(runs) > 1)] = arrays[f"{r.name}/{name}"] = values
    if len({v.shape[1] for v in panels.values()}) > 1:
        raise UsageError("the runs weigh different numbers of parts", "draw them in separate figures")
    parts = _part_names(runs[0], faces)
    if parts and len(parts) != next(iter(panels.values())).shape[1]:
        parts = None
    arrays |= {"id": np.array(ids, object), "images": images, "label": np.array(true, object)}
    return Drawn(sheets.draw_grids(images, true, panels, parts), arrays, [faces, *predictions])


def _weights_of(run: Run, predictions: Artefact, settings: Visualize, *, own: bool = False) -> str:
    """Return which of a network's weights are meant; without a choice, `own`: the one that judges a part by itself."""
    there = [k.removeprefix("attention_") for k in predictions.columns if k.startswith("attention_")]
    network = network_of(run.run())
    mine = [n for n in network.region_weights if n in there]
    if not mine:
        raise UsageError(
            f"{run.name} weighs no parts of the face",
            "fertool visualize attention shows maps" if there else "name a run of a network that does: ran, for one",
        )
    if own and network.own_weight in mine and not settings.weights:
        return network.own_weight
    if settings.weights and settings.weights not in mine:
        raise UsageError(f"{run.name} has no weights {settings.weights!r} of parts", nearest(settings.weights, mine))
    return settings.weights or mine[0]


def _title(run: Run, name: str, several: bool) -> str:
    alpha = run.run().params["model"].get("alpha")
    if not several:
        return network_of(run.run()).region_weights[name]
    return f"{run.name}, α {alpha:g}" if alpha is not None else run.name


def _part_names(run: Run, faces: Artefact) -> list[str] | None:
    regions = regions_of(run.run(), faces)
    return network_of(run.run()).region_names(regions.params.get("regions", ()) if regions else ())


@dataclass(frozen=True)
class Parts:
    """The parts of some faces that can be covered.

    Attributes:
        boxes: (N, P, 4) fractions of the face.
        index: (P,) which of the network's weights are theirs.
    """

    boxes: np.ndarray
    index: np.ndarray


@figure("occlusion-sensitivity", "what covering a part of a face does to the weights of all its parts")
def draw_occlusion_sensitivity(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw LNLAttenNet's Fig. 13, and how often covering a part lowers its weight over many faces."""
    one = only(runs, "occlusion-sensitivity")
    faces = one.faces()
    predictions = one.predictions(faces)
    name = _weights_of(one, predictions, settings, own=True)
    network = open_network(one, faces)
    place = {n: i for i, n in enumerate(predictions.ids)}
    ids = settings.ids or choose(predictions, faces, list(place), settings, subset)[: max(1, settings.faces // 2)]
    if unknown := [i for i in ids if i not in place]:
        raise UsageError(f"there is no prediction for a face {unknown[0]!r}", nearest(unknown[0], place))
    at = np.array([place[i] for i in ids])
    rows = np.asarray(predictions["row"])[at]
    images = np.asarray(faces["images"][rows])
    parts, uncovered = _parts(network, images, rows, name)
    chosen = _chosen(settings, parts)
    covered = np.stack([cover(images, parts.boxes[:, p]) for p in chosen], axis=1)
    weights = np.stack([uncovered, *(_look(network, v, rows, name) for v in np.moveaxis(covered, 1, 0))], axis=1)
    label = np.asarray(predictions["label"])[at]
    true = [predictions.class_names[k] if k >= 0 else "" for k in label]
    drawn = sheets.draw_occlusion_sensitivity(
        images, true, covered, weights, parts.index[chosen].tolist(), name, _part_names(one, faces)
    )
    checked = np.flatnonzero(inside(predictions, faces, subset))
    checked = np.random.default_rng(settings.seed).permutation(checked)[: settings.statistics_faces]
    before, after, overlaps = _check(network, np.asarray(predictions["row"])[checked], name)
    _tell(name, before, after, overlaps)
    arrays = {"id": np.array(ids, object), "label": np.array(true, object), "images": images, "covered": covered}
    arrays |= {"weights": weights, "patches": parts.index[chosen], "checked/id": predictions.ids[checked]}
    arrays |= {"checked/before": before, "checked/after": after, "checked/overlaps": overlaps}
    return Drawn(drawn, arrays, [faces, one.run(), predictions])


def _chosen(settings: Visualize, parts: Parts) -> np.ndarray:
    """Return the positions in `parts.index` of the parts that the figure covers."""
    if not settings.patches:
        return np.unique(np.linspace(0, len(parts.index) - 1, min(_SPREAD, len(parts.index))).round().astype(int))
    known = {int(i) + 1: p for p, i in enumerate(parts.index)}
    if strange := [p for p in settings.patches if p not in known]:
        raise UsageError(f"there is no part {strange[0]} to occlude", f"they are {min(known)} to {max(known)}")
    return np.array([known[p] for p in settings.patches])


def _parts(network: Network, images: np.ndarray, rows: np.ndarray, name: str) -> tuple[Parts, np.ndarray]:
    """Return the parts of these faces, and the weights (N, M) of all parts, nothing covered."""
    attention = {k: v.numpy() for k, v in network.look(images, rows).attention.items()}
    return Parts(*network.net.region_boxes(attention, network.boxes[rows].numpy())), attention[name]


def cover(images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return faces (N, H, W, C) with the pixels of a box (N, 4) each set to zero."""
    out = np.array(images)
    for image, box in zip(out, boxes, strict=True):
        if box[2] > box[0]:
            x0, y0, x1, y1 = pixel_boxes(box, images.shape[2], images.shape[1])
            image[y0:y1, x0:x1] = 0
    return out


def _look(network: Network, images: np.ndarray, rows: np.ndarray, name: str) -> np.ndarray:
    return network.look(images, rows).attention[name].numpy()


def _check(network: Network, rows: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights (N, M), those with each part covered (N, P, M), and whether part p overlaps m (N, P, M)."""
    before, after, overlaps = [], [], []
    with console.progress("occlude", len(rows), "face") as advance:
        for start in range(0, len(rows), _CHUNK):
            mine = rows[start : start + _CHUNK]
            images = np.asarray(network.faces["images"][mine])
            parts, uncovered = _parts(network, images, mine, name)
            before.append(uncovered)
            several = [_look(network, cover(images, parts.boxes[:, p]), mine, name) for p in range(len(parts.index))]
            after.append(np.stack(several, axis=1))
            touching = np.zeros(after[-1].shape, bool)
            touching[:, :, parts.index] = _overlapping(parts.boxes)
            whole = np.setdiff1d(np.arange(after[-1].shape[2]), parts.index)
            touching[:, :, whole] = True
            overlaps.append(touching)
            advance(len(mine))
    return np.concatenate(before), np.concatenate(after), np.concatenate(overlaps)


def _overlapping(boxes: np.ndarray) -> np.ndarray:
    """Return (N, P, P) which of the boxes (N, P, 4) share pixels."""
    a, b = boxes[:, :, None], boxes[:, None]
    shared = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return (shared > 1e-6).all(axis=-1)


def _tell(name: str, before: np.ndarray, after: np.ndarray, overlaps: np.ndarray) -> None:
    """Print how covering a part changes its own weight, those it overlaps, and the others."""
    change = after - before[:, None]
    offset = before.shape[1] - after.shape[1]  # the whole face comes first and is not covered
    own = np.eye(after.shape[1], after.shape[2], offset, dtype=bool)[None].repeat(len(before), 0)
    falls, moves = (100 * share.mean() for share in (change[own] < -_STILL, np.abs(change[own]) > _STILL))
    groups = {"its own": own, "overlapping ones": overlaps & ~own, "others": ~overlaps & ~own}
    told = ", ".join(f"{words} {change[rows].mean():+.4f}" for words, rows in groups.items() if rows.any())
    console.say(
        f"covering a part lowers its own {name} weight in {falls:.1f} % of {own.sum():,} cases on {len(before)} faces "
        f"(it changes in {moves:.1f} %, by more than {_STILL}); mean change of {told}"
    )
