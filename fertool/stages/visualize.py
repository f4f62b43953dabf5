"""visualize: runs → pictures, and a file with the arrays behind them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fertool import artefact, console
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError, UsageError, nearest
from fertool.evaluation.score import ALL, members, membership, score
from fertool.faces.status import HAS_IMAGE
from fertool.figures import attention, confusion, curves, regions, style
from fertool.models.registry import build_model, model_settings
from fertool.regions.preview import draw_crops, pick
from fertool.settings import Visualize
from fertool.training.views import cut_boxes


@dataclass(frozen=True)
class Run:
    """A run's folder and what lies around it."""

    name: str
    folder: Path

    def run(self) -> Artefact:
        return artefact.read(self.folder / "run.h5", "run")

    def faces(self) -> Artefact:
        return artefact.read(self.folder.parent.parent / "faces.h5", "faces")

    def predictions(self, faces: Artefact) -> Artefact:
        path = self.folder / "predictions.h5"
        if not path.is_file():
            raise ArtefactError(f"{self.name} has no predictions", f"run: fertool eval --run {self.folder}")
        predictions = artefact.read(path, "predictions")
        predictions.require_parent(self.run())
        predictions.require_parent(faces)
        return predictions

    def regions(self, faces: Artefact) -> Artefact:
        found = artefact.read(faces.path.with_name("regions.h5"), "regions")
        found.require_parent(faces)
        return found


@dataclass(frozen=True)
class Drawn:
    """What a picture was drawn from: its arrays by name, and the artefacts they come from."""

    arrays: dict[str, np.ndarray]
    parents: list[Artefact]


def run(
    kind: str,
    runs: list[Path],
    *,
    settings: Visualize,
    out_dir: Path | None = None,
    subset: str | None = None,
) -> list[Path]:
    """Draw one picture of one or several runs.

    Args:
        kind: "regions" (weights of the regions of single faces), "attention" (maps over single faces), "trace" (how
            the attention of tracked faces moved in training), "confusion", "curves" (of the training) or "crops" (the
            boxes of crop-regions on single faces).
        runs: folders of runs; `regions` takes up to two, `attention`, `trace` and `crops` one.
        out_dir: where to; by default `figures` in the first run's folder.
        subset: only faces of this subset.

    Returns:
        the PNG, named after kind, subset and (if several) runs, and figures.h5 beside it. That file collects the
        arrays of all pictures in the folder, each under its picture's name.

    Raises:
        UsageError: an unknown kind, subset or face; a run that has nothing of the kind to show.
        ArtefactError: predictions or regions that are missing, or older than the run or faces.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no figure {kind!r}", nearest(kind, KINDS))
    named, subset = _named(runs), None if subset == ALL else subset
    parts = [kind, *([subset] if subset else []), *((r.name for r in named) if len(named) > 1 else [])]
    path = (out_dir or named[0].folder / "figures") / ("-".join(parts) + ".png")
    drawn = KINDS[kind](named, path, settings, subset)
    about = {"kind": kind, "runs": [r.name for r in named], "subset": subset, "settings": settings.as_dict()}
    return [path, _keep(path, drawn, about)]


def summary(files: list[Path]) -> dict:
    """The files written."""
    return {"figures": [str(f) for f in files]}


def report(facts: dict) -> None:
    """A line per file."""
    for name in facts["figures"]:
        console.say(f"wrote {name}")


def _named(folders: list[Path]) -> list[Run]:
    """Runs with names that tell them apart."""
    if len({f.resolve() for f in folders}) < len(folders):
        raise UsageError("the same run is named twice", "name each run once")
    names = [f.resolve().name for f in folders]
    return [
        Run(name if names.count(name) == 1 else f"{folder.resolve().parent.parent.name}-{name}", folder.resolve())
        for name, folder in zip(names, folders, strict=True)
    ]


def _keep(path: Path, drawn: Drawn, about: dict) -> Path:
    """Put the arrays of one picture into figures.h5, in place of those it had before."""
    out, name = path.with_name("figures.h5"), path.stem
    arrays = {f"{name}/{key}": array for key, array in drawn.arrays.items()}
    params = {"figures": {name: about}}
    inputs = [p.as_parent(f"{name}/{i}") for i, p in enumerate(drawn.parents)]
    if out.exists():
        old = artefact.read(out, "figures")
        others = [k for k in old.params["figures"] if k != name]
        arrays |= {f"{k}/{key}": np.array(array) for k in others for key, array in old.group(k).items()}
        params["figures"] |= {k: old.params["figures"][k] for k in others}
        inputs += [p for p in old.inputs if p.role.rpartition("/")[0] in others]
    artefact.save(out, "figures", arrays, params=params, inputs=inputs)
    return out


# ------------------------------------------------------------------------------------------------------- kinds


def _draw_regions(runs: list[Run], path: Path, settings: Visualize, subset: str | None) -> Drawn:
    """RAN's Fig. 6."""
    if len(runs) > 2:
        raise UsageError("regions shows at most two runs side by side", "name one or two runs")
    faces = runs[0].faces()
    predictions = [r.predictions(r.faces()) for r in runs]
    boxes = [r.regions(r.faces()) for r in runs]
    for r, p, b in zip(runs, predictions, boxes, strict=True):
        if "attention_weight" not in p:
            raise UsageError(
                f"{r.name} has no attention: its network does not weigh regions",
                "name a run whose network does; fertool train ran makes one",
            )
        p.require_parent(b)
    place = [{name: i for i, name in enumerate(p.ids)} for p in predictions]
    shared = [name for name in predictions[0].ids if all(name in p for p in place)]
    if not shared:
        raise UsageError(f"{' and '.join(r.name for r in runs)} have no face in common", "name runs on the same faces")
    ids = settings.ids or _choose(predictions[0], faces, shared, settings, subset)
    unknown = [i for i in ids if any(i not in p for p in place)]
    if unknown:
        raise UsageError(f"there is no prediction for a face {unknown[0]!r}", nearest(unknown[0], shared))
    at = [np.array([p[i] for i in ids]) for p in place]
    first = predictions[0]
    rows = np.asarray(first["row"])[at[0]]
    images = np.asarray(faces["images"])[rows]
    true = [first.classes[k] if k >= 0 else "" for k in np.asarray(first["label"])[at[0]]]
    panels, arrays = [], {"id": np.array(ids, object), "images": images, "label": np.array(true, object)}
    for r, p, b, i in zip(runs, predictions, boxes, at, strict=True):
        said = [p.classes[k] for k in np.asarray(p["logits"])[i].argmax(1)]
        weights = np.asarray(p["attention_weight"])[i]
        mine = np.asarray(b["boxes"])[np.asarray(p["row"])[i]]
        panels.append(regions.Panel(r.name, mine, weights, said))
        arrays |= {f"{r.name}/weight": weights, f"{r.name}/boxes": mine, f"{r.name}/predicted": np.array(said, object)}
    with style.look():
        style.save(regions.draw(images, true, panels), path, settings.dpi)
    return Drawn(arrays, [faces, *predictions, *boxes])


def _draw_attention(runs: list[Run], path: Path, settings: Visualize, subset: str | None) -> Drawn:
    """WS-LGRN's Fig. 7 and the like: attention maps over faces."""
    only = _only(runs, "attention")
    faces, trained = only.faces(), only.run()
    predictions = only.predictions(faces)
    model = trained.params["model"]
    found = {k.removeprefix("attention_"): predictions[k] for k in predictions.columns if k.startswith("attention_")}
    place = {name: i for i, name in enumerate(predictions.ids)}
    ids = settings.ids or _choose(predictions, faces, list(place), settings, subset)
    if unknown := [i for i in ids if i not in place]:
        raise UsageError(f"there is no prediction for a face {unknown[0]!r}", nearest(unknown[0], place))
    at = np.array([place[i] for i in ids])
    shown = attention.maps({k: np.asarray(v)[at] for k, v in found.items()}, model)
    if not shown:
        raise UsageError(
            f"{only.name} has no attention that is a map over the face",
            "its weights are of regions: fertool visualize regions" if "weight" in found else "name another run",
        )
    images = np.asarray(faces["images"])[np.asarray(predictions["row"])[at]]
    label = np.asarray(predictions["label"])[at]
    true = [predictions.classes[k] if k >= 0 else "" for k in label]
    said = [predictions.classes[k] for k in np.asarray(predictions["logits"])[at].argmax(1)]
    with style.look():
        style.save(attention.draw(images, true, said, shown, _view(model, faces)), path, settings.dpi)
    arrays = {"id": np.array(ids, object), "images": images, "label": np.array(true, object)}
    return Drawn(arrays | {"predicted": np.array(said, object), **shown}, [faces, trained, predictions])


def _view(model: dict, faces: Artefact) -> list[float]:
    """The part of a stored face that the network sees, as fractions of its sides."""
    with torch.device("meta"):
        spec = build_model(model_settings(model), len(faces.classes)).input
    return cut_boxes(1, faces["images"].shape[1:3], spec.size)[0, 0].tolist() if spec.cut else [0, 0, 1, 1]


def _draw_trace(runs: list[Run], path: Path, settings: Visualize, subset: str | None) -> Drawn:
    """LNLAttenNet's Fig. 11 and 12."""
    only = _only(runs, "trace")
    if subset:
        raise UsageError("a trace is of the faces that were tracked in training", "leave out --subset")
    trained = only.run()
    trace = trained.group("trace")
    curves_of = {k: np.array(v) for k, v in trace.items() if k != "iteration" and v.ndim == 3}
    if not curves_of:
        raise UsageError(
            f"{only.name} has kept no weights of tracked faces", "train with --set train.track=[ID] for two or three"
        )
    name = next(iter(curves_of))
    ids, iterations = trained.params["train"]["track"], np.array(trace["iteration"])
    with style.look():
        style.save(attention.draw_trace(iterations, curves_of[name], ids, name), path, settings.dpi)
    return Drawn({"id": np.array(ids, object), "iteration": iterations, **curves_of}, [trained])


def _only(runs: list[Run], kind: str) -> Run:
    if len(runs) > 1:
        raise UsageError(f"{kind} shows one run", "name one run")
    return runs[0]


def _choose(predictions: Artefact, faces: Artefact, shared: list, settings: Visualize, subset: str | None) -> list[str]:
    """Faces at random that the run recognised, and last one that it did not, as in the paper's figure."""
    inside = _members(predictions, faces, subset)
    label = np.asarray(predictions["label"])
    wanted = inside & (label >= 0) & np.isin(predictions.ids, shared)
    right = np.asarray(predictions["logits"]).argmax(1) == label
    shuffled = np.random.default_rng(settings.seed).permutation(len(label))
    good = [i for i in shuffled if wanted[i] and right[i]]
    bad = [i for i in shuffled if wanted[i] and not right[i]]
    if not good and not bad:
        raise DataError(f"no labelled face to show in {subset or 'the predictions'}", "name faces with --ids")
    n_bad = max(settings.faces - len(good), min(len(bad), settings.faces // 2, 1))
    return [predictions.ids[i] for i in (*good[: settings.faces - n_bad], *bad[:n_bad])]


def _draw_confusion(runs: list[Run], path: Path, settings: Visualize, subset: str | None) -> Drawn:
    """RAN's Fig. 4 and 5."""
    matrices, titles, parents, classes = [], [], [], None
    for r in runs:
        faces = r.faces()
        predictions = r.predictions(faces)
        if classes not in (None, predictions.classes):
            raise UsageError(f"{r.name} has other classes than {runs[0].name}", "draw them in separate figures")
        classes = predictions.classes
        subsets = _subsets(faces) if subset else None
        result = score(predictions, subsets, [subset] if subset else [])["subsets"][subset or ALL]
        if not result["n_total"]:
            raise DataError(f"{r.name} predicted no labelled face of {subset or 'any class'}")
        matrices.append(np.array(result["confusion"]))
        titles.append(f"{r.name}{f', {subset}' if subset else ''}: {result['accuracy']:.2f} %")
        parents += [predictions, *([subsets] if subsets else [])]
    with style.look():
        style.save(confusion.draw(matrices, titles, classes, counts=settings.counts), path, settings.dpi)
    arrays = {"classes": np.array(classes, object)}
    return Drawn(arrays | {f"{r.name}/counts": m for r, m in zip(runs, matrices, strict=True)}, parents)


def _draw_curves(runs: list[Run], path: Path, settings: Visualize, subset: str | None) -> Drawn:
    """Training curves."""
    if subset:
        raise UsageError("training curves are of whole splits, not of subsets", "leave out --subset")
    opened = [r.run() for r in runs]
    histories = {r.name: o.group("history") for r, o in zip(runs, opened, strict=True)}
    for name, history in histories.items():
        if not len(history.get("loss", ())):
            raise DataError(f"{name} has not finished an epoch yet")
    with style.look():
        style.save(curves.draw(histories), path, settings.dpi)
    return Drawn({f"{name}/{k}": v for name, h in histories.items() for k, v in h.items()}, opened)


def _draw_crops(runs: list[Run], path: Path, settings: Visualize, subset: str | None) -> Drawn:
    """The regions of a few faces, as boxes and as the network sees them."""
    only = _only(runs, "crops")
    faces = only.faces()
    boxes = only.regions(faces)
    has_image = np.isin(np.asarray(faces["status"]), HAS_IMAGE)
    if settings.ids:
        unknown = [i for i in settings.ids if i not in set(faces.ids)]
        if unknown:
            raise UsageError(f"there is no face {unknown[0]!r}", nearest(unknown[0], faces.ids))
        rows = np.array([np.flatnonzero(faces.ids == i)[0] for i in settings.ids])
    else:
        inside = membership(_subsets(faces), subset) if subset else True
        rows = pick(np.flatnonzero(has_image & inside), settings.faces)
    if not len(rows):
        raise DataError(f"no face with a picture is in {subset or faces.path}")
    images, mine, ids = np.asarray(faces["images"])[rows], np.asarray(boxes["boxes"])[rows], faces.ids[rows].tolist()
    names = boxes.params["regions"]
    draw_crops(path, images, mine, ids, names)
    arrays = {"id": np.array(ids, object), "images": images, "boxes": mine, "regions": np.array(names, object)}
    return Drawn(arrays, [faces, boxes])


def _subsets(faces: Artefact) -> Artefact:
    path = faces.path.with_name("subsets.h5")
    if not path.is_file():
        raise ArtefactError(f"{faces.path} has no subsets", "run: fertool build-subsets")
    subsets = artefact.read(path, "subsets")
    subsets.require_parent(faces)
    return subsets


def _members(predictions: Artefact, faces: Artefact, subset: str | None) -> np.ndarray:
    """Which rows of the predictions are in the subset."""
    return members(predictions, _subsets(faces), [subset])[subset] if subset else np.ones(predictions.rows, bool)


KINDS: dict[str, Callable[[list[Run], Path, Visualize, str | None], Drawn]] = {
    "regions": _draw_regions,
    "attention": _draw_attention,
    "trace": _draw_trace,
    "confusion": _draw_confusion,
    "curves": _draw_curves,
    "crops": _draw_crops,
}
