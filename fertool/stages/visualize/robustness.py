"""Accuracy over the covered fractions of build-subsets --synthesise, and over the angles of the head.

Runs that differ by their seed alone are one curve.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fertool import artefact, console
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, UsageError
from fertool.evaluation.board import effects
from fertool.evaluation.board.systems import Block, Entry, System, arrange
from fertool.figures import Drawn, figure, robustness
from fertool.figures.robustness import Curve, Panel
from fertool.run_folders import data_folder
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
    """Draw accuracy over the covered fraction, for each way a face is covered, and over |yaw| and |pitch|."""
    if subset:
        raise UsageError("robustness shows faces of all kinds beside one another", "leave out --subset")
    covered = _covered(runs)
    plain = {r.name: (r.predictions(r.faces()), r.faces()) for r in runs if predictions_of(r.folder)}
    panels = _occlusion(runs, covered) if covered else []
    if len(plain) == len(runs):
        panels += _pose(runs, plain)
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
    """Return every run's predictions of the drawn faces; nothing if no run has any."""
    found = {r.name: pair for r in runs if (pair := _of_drawn(r))}
    if found and (missing := [r.name for r in runs if r.name not in found]):
        name = next(iter(found.values()))[1].path.parent.name
        raise ArtefactError(
            f"{missing[0]} has no predictions of drawn faces", f"run: fertool eval --run {missing[0]} --data {name}"
        )
    return found


def _of_drawn(run: Run) -> tuple[Artefact, Artefact] | None:
    """Return the latest predictions of faces that build-subsets drew on."""
    files = sorted(run.folder.glob("predictions-*.h5"), key=lambda p: -p.stat().st_mtime)
    drawn = [f for f in data_folder(run.folder).parent.glob("*/faces.h5") if "severity" in artefact.read(f, "faces")]
    by_digest = {(opened := artefact.read(f, "faces")).digest: opened for f in drawn}
    for path in files:
        predictions = artefact.read(path, "predictions")
        faces = by_digest.get(predictions.parent_digest("faces"))
        if faces and predictions.parent_digest("run") == run.run().digest:
            return predictions, faces
    return None


def _occlusion(runs: list[Run], found: Found) -> list[Panel]:
    block = _block(runs, found)
    faces, rows = _rows(block)
    kind, asked = faces["true_occlusion"][rows], np.asarray(faces["severity"])[rows]
    covered = 100 * np.asarray(faces["covered"])[rows]
    panels = []
    for name in OCCLUSIONS:
        inside = np.isin(kind, ("", name))
        groups = [inside & (asked == severity) for severity in np.unique(asked[inside])]
        if len(groups) > 1:
            panels.append(Panel(name, "face covered (%)", _curves(block, covered, groups)))
    return panels


def _pose(runs: list[Run], found: Found) -> list[Panel]:
    block = _block(runs, found)
    faces, rows = _rows(block)
    panels = []
    for title, column in (("yaw", 1), ("pitch", 0)):
        angle = _angle(faces, title, column)
        if angle is None:
            continue
        angle = np.abs(angle[rows])
        curves = _curves(block, angle, [(angle >= a) & (angle < b) for a, b in pairwise(_BINS)])
        if all(len(curve.at) > 1 for curve in curves.values()):
            known = f"true_{title}" in faces
            panels.append(Panel(title, f"|{title}| (degrees{'' if known else ', estimated'})", curves))
    return panels


def _block(runs: list[Run], found: Found) -> Block:
    """Return the runs as systems that were scored on the same faces.

    Raises:
        UsageError: they were scored on different faces, or one of them belongs to no system.
    """
    entries = [Entry(run.name, run.run(), *found[run.name], None) for run in runs]
    blocks, left = arrange(entries)
    if left:
        raise UsageError(f"{left[0].run} has no curve: {left[0].reason}", "leave it out")
    if len(blocks) > 1:
        names = " and ".join(block.systems[0].first.name for block in blocks[:2])
        raise UsageError(f"{names} were scored on different faces, labels or checkpoints", "score them alike")
    return blocks[0]


def _rows(block: Block) -> tuple[Artefact, NDArray[np.int64]]:
    """Return the faces of a block and the row of each of its ids."""
    faces = block.systems[0].first.faces
    assert faces is not None
    place = {str(name): row for row, name in enumerate(faces.ids)}
    return faces, np.array([place[i] for i in block.ids], np.int64)


def _angle(faces: Artefact, name: str, column: int) -> np.ndarray | None:
    """Return degrees: what rendered faces know, else what was estimated."""
    if f"true_{name}" in faces:
        return np.asarray(faces[f"true_{name}"], dtype=float)
    return np.asarray(faces["pose"], dtype=float)[:, column] if "pose" in faces else None


def _curves(block: Block, place: NDArray[np.floating], groups: list[NDArray[np.bool_]]) -> dict[str, Curve]:
    """Return each system's accuracy on each group of faces, at the mean of their places; small groups are left out."""
    groups = [group for group in groups if group.sum() >= _FEWEST]
    curves = {}
    for system in block.systems:
        means = [effects.mean(system.right[:, group], _CONFIDENCE) for group in groups]
        curves[_label(system)] = Curve(
            at=np.array([place[group].mean() for group in groups]),
            accuracy=np.array([m.value for m in means]),
            low=np.array([m.low for m in means]),
            high=np.array([m.high for m in means]),
            faces=np.array([group.sum() for group in groups]),
        )
    return curves


def _label(system: System) -> str:
    """Return the run's name, or of several seeds the system's with their number."""
    return system.first.name if len(system.runs) == 1 else f"{system.label}, {len(system.entries)} seeds"
