"""How right runs are: confusion matrices and training curves."""

from collections.abc import Sequence

import numpy as np

from fertool import console
from fertool.errors import DataError, UsageError
from fertool.evaluation import comparison, paper_check, paper_results, setups
from fertool.evaluation.score import ALL, score
from fertool.evaluation.setups import Setup
from fertool.evaluation.units import percent
from fertool.figures import Drawn, confusion, curves, figure
from fertool.settings import Visualize
from fertool.stages.visualize.inputs import Run, subsets_of

#: class names, and fractions (C, C) with nan where a row is not known
Printed = tuple[tuple[str, ...], np.ndarray]


@figure("confusion", "confusion matrices side by side")
def draw_confusion(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw RAN's Fig. 4 and 5."""
    matrices, titles, parents = [], [], []
    classes: tuple[str, ...] | None = None
    printed: dict[str, Printed] = {}
    for r in runs:
        faces = r.faces()
        predictions = r.predictions(faces)
        if classes not in (None, predictions.classes):
            raise UsageError(f"{r.name} has other classes than {runs[0].name}", "draw them in separate figures")
        classes = predictions.classes
        subsets = subsets_of(faces) if subset else None
        result = score(predictions, subsets, [subset] if subset else [])["subsets"][subset or ALL]
        if not result["n_total"]:
            raise DataError(f"{r.name} predicted no labelled face of {subset or 'any class'}")
        matrices.append(np.array(result["confusion"]))
        titles.append(f"{r.name}{f', {subset}' if subset else ''}: {percent(result['accuracy'])} %")
        parents += [predictions, *([subsets] if subsets else [])]
        if settings.paper:
            setup = setups.setup_of(r.run(), predictions, faces, subsets, paper=settings.paper)
            printed |= _printed(r, setup, result["n_total"], subset)
    assert classes is not None, "there is a run"
    shown = list(dict.fromkeys([*classes, *(c for theirs, _ in printed.values() for c in theirs)]))
    matrices = [_arranged(m, classes, shown, 0) for m in matrices]
    arrays = {"classes": np.array(shown, object)}
    arrays |= {f"{r.name}/counts": m for r, m in zip(runs, matrices, strict=True)}
    if settings.paper:
        if not printed:
            paper, of = paper_results.load(settings.paper), f", {subset}" if subset else ""
            raise UsageError(
                f"{paper.name} prints no confusion matrix that belongs beside {runs[0].name}{of}",
                f"{paper_check.listed(paper)}; or leave out --paper",
            )
        for name, (theirs, matrix) in printed.items():
            for absent, whose in ((set(theirs) - set(classes), runs[0].name), (set(classes) - set(theirs), name)):
                if absent:
                    console.say(f"note: {whose} has no {', '.join(c for c in shown if c in absent)}")
            matrices.append(_arranged(matrix, theirs, shown, np.nan))
            titles.append(name)
            arrays[f"{name}/share"] = matrices[-1]
    return Drawn(confusion.draw(matrices, titles, shown, counts=settings.counts), arrays, parents)


def _printed(r: Run, setup: Setup | None, n_total: int, subset: str | None) -> dict[str, Printed]:
    """Return the matrices that a paper prints for a run's network and faces: name -> classes, fractions."""
    printed: dict[str, Printed] = {}
    if setup is None:
        return printed
    paper = paper_results.load(setup.paper).name
    for name, (theirs, matrix, differing) in comparison.beside_matrix(setup, n_total, subset or ALL).items():
        if differing:
            console.say(f"note: {name} is not of the same settings as {r.name}; here: {comparison.in_words(differing)}")
        printed[f"{paper}, {name}"] = (theirs, matrix)
    return printed


def _arranged(matrix: np.ndarray, classes: Sequence[str], shown: Sequence[str], row: float) -> np.ndarray:
    """Return a matrix in the order of the classes shown; those it lacks are rows of one value and columns of zeros."""
    places = [shown.index(c) for c in classes]
    arranged = np.zeros((len(shown), len(shown)), matrix.dtype)
    arranged[[i for i in range(len(shown)) if i not in places]] = row
    arranged[np.ix_(places, places)] = matrix
    return arranged


@figure("curves", "loss and accuracy as training went on")
def draw_curves(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Draw training curves."""
    if subset:
        raise UsageError("training curves are of whole splits, not of subsets", "leave out --subset")
    opened = [r.run() for r in runs]
    histories = {r.name: o.group("history") for r, o in zip(runs, opened, strict=True)}
    for name, history in histories.items():
        if not len(history.get("loss", ())):
            raise DataError(f"{name} has not finished an epoch yet")
    return Drawn(
        curves.draw(histories), {f"{name}/{k}": v for name, h in histories.items() for k, v in h.items()}, opened
    )
