"""Where runs lie, what they are called, and which one a name means.

DATA/runs/NAME            the run DATA/NAME, in short NAME
DATA/sweeps/SWEEP/NAME    a run of a sweep, DATA/SWEEP/NAME, in short SWEEP/NAME
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fertool.errors import ArtefactError, UsageError, nearest

RUNS, SWEEPS = "runs", "sweeps"


def sweep_of(run: Path) -> str:
    """Return the name of the sweep that a run belongs to; "" if it belongs to none."""
    return run.parent.name if run.parent.parent.name == SWEEPS and run.parent.name != RUNS else ""


def data_folder(run: Path) -> Path:
    """Return the folder of the dataset that a run was trained on: its faces lie there."""
    return run.parent.parent.parent if sweep_of(run) else run.parent.parent


def name_of(run: Path) -> str:
    """Return the name by which every command finds a run: DATA/NAME or DATA/SWEEP/NAME."""
    return f"{data_folder(run).name}/{short_name(run)}"


def short_name(run: Path) -> str:
    """Return the name of a run within its dataset: NAME or SWEEP/NAME."""
    return f"{sweep_of(run)}/{run.name}".lstrip("/")


def distinct_names(runs: Sequence[Path]) -> list[str]:
    """Return short names of runs; with their dataset where two datasets have runs of one name."""
    names = [short_name(run) for run in runs]
    return [name if names.count(name) == 1 else name_of(run) for name, run in zip(names, runs, strict=True)]


def folders(data: Path, *, sweeps: bool) -> list[Path]:
    """Return the folders of all runs of a dataset, whether anything is saved in them or not, by name."""
    found = subfolders(data / RUNS)
    if sweeps:
        found += [run for sweep in subfolders(data / SWEEPS) for run in subfolders(sweep)]
    return found


def saved(run_folders: Iterable[Path]) -> list[Path]:
    """Return those folders that hold a run.h5, oldest first."""
    times = [(_time(run / "run.h5"), run) for run in run_folders]
    return [run for time, run in sorted(times) if time]


def beside(run: Path) -> list[Path]:
    """Return all saved runs of a run's dataset, oldest first; those in the same folder as the run come last."""
    return sorted(saved(folders(data_folder(run), sweeps=True)), key=lambda other: other.parent == run.parent)


def find(name: str, runs: Sequence[Path], where: Path) -> Path:
    """Return the run of a name: DATA/NAME or DATA/SWEEP/NAME, or without DATA/ where that is clear.

    Args:
        name: of the run.
        runs: all there are.
        where: the workspace, for messages.

    Raises:
        UsageError: several datasets have a run of this name.
        ArtefactError: there is none.
    """
    name = name.rstrip("/")
    hits = [r for r in runs if name_of(r) == name] or [r for r in runs if short_name(r) == name]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UsageError(
            f"several datasets have a run {name!r}: {', '.join(data_folder(h).name for h in hits)}",
            f"name its dataset, too: {name_of(hits[0])}",
        )
    if in_sweeps := [name_of(r) for r in runs if r.name == name]:
        raise ArtefactError(
            f"there is no run {name!r} in {where} but in sweeps", f"name the sweep, too: {', '.join(in_sweeps)}"
        )
    known = {form for r in runs for form in (name_of(r), short_name(r))}
    raise ArtefactError(f"there is no run {name!r} in {where}", nearest(name, known, listed=[name_of(r) for r in runs]))


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted; none where it is missing or may not be read."""
    try:
        with os.scandir(folder) as entries:
            return [folder / name for name in sorted(e.name for e in entries if e.is_dir() and e.name[0] != ".")]
    except OSError:
        return []


def _time(file: Path) -> int:
    """Return when a file was last written, in ns; 0 if it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
