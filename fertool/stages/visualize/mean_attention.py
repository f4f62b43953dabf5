"""Where networks look on average, for every emotion and, if asked, every pose."""

from itertools import pairwise

import numpy as np

from fertool.artefact import Artefact
from fertool.errors import DataError, UsageError
from fertool.evaluation import paper_results
from fertool.figures import Drawn, figure, mean_attention
from fertool.models.base import FerModel
from fertool.models.registry import network_of
from fertool.settings import Visualize
from fertool.stages.visualize.attention import view_of
from fertool.stages.visualize.inputs import Run, inside

_BATCH = 512


@figure("mean-attention", "mean face, mean attention and their product for every emotion, beside its Action Units")
def draw_mean_attention(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw Sun et al.'s Fig. 5; by pose its Fig. 6. The Action Units of its Table 4 stand above the emotions."""
    if settings.by == "subject":
        raise UsageError("mean-attention is of emotions, or of emotions and poses", "--by class or --by pose")
    panels: list[mean_attention.Means] = []
    arrays: dict[str, np.ndarray] = {}
    parents: list[Artefact] = []
    classes: tuple[str, ...] = ()
    for r in runs:
        faces, trained = r.faces(), r.run()
        predictions = r.predictions(faces)
        if classes and classes != predictions.class_names:
            raise UsageError(f"{r.name} has other classes than {runs[0].name}", "draw them in separate figures")
        classes = predictions.class_names
        among = inside(predictions, faces, subset) & (np.asarray(predictions["label"]) >= 0)
        groups = _views(predictions, faces, settings) if settings.by == "pose" else {"": np.ones(len(among), bool)}
        for title, rows in groups.items():
            if not (rows & among).any():
                continue
            name = " ".join(filter(None, (r.name if len(runs) > 1 or not title else "", title)))
            means = _means(name, predictions, faces, network_of(trained), np.flatnonzero(rows & among), r)
            panels.append(means)
            key = "/".join(filter(None, (r.name, title)))
            arrays |= {f"{key}/faces": means.faces, f"{key}/count": means.count}
            for m in means.maps:
                arrays |= {f"{key}/{m}": means.maps[m], f"{key}/{m}-product": means.product(m)}
        parents += [faces, trained, predictions]
    if not panels:
        raise DataError(f"no labelled face to show in {subset or 'the predictions'}")
    if len({(tuple(p.maps), p.faces.shape[1:]) for p in panels}) > 1:
        raise UsageError("the runs see faces of different sizes or have different maps", "draw them one by one")
    units = paper_results.load("va-cnn").facts["table4_regions_of_emotions"]
    arrays["classes"] = np.array(classes, object)
    return Drawn(mean_attention.draw(panels, classes, units), arrays, list({p.digest: p for p in parents}.values()))


def _means(
    title: str, predictions: Artefact, faces: Artefact, network: FerModel, at: np.ndarray, run: Run
) -> mean_attention.Means:
    """Return the means over the given rows of the predictions, of each class."""
    found = {k.removeprefix("attention_"): predictions[k] for k in predictions.columns if k.startswith("attention_")}
    label, rows = np.asarray(predictions["label"]), np.asarray(predictions["row"])
    height, width, channels = faces["images"].shape[1:]
    x0, y0, x1, y1 = (round(v * s) for v, s in zip(view_of(network, faces), (width, height) * 2, strict=True))
    classes = range(len(predictions.class_names))
    totals: dict[str, list] = {}
    seen, count = np.zeros((len(classes), y1 - y0, x1 - x0, channels)), np.zeros(len(classes), int)
    for k in classes:
        mine = at[label[at] == k]
        count[k] = len(mine)
        sums: dict[str, np.ndarray] = {}
        for part in np.split(mine, range(_BATCH, len(mine), _BATCH)):
            seen[k] += faces["images"][rows[part], y0:y1, x0:x1].sum(axis=0, dtype=np.float64)
            maps = network.attention_maps({name: np.asarray(values[part]) for name, values in found.items()})
            if not maps:
                raise UsageError(
                    f"{run.name} has no attention that is a map over the face",
                    "its weights are of regions: fertool visualize regions"
                    if network.region_weights
                    else "name another run",
                )
            for name, values in maps.items():
                sums[name] = sums.get(name, 0) + values.sum(axis=0, dtype=np.float64)
        for name, values in sums.items():
            totals.setdefault(name, []).append(values / max(count[k], 1))
    seen /= np.maximum(count, 1)[:, None, None, None]
    return mean_attention.Means(title, seen, {k: np.stack(v) for k, v in totals.items()}, count)


def _views(predictions: Artefact, faces: Artefact, settings: Visualize) -> dict[str, np.ndarray]:
    """Return the rows of the predictions by the side the head is seen from.

    The dataset's cameras decide, else its own yaw, else the estimated one.
    """
    rows = np.asarray(predictions["row"])
    if "angle" in faces:  # of the camera, in degrees: RaFD
        angle = np.asarray(faces["angle"])[rows]
        return {f"{a}°": angle == a for a in np.unique(angle)}
    if "true_yaw" in faces:
        yaw = np.asarray(faces["true_yaw"])[rows]
    else:
        yaw = np.asarray(faces["pose"])[rows, 1] if "pose" in faces else np.full(len(rows), np.nan)
    if np.isnan(yaw).all():
        raise DataError(
            f"{faces.path} has no head poses", "they come with 68 landmarks: detect-align --landmarks ert68"
        )
    edges = (-np.inf, *sorted(settings.yaw), np.inf)
    return {_between(low, high): (yaw >= low) & (yaw < high) for low, high in pairwise(edges)}


def _between(low: float, high: float) -> str:
    if np.isinf(low):
        return f"yaw under {high:g}°"
    return f"yaw over {low:g}°" if np.isinf(high) else f"yaw {low:g} to {high:g}°"
