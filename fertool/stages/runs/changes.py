"""Remove and rename runs."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fertool import console, files, locks, outputs, run_folders
from fertool.errors import ArtefactError, FertoolError, UsageError
from fertool.evaluation.units import size
from fertool.stages.runs.dependents import dependents
from fertool.stages.runs.listing import folder_size
from fertool.workspace import Workspace, slug

#: asks the user something and returns whether they agree
Ask = Callable[[str], bool]


def remove(workspace: Workspace, names: Sequence[str], agreed: Ask) -> dict[str, Any]:
    """Remove runs with everything in their folders.

    Args:
        names: of the runs; also of those that are damaged or hold nothing.
        agreed: asked once, after it was said what goes and what depends on it.

    Returns:
        {"removed": names, "bytes", "dependents": {name: see `dependents.dependents`}}

    Raises:
        UsageError: an unclear name, or the user did not agree.
        ArtefactError: there is no such run, or it is being trained.
    """
    runs = list(dict.fromkeys(_find(workspace, name) for name in names))
    with ExitStack() as held:
        for run in runs:
            held.enter_context(_alone(run))
        made: dict[str, list[str]] = {}
        total = 0
        for run in runs:
            name, here = run_folders.name_of(run), folder_size(run)
            console.say(f"{name}: {size(here)} in {run}")
            if foreign := _foreign(run):
                console.say(f"  not written by fertool: {', '.join(foreign)}")
            made[name] = dependents(workspace, run)
            for phrase in made[name]:
                console.say(f"  made from it: {phrase}")
            total += here
        if not agreed(f"remove {len(runs)} run{'s' * (len(runs) > 1)} ({size(total)})?"):
            raise UsageError("nothing was removed")
        for run in runs:
            with files.writing(run):
                _remove(run)
    return {"removed": list(made), "bytes": total, "dependents": made}


def rename(workspace: Workspace, old: str, new: str, agreed: Ask) -> dict[str, Any]:
    """Rename a run, or take it out of its sweep; its folder moves with all that is in it.

    Args:
        new: NAME in the same folder, DATA/NAME, SWEEP/NAME or DATA/SWEEP/NAME.
        agreed: asked if something names the run.

    Returns:
        {"run": folder, "name", "was", "dependents": see `dependents.dependents`}

    Raises:
        UsageError: a name that no run can have, another dataset's, or the user did not agree.
        ArtefactError: there is no such run, or one of the new name, or it is being trained.
    """
    run = _find(workspace, old)
    target = _target(run, new)
    if target.exists():
        raise ArtefactError(f"there is a run {run_folders.name_of(target)} already", "choose another name")
    with _alone(run), locks.exclusive(target):
        found = dependents(workspace, run)
        for phrase in found:
            console.say(f"made from it, under its old name: {phrase}")
        if found and not agreed(f"rename {run_folders.name_of(run)} all the same?"):
            raise UsageError("nothing was renamed")
        with files.writing(target):
            target.parent.mkdir(exist_ok=True)
            run.rename(target)
    return {
        "run": str(target),
        "name": run_folders.name_of(target),
        "was": run_folders.name_of(run),
        "dependents": found,
    }


def _find(workspace: Workspace, name: str) -> Path:
    """Return the folder of a run by its name or path, also of one that holds nothing."""
    folders = workspace.run_folders(sweeps=True)
    path = Path(os.path.abspath(name))
    path = path.parent if path.name == "run.h5" else path
    if mine := next((f for f in folders if Path(os.path.abspath(f)) == path), None):
        return mine
    return run_folders.find(name, folders, workspace.root)


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Hold the lock of a run.

    Raises:
        ArtefactError: somebody writes to it, or works at its sweep.
    """
    name = run_folders.name_of(run)
    busy = ArtefactError(f"{name} is in use: it is being trained or evaluated", "wait for that, or stop it")
    inner = [run / lock.name[1:].removesuffix(".lock") for lock in run.glob(".*.lock")]
    if not all(map(locks.is_free, inner)):
        raise busy
    if (sweep := run_folders.sweep_of(run)) and not locks.is_free(run.parent):
        raise ArtefactError(f"{name} is in use: sweep {sweep} is running", "wait for it, or stop it")
    try:
        held = locks.exclusive(run)
        held.__enter__()
    except ArtefactError:
        raise busy from None
    try:
        yield
    finally:
        held.__exit__(None, None, None)


def _target(run: Path, new: str) -> Path:
    """Return the folder of a new name."""
    data = run_folders.data_folder(run)
    *above, name = new.rstrip("/").split("/")
    if slug(name) != name:
        raise UsageError(f"{name!r} cannot be the name of a run", f"e.g. {slug(name)}")
    if not above:
        return run.parent / name
    if above == [data.name]:
        return data / run_folders.RUNS / name
    if len(above) == 2 and above[0] == data.name:
        above = above[1:]
    folder = data / run_folders.SWEEPS / above[-1]
    if len(above) > 1 or not folder.is_dir():
        raise UsageError(
            f"{'/'.join(above)} is neither the dataset of {run_folders.name_of(run)} nor one of its sweeps",
            f"e.g. {data.name}/{name}",
        )
    return folder / name


def _remove(run: Path) -> None:
    """Remove a folder, run.h5 first: what a kill leaves is no run any more, and is listed as a folder without one."""
    if run.is_symlink():
        run.unlink()
        return
    (run / "run.h5").unlink(missing_ok=True)
    shutil.rmtree(run)


def _foreign(run: Path) -> list[str]:
    """Return the files in a run's folder that fertool did not write."""
    found = []
    for path in sorted(p for p in run.rglob("*") if p.is_file() and p.name[0] != "."):
        try:
            outputs.check_output(path, artefact=path.suffix == ".h5")
        except (FertoolError, OSError):
            found.append(str(path.relative_to(run)))
    return found
