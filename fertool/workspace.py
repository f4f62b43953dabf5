"""Where artefacts live, and which one a command means when none is named.

artefacts/raf/faces.h5  masks.h5  regions.h5  subsets.h5
artefacts/raf/runs/ran-1/run.h5  predictions.h5  figures/
artefacts/raf/sweeps/alpha/sweep.csv  ran-1/run.h5
"""

import os
import re
from pathlib import Path

from fertool import files, locks, run_folders
from fertool.errors import ArtefactError, DataError, UsageError, nearest

STAGE_FILES = ("faces", "masks", "regions", "subsets")


def slug(name: str) -> str:
    """Return a folder's name as it appears in the workspace."""
    return re.sub(r"[^\w.-]+", "-", name.strip(), flags=re.UNICODE).strip("-.") or "data"


class Workspace:
    """The folder of artefacts: `--workspace`, else FERTOOL_WORKSPACE, else ./artefacts."""

    def __init__(self, root: Path | str | None = None):
        self.root = Path(os.path.expanduser(root or os.environ.get("FERTOOL_WORKSPACE") or "artefacts"))

    def datasets(self) -> list[str]:
        """Return the names of the datasets that have faces here, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(d.name for d in self.root.iterdir() if (d / "faces.h5").exists())

    def path(self, data: str, kind: str) -> Path:
        """Return where the artefact of a stage lies for a dataset, whether it exists or not."""
        return self.root / data / f"{kind}.h5"

    def dataset(self, name: str | None = None) -> str:
        """Return the dataset meant: the named one, else the only one.

        Raises:
            UsageError: there are several and none was named.
            ArtefactError: there is none, or none of that name.
        """
        known = self.datasets()
        if name is None:  # faces with drawn occluders are another's, and meant only by name
            known = [d for d in known if not d.endswith("-occluded") or d.removesuffix("-occluded") not in known]
        if name is not None:
            if name not in known:
                raise ArtefactError(
                    f"there are no faces of {name!r} in {self.root}",
                    nearest(name, known) if known else "run: fertool detect-align FOLDER",
                )
            return name
        if not known:
            raise ArtefactError(f"there are no faces in {self.root}", "run: fertool detect-align FOLDER")
        if len(known) > 1:
            raise UsageError(f"{self.root} holds several datasets: {', '.join(known)}", "name one with --data NAME")
        return known[0]

    def faces(self, data: str | None) -> Path:
        """Return the faces meant: a path to a file, a name in the workspace, or None for the only one."""
        if data is not None and (data.endswith(".h5") or "/" in data) and Path(data).is_file():
            return Path(data)
        return self.path(self.dataset(data), "faces")

    def beside(self, faces: Path, kind: str) -> Path:
        """Return the artefact of another stage that belongs beside a faces file."""
        return faces.with_name(f"{kind}.h5")

    def runs(self, data: str | None = None, *, sweeps: bool = False) -> list[Path]:
        """Return folders of all runs (of one dataset), oldest first; begun ones that never saved anything are left out.

        Args:
            data: name of the dataset.
            sweeps: also those of sweeps, which nobody means unless they are named.
        """
        return run_folders.saved(self.run_folders(data, sweeps=sweeps))

    def run_folders(self, data: str | None = None, *, sweeps: bool = False) -> list[Path]:
        """Return the folders of all runs as `runs`, also those in which nothing has been saved."""
        datasets = [self.root / data] if data else [self.root / d for d in self.folders()]
        return [run for d in datasets for run in run_folders.folders(d, sweeps=sweeps)]

    def folders(self) -> list[str]:
        """Return the names of all folders here, with or without faces, sorted."""
        return sorted(d.name for d in self.root.iterdir() if d.is_dir()) if self.root.is_dir() else []

    def run(self, name: str | None = None, data: str | None = None) -> Path:
        """Return the folder of a run: by its path or that of its run.h5, or by a name, see `run_folders.find`.

        None is the latest run that belongs to no sweep.
        """
        if name is not None:
            path = Path(os.path.abspath(name))  # the faces lie above, whatever folder the user is in
            if path.name == "run.h5" and path.is_file():
                return path.parent
            if (path / "run.h5").is_file():
                return path
            if path.suffix == ".onnx":
                raise UsageError(f"{name} is a network without a run", f"make a run of it: fertool adopt {name}")
        runs = self.runs(data, sweeps=True)
        if not runs:
            raise ArtefactError(
                f"there is no run in {self.root}",
                "run: fertool train MODEL; the quickest: fertool render data/rendered --varied, "
                "then fertool run probe-rendered data/rendered",
            )
        if name is not None:
            return run_folders.find(name, runs, self.root)
        ordinary = [r for r in runs if not run_folders.sweep_of(r)]
        if not ordinary:
            raise ArtefactError(
                f"all runs in {self.root} belong to sweeps", f"name one: --run {run_folders.name_of(runs[-1])}"
            )
        return ordinary[-1]


def new_run(parent: Path, name: str) -> Path:
    """Return a fresh folder for a run: <name>-1, <name>-2, ... in a folder of runs.

    A folder that a killed training left without a run is used again. Two processes that name runs at once have to
    hold a lock, and the one that gets a folder has to lock it before it gives that back.
    """
    n = 1
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = parent / f"{slug(name)}-{n}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                if _is_abandoned(folder):
                    files.sweep(folder)
                    return folder
                n += 1
    except OSError as e:
        raise DataError(f"cannot write {parent}: {e.strerror}", "choose another place with --workspace") from e


def run_reference(folder: Path) -> str:
    """Return how commands find a run: by its name in the default workspace, elsewhere by its path."""
    folder = Path(os.path.abspath(folder))
    data = run_folders.data_folder(folder)
    if data.parent == Path(os.path.abspath(Workspace().root)) and folder in run_folders.folders(data, sweeps=True):
        return run_folders.name_of(folder)
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _is_abandoned(folder: Path) -> bool:
    """Return whether a folder holds nothing but what a killed process may leave, and nobody writes to it."""
    return all(e.name.startswith(".") for e in folder.iterdir()) and locks.is_free(folder)
