"""Networks that learn expressions."""

from dataclasses import dataclass

from fertool.requirements.base import FOLDS, Inputs, NeededFile, Selection
from fertool.requirements.rows import Rows, check_classes, select
from fertool.settings import Train


@dataclass(frozen=True)
class Labels(Selection):
    """Expression labels of the faces, or those of released lists (`labels: list`)."""

    def files(self, settings: Train) -> tuple[NeededFile, ...]:
        if settings.labels == "list":
            return (NeededFile("subsets", "build-subsets --lists FOLDER", "labels: list"),)
        return () if settings.fold is None else (FOLDS,)

    def train_rows(self, inputs: Inputs) -> Rows:
        s = inputs.settings
        return select(inputs.faces, inputs.train_splits, labels=s.labels, subsets=inputs.subsets, fold=s.fold)

    def val_rows(self, inputs: Inputs) -> Rows:
        labels = "list" if inputs.settings.labels == "list" else "majority"
        fold = inputs.settings.fold
        return select(inputs.faces, [inputs.val_split], labels=labels, subsets=inputs.subsets, fold=fold)

    def check_rows(self, inputs: Inputs, rows: Rows, where: str) -> None:
        check_classes(inputs.faces, rows, where)
