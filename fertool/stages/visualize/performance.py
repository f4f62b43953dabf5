"""How right runs are: confusion matrices and training curves."""

import numpy as np

from fertool import console
from fertool.artefact import Artefact
from fertool.errors import DataError, UsageError
from fertool.evaluation import comparison, paper_results, setups
from fertool.evaluation.score import ALL, score
from fertool.evaluation.units import percent
from fertool.figures import Drawn, confusion, curves, figure
from fertool.settings import Visualize
from fertool.stages.visualize.inputs import Run, subsets_of


@figure("confusion", "confusion matrices side by side")
def draw_confusion(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """RAN's Fig. 4 and 5."""
    matrices: list[np.ndarray] = []
    titles: list[str] = []
    parents: list[Artefact] = []
    classes: tuple[str, ...] = ()
    for r in runs:
        faces = r.faces()
        predictions = r.predictions(faces)
        if classes and classes != predictions.class_names:
            raise UsageError(f"{r.name} has other classes than {runs[0].name}", "draw them in separate figures")
        classes = predictions.class_names
        subsets = subsets_of(faces) if subset else None
        result = score(predictions, subsets, [subset] if subset else [])["subsets"][subset or ALL]
        if not result["n_total"]:
            raise DataError(f"{r.name} predicted no labelled face of {subset or 'any class'}")
        matrices.append(np.array(result["confusion"]))
        titles.append(f"{r.name}{f', {subset}' if subset else ''}: {percent(result['accuracy'])} %")
        parents += [predictions, *([subsets] if subsets else [])]
    arrays = {"classes": np.array(classes, object)}
    arrays |= {f"{r.name}/counts": m for r, m in zip(runs, matrices, strict=True)}
    if settings.paper:
        for name, matrix in _printed(runs, classes, subset, settings.paper).items():
            matrices.append(matrix)
            titles.append(name)
            arrays[f"{name}/share"] = matrix
    return Drawn(confusion.draw(matrices, titles, classes, counts=settings.counts), arrays, parents)


def _printed(runs: list[Run], classes: tuple[str, ...], subset: str | None, paper: str) -> dict[str, np.ndarray]:
    """Return the matrices that a paper prints for this dataset, in the order of these classes."""
    found = {}
    for r in runs:
        faces = r.faces()
        predictions = r.predictions(faces)
        setup = setups.setup_of(r.run(), predictions, faces, paper=paper)
        n_total = int((np.asarray(predictions["label"]) >= 0).sum())
        if setup is None:
            continue
        for name, (theirs, matrix, differing) in comparison.beside_matrix(setup, n_total).items():
            if differing:
                said = comparison.in_words(differing)
                console.say(f"note: {name} is not of the same settings as {r.name}; here: {said}")
            if set(theirs) == set(classes):
                order = [theirs.index(c) for c in classes]
                found[f"{paper_results.load(setup.paper).name}, {name}"] = matrix[np.ix_(order, order)]
    if subset or not found:
        raise UsageError(
            f"no paper prints a confusion matrix that belongs beside {runs[0].name}{f', {subset}' if subset else ''}",
            "leave out --paper",
        )
    return found


@figure("curves", "loss and accuracy as training went on")
def draw_curves(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
    """Training curves."""
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
