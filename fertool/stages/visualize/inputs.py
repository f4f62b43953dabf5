"""What figures are drawn from: runs and the artefacts around them, and the faces to show."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fertool import artefact
from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError, UsageError
from fertool.evaluation.score import members
from fertool.models.registry import model_class
from fertool.run_folders import data_folder, distinct_names
from fertool.settings import Visualize
from fertool.stages.evaluate import predictions_of, regions_of
from fertool.workspace import run_reference


@dataclass(frozen=True)
class Run:
    """A run's folder and what lies around it."""

    name: str
    folder: Path

    @property
    def figures(self) -> Path:
        """Where its figures go."""
        return self.folder / "figures"

    def run(self) -> Artefact:
        return artefact.read(self.folder / "run.h5", "run")

    def faces(self) -> Artefact:
        return artefact.read(data_folder(self.folder) / "faces.h5", "faces")

    def predictions(self, faces: Artefact) -> Artefact:
        if model_class(self.run().params["model"]["name"]).verifies:
            raise UsageError(
                f"{self.name} was trained on subjects: there are no predictions of expressions to draw",
                f"run: fertool eval --run {run_reference(self.folder)}; or draw its curves",
            )
        path = predictions_of(self.folder)
        if path is None:
            raise ArtefactError(
                f"{self.name} has no predictions", f"run: fertool eval --run {run_reference(self.folder)}"
            )
        predictions = artefact.read(path, "predictions")
        predictions.require_parent(self.run())
        predictions.require_parent(faces)
        return predictions

    def regions(self, faces: Artefact) -> Artefact:
        found = regions_of(self.run(), faces)
        if found is None:  # its network looks at whole faces, but regions can be shown all the same
            found = beside(faces, "regions", "fertool crop-regions")
        return found


@dataclass(frozen=True)
class Data(Run):
    """Faces without a run, for figures of the faces alone; `folder` is the faces file."""

    @property
    def figures(self) -> Path:
        return self.folder.parent / "figures"

    def run(self) -> Artefact:
        raise UsageError("this figure is of a run, and only a dataset is named", "name a run: --run NAME")

    def faces(self) -> Artefact:
        return artefact.read(self.folder, "faces")

    def predictions(self, faces: Artefact) -> Artefact:
        return self.run()

    def regions(self, faces: Artefact) -> Artefact:
        return beside(faces, "regions", "fertool crop-regions")


def beside(faces: Artefact, kind: str, made_by: str) -> Artefact:
    """Return the artefact of another stage that lies beside the faces."""
    path = faces.path.with_name(f"{kind}.h5")
    if not path.is_file():
        raise ArtefactError(f"{faces.path} has no {kind}", f"run: {made_by}")
    found = artefact.read(path, kind)
    found.require_parent(faces)
    return found


def named(folders: list[Path]) -> list[Run]:
    """Return runs with names that tell them apart; a faces file stands for the faces alone."""
    if len(folders) == 1 and folders[0].is_file():
        return [Data(folders[0].resolve().parent.name, folders[0].resolve())]
    if len({f.resolve() for f in folders}) < len(folders):
        raise UsageError("the same run is named twice", "name each run once")
    resolved = [f.resolve() for f in folders]
    names = [name.replace("/", "-") for name in distinct_names(resolved)]  # pictures and arrays are called so
    return [Run(name, folder) for name, folder in zip(names, resolved, strict=True)]


def only(runs: list[Run], kind: str) -> Run:
    if len(runs) > 1:
        raise UsageError(f"{kind} shows one run", "name one run")
    return runs[0]


def choose(predictions: Artefact, faces: Artefact, shared: list, settings: Visualize, subset: str | None) -> list[str]:
    """Return faces at random that the run recognised, and last one that it did not, as in the paper's figure."""
    among = inside(predictions, faces, subset)
    label = np.asarray(predictions["label"])
    wanted = among & (label >= 0) & np.isin(predictions.ids, shared)
    right = np.asarray(predictions["logits"]).argmax(1) == label
    shuffled = np.random.default_rng(settings.seed).permutation(len(label))
    good = [i for i in shuffled if wanted[i] and right[i]]
    bad = [i for i in shuffled if wanted[i] and not right[i]]
    if not good and not bad:
        raise DataError(f"no labelled face to show in {subset or 'the predictions'}", "name faces with --id")
    n_bad = max(settings.faces - len(good), min(len(bad), settings.faces // 2, 1))
    return [predictions.ids[i] for i in (*good[: settings.faces - n_bad], *bad[:n_bad])]


def subsets_of(faces: Artefact) -> Artefact:
    return beside(faces, "subsets", "fertool build-subsets")


def inside(predictions: Artefact, faces: Artefact, subset: str | None) -> np.ndarray:
    """Return which rows of the predictions are in the subset; all without one."""
    return members(predictions, subsets_of(faces), [subset])[subset] if subset else np.ones(predictions.rows, bool)
