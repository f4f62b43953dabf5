"""What covering or turning a face costs a run: curves over the drawn degrees of build-subsets --synthesise, and over
the angles of the head.
"""

from itertools import pairwise

import numpy as np

from fertool import artefact, console
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, UsageError
from fertool.evaluation.metrics import wilson
from fertool.figures import Drawn, figure, robustness
from fertool.figures.robustness import Curve, Panel
from fertool.settings import Visualize
from fertool.stages.evaluate import predictions_of
from fertool.stages.visualize.inputs import Run
from fertool.subsets import OCCLUSIONS

_CONFIDENCE = 0.95
_BINS = (0, 10, 20, 30, 45, 60, 90)  # degrees
_FEWEST = 10  # faces a point needs

Found = dict[str, tuple[Artefact, Artefact]]  # run's name -> its predictions and their faces


@figure("robustness", "accuracy over the covered fraction of the face (build-subsets --synthesise) and over head pose")
def draw_robustness(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Accuracy over the covered fraction, for each way a face is covered, and over |yaw| and |pitch|."""
    if subset:
        raise UsageError("robustness shows faces of all kinds beside one another", "leave out --subset")
    covered = _covered(runs)
    plain = {r.name: (r.predictions(r.faces()), r.faces()) for r in runs if predictions_of(r.folder)}
    panels = _occlusion(covered) if covered else []
    if len(plain) == len(runs):
        panels += _pose(plain)
    if not panels:
        raise ArtefactError(
            f"{runs[0].name} has no predictions of drawn or turned faces",
            "run: fertool build-subsets --synthesise, then fertool eval --data NAME-occluded",
        )
    if not covered:
        console.say("no curves over occlusion: run fertool build-subsets --synthesise and eval --data NAME-occluded")
    arrays = {
        f"{panel.title}/{name}/{key}": getattr(curve, key)
        for panel in panels
        for name, curve in panel.curves.items()
        for key in ("at", "accuracy", "low", "high", "faces")
    }
    parents = {p.digest: p for found in (covered, plain) for pair in found.values() for p in pair}
    return Drawn(robustness.draw(panels), arrays, list(parents.values()))


def _covered(runs: list[Run]) -> Found:
    """Every run's predictions of the drawn faces; nothing if no run has any."""
    found = {r.name: pair for r in runs if (pair := _of_drawn(r))}
    if found and (missing := [r.name for r in runs if r.name not in found]):
        name = next(iter(found.values()))[1].path.parent.name
        raise ArtefactError(
            f"{missing[0]} has no predictions of drawn faces", f"run: fertool eval --run {missing[0]} --data {name}"
        )
    if len({faces.digest for _, faces in found.values()}) > 1:
        raise UsageError("the runs were scored on different drawn faces", "score them on the same: eval --data")
    return found


def _of_drawn(run: Run) -> tuple[Artefact, Artefact] | None:
    """Return the latest predictions of faces that build-subsets drew on."""
    files = sorted(run.folder.glob("predictions-*.h5"), key=lambda p: -p.stat().st_mtime)
    drawn = [f for f in run.folder.parents[2].glob("*/faces.h5") if "severity" in artefact.read(f, "faces")]
    by_digest = {(opened := artefact.read(f, "faces")).digest: opened for f in drawn}
    for path in files:
        predictions = artefact.read(path, "predictions")
        faces = by_digest.get(predictions.parent_digest("faces"))
        if faces and predictions.parent_digest("run") == run.run().digest:
            return predictions, faces
    return None


def _occlusion(found: Found) -> list[Panel]:
    kinds = {name: (faces["true_occlusion"][p["row"]], p) for name, (p, faces) in found.items()}
    covered = {name: (np.asarray(faces["covered"])[p["row"]], faces, p) for name, (p, faces) in found.items()}
    panels = []
    for kind in OCCLUSIONS:
        curves = {}
        for name, (fraction, faces, predictions) in covered.items():
            asked = np.asarray(faces["severity"])[predictions["row"]]
            mine = np.isin(kinds[name][0], ("", kind))
            groups = [mine & (asked == s) for s in np.unique(asked[mine])]
            if len(groups) > 1:
                curves[name] = _curve(predictions, 100 * fraction, groups)
        if curves:
            panels.append(Panel(kind, "face covered (%)", curves))
    return panels


def _pose(found: Found) -> list[Panel]:
    panels = []
    for title, column in (("yaw", 1), ("pitch", 0)):
        curves = {}
        for name, (predictions, faces) in found.items():
            angle = _angle(faces, title, column)
            if angle is None:
                continue
            angle = np.abs(angle[predictions["row"]])
            groups = [(angle >= a) & (angle < b) for a, b in pairwise(_BINS)]
            curve = _curve(predictions, angle, groups)
            if len(curve.at) > 1:
                curves[name] = curve
        if curves:
            known = all(f"true_{title}" in faces for _, faces in found.values())
            panels.append(Panel(title, f"|{title}| (degrees{'' if known else ', estimated'})", curves))
    return panels


def _angle(faces: Artefact, name: str, column: int) -> np.ndarray | None:
    """Degrees: what rendered faces know, else what was estimated."""
    if f"true_{name}" in faces:
        return np.asarray(faces[f"true_{name}"], dtype=float)
    return np.asarray(faces["pose"], dtype=float)[:, column] if "pose" in faces else None


def _curve(predictions: Artefact, place: np.ndarray, groups: list[np.ndarray]) -> Curve:
    """Accuracy of each group of labelled faces, at the mean of their places; groups of a few are left out."""
    label = np.asarray(predictions["label"])
    right = np.asarray(predictions["logits"]).argmax(axis=1) == label
    points = []
    for group in (g & (label >= 0) for g in groups):
        if (n := int(group.sum())) >= _FEWEST:
            points.append(
                (place[group].mean(), right[group].mean(), *wilson(int(right[group].sum()), n, _CONFIDENCE), n)
            )
    at, accuracy, low, high, faces = np.array(points, dtype=float).reshape(-1, 5).T
    return Curve(at, accuracy, low, high, faces.astype(int))
