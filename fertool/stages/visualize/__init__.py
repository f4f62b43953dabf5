"""visualize: runs → figures, and a file with the arrays behind them."""

from pathlib import Path
from typing import Any

import numpy as np

from fertool import artefact, console, locks, plugins
from fertool.evaluation.score import ALL
from fertool.figures import Drawn, style
from fertool.settings import Visualize
from fertool.stages.visualize.inputs import named

_NAMED = ("by", "target", "layer", "region_weights", "weights")  # settings that name a figure's files
_PATIENCE = 10.0  # seconds to wait for another process that adds its figures


def run(
    kind: str,
    runs: list[Path],
    *,
    settings: Visualize,
    out_dir: Path | None = None,
    subset: str | None = None,
) -> list[Path]:
    """Draw one figure of one or several runs.

    Args:
        kind: name of a figure, or a reference to one of the user's own.
        runs: folders of runs, how many depends on the kind; or, for figures of faces alone, one faces file.
        out_dir: where to; by default `figures` in the first run's folder.
        subset: only faces of this subset.

    Returns:
        the figure in each of the formats asked for, named after kind, choices, subset and (if several) runs, and
        figures.h5 beside it. That file collects the arrays of all figures in the folder, each under its figure's
        name.

    Raises:
        UsageError: an unknown kind, subset or face; a run that has nothing of the kind to show.
        ArtefactError: predictions or regions that are missing, or older than the run or faces.
    """
    plugin = plugins.resolve("figures", kind)
    called, subset = named(runs), None if subset == ALL else subset
    words = [
        plugin.name,
        *_choices(settings),
        *([subset] if subset else []),
        *((r.name for r in called) if len(called) > 1 else []),
    ]
    with style.look():
        drawn = plugin.object(called, settings, subset)
    about: dict[str, Any] = {"kind": plugin.reference, "runs": [r.name for r in called], "subset": subset}
    about |= {"settings": settings.as_dict(), **plugins.digests(kind=plugin)}
    return keep(out_dir or called[0].figures, "-".join(words), drawn, about, settings)


def _choices(settings: Visualize) -> list[str]:
    """Return what is chosen beside the default, as the names of the files say it: other figures are other files."""
    chosen = [getattr(settings, name) for name in _NAMED if getattr(settings, name) != getattr(Visualize, name)]
    return [str(value) for value in chosen] + (["counts"] if settings.counts else [])


def can_draw_faces(kind: str) -> bool:
    """Return whether a figure can be drawn of a dataset's faces, without a run."""
    return plugins.resolve("figures", kind).object.of_faces


def summary(files: list[Path]) -> dict[str, list[str]]:
    """Return the files written."""
    return {"figures": [str(f) for f in files]}


def report(facts: dict[str, list[str]]) -> None:
    """Print a line per file."""
    for name in facts["figures"]:
        console.say(f"wrote {name}")


def keep(folder: Path, name: str, drawn: Drawn, about: dict[str, Any], settings: Visualize) -> list[Path]:
    """Save a figure in the formats asked for, and put its arrays into figures.h5 in place of those it had before."""
    out = folder / "figures.h5"
    with locks.exclusive(out, wait=_PATIENCE):
        return _keep(out, name, drawn, about, settings)


def _keep(out: Path, name: str, drawn: Drawn, about: dict[str, Any], settings: Visualize) -> list[Path]:
    with style.look():
        pictures = [style.save(drawn.figure, out.with_name(f"{name}.{f}"), settings.dpi) for f in settings.formats]
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
    return [*pictures, out]
