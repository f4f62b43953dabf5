"""Faces and trained networks for your own code: a torch Dataset, and a network with its preprocessing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fertool import artefact
from fertool.errors import DataError
from fertool.faces.status import HAS_IMAGE
from fertool.training import checkpoint
from fertool.training.checkpoint import Trained
from fertool.training.export_module import Portable
from fertool.workspace import Workspace


class FacesDataset(Dataset[tuple[Any, int]]):
    """Labelled faces of a faces file, for a DataLoader with any number of workers.

    Items are (image, label): a (C, H, W) uint8 tensor, or what `transform` makes of it, and the index of the class.

    Args:
        path: the faces file.
        split: "train", "val" or "test"; None: all faces.
        transform: called with every image tensor, e.g. one of `torchvision.transforms.v2`.

    Attributes:
        classes: names of the classes.
        ids: (N,) ids of the faces.
        labels: (N,) int64.

    Raises:
        ArtefactError: no faces file.
        DataError: no labelled face in the split.
    """

    def __init__(self, path: Path | str, split: str | None = None, transform: Callable[[Tensor], Any] | None = None):
        self.faces = artefact.read(path, "faces")
        labels = np.asarray(self.faces["label"], dtype=np.int64)
        keep = (labels >= 0) & np.isin(np.asarray(self.faces["status"]), HAS_IMAGE)
        if split is not None:
            keep &= self.faces["split"] == split
        self.rows = np.flatnonzero(keep)
        if not len(self.rows):
            where = "" if split is None else f" in split {split}"
            raise DataError(f"{path} has no labelled faces{where}", "fertool inspect shows its splits")
        self.classes = self.faces.classes or ()
        self.labels, self.ids = labels[self.rows], self.faces.ids[self.rows]
        self.transform = transform
        self._images: np.ndarray | None = None  # mapped in every worker by itself

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if self._images is None:
            self._images = self.faces["images"]
        image = torch.from_numpy(np.array(self._images[self.rows[index]])).permute(2, 0, 1)
        return (self.transform(image) if self.transform else image), int(self.labels[index])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_images": None}


class Classifier(nn.Module):
    """A trained network from aligned faces to logits.

    Attributes:
        classes: names of the classes.
    """

    def __init__(self, trained: Trained):
        super().__init__()
        self.network = Portable(trained)
        self.classes = trained.classes

    def forward(self, faces: Tensor) -> Tensor:
        """Return (N, classes) logits of (N, C, H, W) faces, uint8 or float from 0 to 255."""
        return self.network(faces.float())[0]


def load_model(run: Path | str, weights: str = "selected") -> tuple[Classifier, Callable[[np.ndarray], Tensor]]:
    """Load a trained network, and the preprocessing of its faces.

    Args:
        run: folder or name of a run, or a .safetensors file that `fertool export` wrote.
        weights: "selected" (by the run's select_on), "last" or "best".

    Returns:
        The network in eval mode, from (N, C, H, W) aligned faces to (N, classes) logits, and a function from an
        (H, W, 3) RGB uint8 image to the (C, H, W) uint8 aligned face of the largest face in it, which raises DataError
        where there is none.

    Raises:
        ArtefactError: no such run or weights.
    """
    from fertool.faces.pipeline import Finder
    from fertool.settings import Predict
    from fertool.stages.predict.inference import faces_settings

    is_file = str(run).endswith(".safetensors")
    trained = checkpoint.of_file(Path(run)) if is_file else checkpoint.of_run(Workspace().run(str(run)), weights)
    finder = Finder(faces_settings(trained, Predict()), "cpu")

    def preprocess(image: np.ndarray) -> Tensor:
        (found,) = finder.find([image])
        if not len(found):
            raise DataError("there is no face in the image", "try another detector or a larger image")
        sizes = np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)
        largest = int(sizes.argmax())
        cut = finder.cut(image, found.boxes[largest], finder.marks(image, found, largest))
        if cut is None:
            raise DataError("the face in the image has no landmarks to align it by", "try another image")
        return torch.from_numpy(np.ascontiguousarray(cut.pixels)).permute(2, 0, 1)

    return Classifier(trained), preprocess
