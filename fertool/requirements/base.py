"""The interface of requirements, and what they are checked against."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fertool.artefact import Artefact
from fertool.requirements.rows import Rows, check_some
from fertool.settings import Train


@dataclass(frozen=True)
class NeededFile:
    """A file of another stage that a training reads.

    Attributes:
        kind: "regions", "subsets" or "masks".
        command: the fertool command that makes it, without `--data`.
        needed_for: what requires it, for messages; "" is the network.
    """

    kind: str
    command: str
    needed_for: str = ""


#: the folds of a cross-validation
FOLDS = NeededFile("subsets", "build-subsets --folds 10", "cross-validation")


@dataclass(frozen=True)
class Inputs:
    """The faces and the files beside them that a training reads.

    Attributes:
        files: artefacts by kind, those that `Requirement.files` asks for.
    """

    faces: Artefact
    settings: Train
    files: Mapping[str, Artefact]

    @property
    def train_splits(self) -> Iterable[str]:
        """Splits that are trained on."""
        return self.settings.train_splits if self.settings.fold is None else ("train",)

    @property
    def val_split(self) -> str:
        """Split whose score is shown after every epoch."""
        return self.settings.val_split if self.settings.fold is None else "test"

    @property
    def subsets(self) -> Artefact | None:
        return self.files.get("subsets")


class Requirement:
    """Something that a network requires; every method has a default that asks for nothing."""

    def files(self, settings: Train) -> tuple[NeededFile, ...]:
        """Return the files that are read under these settings."""
        return ()

    def check(self, net: Any, inputs: Inputs) -> None:
        """Refuse inputs that do not fit the network.

        Raises:
            ArtefactError, RecipeError: what does not fit, and the command that mends it.
        """

    def targets(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return columns for `Targets.given`, by name, for every row of the faces."""
        return {}


class Selection(Requirement, ABC):
    """The requirement that decides which faces are trained on and what their labels are; a network has one."""

    def settle(self, model: Any, inputs: Inputs) -> Any:
        """Return the network's settings with those filled in that follow from the faces."""
        return model

    @abstractmethod
    def train_rows(self, inputs: Inputs) -> Rows:
        """Return the faces that are trained on."""

    @abstractmethod
    def val_rows(self, inputs: Inputs) -> Rows:
        """Return the faces whose score is shown after every epoch; may be none."""

    def check_rows(self, inputs: Inputs, rows: Rows, where: str) -> None:
        """Refuse rows that nothing can be learned from.

        Raises:
            DataError: the message contains `where`: "in split train".
        """
        check_some(inputs.faces, rows, where)
