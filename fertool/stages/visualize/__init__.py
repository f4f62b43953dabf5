"""visualize: runs → pictures, and a file with the arrays behind them."""

from pathlib import Path

import numpy as np

from fertool import artefact, console, locks
from fertool.errors import UsageError, nearest
from fertool.evaluation.score import ALL
from fertool.figures import KINDS as DESCRIBED
from fertool.figures import style
from fertool.settings import Visualize
from fertool.stages.visualize import (
    attention,
    gradcam,
    group,
    mean_attention,
    performance,
    preprocessing,
    region_weights,
    robustness,
)
from fertool.stages.visualize.inputs import Drawn, Kind, named

_PATIENCE = 10.0  # seconds to wait for another process that adds its figures

KINDS: dict[str, Kind] = {
    "gradcam": gradcam.draw_gradcam,
    "mean-attention": mean_attention.draw_mean_attention,
    "group": group.draw_group,
    "grid": region_weights.draw_grid,
    "obscure": region_weights.draw_obscure,
    "regions": attention.draw_regions,
    "attention": attention.draw_attention,
    "trace": attention.draw_trace,
    "confusion": performance.draw_confusion,
    "curves": performance.draw_curves,
    "crops": attention.draw_crops,
    "landmarks": preprocessing.draw_landmarks,
    "masks": preprocessing.draw_masks,
    "steps": preprocessing.draw_steps,
    "robustness": robustness.draw_robustness,
}


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
        kind: one of `fertool.figures.KINDS`.
        runs: folders of runs, how many depends on the kind; or, for pictures of faces alone, one faces file.
        out_dir: where to; by default `figures` in the first run's folder.
        subset: only faces of this subset.

    Returns:
        the picture in each of the formats asked for, named after kind, order, subset and (if several) runs, and
        figures.h5 beside it. That file collects the arrays of all pictures in the folder, each under its picture's
        name.

    Raises:
        UsageError: an unknown kind, subset or face; a run that has nothing of the kind to show.
        ArtefactError: predictions or regions that are missing, or older than the run or faces.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no figure {kind!r}", nearest(kind, DESCRIBED))
    called, subset = named(runs), None if subset == ALL else subset
    words = [
        kind,
        *([settings.by] if settings.by else []),
        *([subset] if subset else []),
        *((r.name for r in called) if len(called) > 1 else []),
    ]
    with style.look():
        drawn = KINDS[kind](called, settings, subset)
    about = {"kind": kind, "runs": [r.name for r in called], "subset": subset, "settings": settings.as_dict()}
    return keep(out_dir or called[0].figures, "-".join(words), drawn, about, settings)


def summary(files: list[Path]) -> dict:
    """Return the files written."""
    return {"figures": [str(f) for f in files]}


def report(facts: dict) -> None:
    """Print a line per file."""
    for name in facts["figures"]:
        console.say(f"wrote {name}")


def keep(folder: Path, name: str, drawn: Drawn, about: dict, settings: Visualize) -> list[Path]:
    """Save a picture in the formats asked for, and put its arrays into figures.h5 in place of those it had before."""
    out = folder / "figures.h5"
    with locks.exclusive(out, wait=_PATIENCE):
        return _keep(out, name, drawn, about, settings)


def _keep(out: Path, name: str, drawn: Drawn, about: dict, settings: Visualize) -> list[Path]:
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
