"""The faces a run works on: which rows, their labels, boxes and pixels, ready to be gathered in batches."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fertool.artefact import Artefact
from fertool.errors import ArtefactError, DataError
from fertool.faces.status import HAS_IMAGE
from fertool.training.transforms import RandomCrops

WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]], dtype=np.float32)


@dataclass(frozen=True)
class Rows:
    """Rows of a faces file that are used together: (N,) indices, labels, and distributions or None."""

    index: Tensor
    labels: Tensor
    distributions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)


def select(
    faces: Artefact,
    splits: Iterable[str],
    *,
    labels: str = "majority",
    subsets: Artefact | None = None,
    fold: int | None = None,
) -> Rows:
    """Return the rows of some splits that have a picture and a label.

    Args:
        labels: "majority" (the `label` column), "distribution" (also `label_distribution`), or "list" (labels and
            train/test split of the released lists, from the subsets file).
        fold: instead of their splits, faces of this fold of the subsets file are "test" and all others "train".

    Raises:
        ArtefactError: the file does not carry what `labels` asks for.
    """
    label, split = np.array(faces["label"], dtype=np.int64), faces["split"]
    keep = np.isin(np.asarray(faces["status"]), HAS_IMAGE)
    distributions = None
    if labels == "list":
        if subsets is None or "list_label" not in subsets:
            raise ArtefactError(
                "labels: list requires subsets made from the released lists",
                "run: fertool build-subsets --lists FOLDER",
            )
        subsets.require_parent(faces)
        label, split = np.array(subsets["list_label"], dtype=np.int64), subsets["list_split"]
    elif labels == "distribution":
        if "label_distribution" not in faces:
            raise ArtefactError(f"{faces.path} has no label distributions", "train with labels: majority")
        distributions = np.array(faces["label_distribution"])
        known = np.isfinite(distributions).all(axis=1)
        label = np.where(known, np.nan_to_num(distributions).argmax(axis=1), -1)
    if fold is not None:
        split = fold_splits(subsets, fold)
    keep &= np.isin(split, list(splits)) & (label >= 0)
    index = np.flatnonzero(keep)
    return Rows(
        torch.from_numpy(index),
        torch.from_numpy(label[index]),
        None if distributions is None else torch.from_numpy(distributions[index].astype(np.float32)),
    )


def fold_count(subsets: Artefact) -> int:
    """How many folds build-subsets made.

    Raises:
        ArtefactError: none.
    """
    if "fold" not in subsets:
        raise ArtefactError(f"{subsets.path} has no folds", "run: fertool build-subsets --folds 10 --overwrite")
    return int(np.asarray(subsets["fold"]).max()) + 1


def fold_splits(subsets: Artefact, fold: int) -> np.ndarray:
    """(N,) "test" for the faces of a fold, "train" for those of the others, "" for those that are in none.

    Raises:
        ArtefactError: there are no folds, or not that one.
    """
    last = fold_count(subsets) - 1
    folds = np.asarray(subsets["fold"])
    if fold > last:
        raise ArtefactError(f"{subsets.path} has no fold {fold}: they are 0 to {last}", "or --folds all")
    return np.select([folds == fold, folds >= 0], ["test", "train"], "").astype(object)


def region_boxes(faces: Artefact, regions: Artefact | None) -> Tensor:
    """(N, K, 4) boxes for every row of the faces; the whole face where there is no regions file."""
    if regions is None:
        return torch.from_numpy(WHOLE).expand(faces.rows, 1, 4)
    regions.require_parent(faces)
    return torch.from_numpy(np.array(regions["boxes"], dtype=np.float32))


def random_crops(regions: Artefact | None) -> RandomCrops | None:
    """Return how the crops of a regions file are drawn anew in training; None if they are not random."""
    if regions is None or regions.params.get("mode") != "random":
        return None
    return RandomCrops(regions.params["random_n"], tuple(regions.params["random_ratio"]))


def masked(
    faces: Artefact,
    masks: Artefact,
    splits: Iterable[str],
    *,
    subsets: Artefact | None = None,
    fold: int | None = None,
) -> Rows:
    """Return the rows of some splits that have region masks, labelled or not; splits and folds as for `select`.

    Raises:
        ArtefactError: the masks file has none, or belongs to other faces.
    """
    _require(faces, masks, "valid", "landmarks")
    split = faces["split"] if fold is None else fold_splits(subsets, fold)
    return _unlabelled(faces, np.isin(split, list(splits)) & np.asarray(masks["valid"]))


def drawn(faces: Artefact, masks: Artefact, use: str) -> Rows:
    """Return the rows drawn for the attribute groups, to be used for "train" or "val".

    Raises:
        ArtefactError: the masks file has no attribute groups, or belongs to other faces.
    """
    _require(faces, masks, "drawn", "attributes")
    mine = np.asarray(masks["drawn"]) == {"train": 1, "val": 2}[use]
    for name, column in zip(masks.params["groups"], mine.T, strict=True):
        if use == "train" and not column.any():
            raise DataError(
                f"no faces are drawn for the group {name!r}: all in split train have its attributes, or none has",
                "fertool make-masks --overwrite shows the draw",
            )
    return _unlabelled(faces, mine.any(axis=1))


def given_columns(masks: Artefact, needs: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the targets of a masks file for every row: "masks" (N, 8, h, w) uint8; "groups" (N, 2) int8, -1
    where a face was not drawn for the group.
    """
    columns = {}
    if "masks" in needs:
        columns["masks"] = torch.from_numpy(np.array(masks["masks"]))
    if "groups" in needs:
        groups = np.where(np.asarray(masks["drawn"]) > 0, np.asarray(masks["groups"]), -1)
        columns["groups"] = torch.from_numpy(groups.astype(np.int8))
    return columns


def _require(faces: Artefact, masks: Artefact, column: str, made_from: str) -> None:
    masks.require_parent(faces)
    if column not in masks:
        raise ArtefactError(
            f"{masks.path} holds nothing made from {made_from}: these faces have no {made_from}",
            "fertool inspect shows what a file holds",
        )


def _unlabelled(faces: Artefact, keep: np.ndarray) -> Rows:
    index = np.flatnonzero(keep & np.isin(np.asarray(faces["status"]), HAS_IMAGE))
    label = np.array(faces["label"], dtype=np.int64)[index]
    return Rows(torch.from_numpy(index), torch.from_numpy(label))


class Pixels:
    """Pictures of a faces file, gathered by row.

    Args:
        images: (N, H, W, C) uint8, a read-only memory map.
        rows: the rows that will be asked for.
        cache: "device" holds them as uint8 on the device, "host" in memory, "none" leaves them to the file, whose
            pages the system caches and all processes share; "auto" takes the device if they fill less than a third
            of its free memory, else the file.

    Attributes:
        size: height and width of a picture.
    """

    def __init__(self, images: np.ndarray, rows: Tensor, device: torch.device, cache: str = "auto"):
        self.device = device
        size = len(rows) * int(np.prod(images.shape[1:]))
        if cache == "auto":
            cache = "none"
            if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 3:
                cache = "device"
        self.cache = cache
        self.size = tuple(images.shape[1:3])
        self._images = images
        self._held: Tensor | None = None
        if cache != "none":
            self._place = torch.full((len(images),), -1, dtype=torch.int64)
            self._place[rows] = torch.arange(len(rows))
            held = torch.empty((len(rows), *images.shape[1:]), dtype=torch.uint8)
            for start in range(0, len(rows), 4096):
                part = rows[start : start + 4096].numpy()
                held[start : start + len(part)] = torch.from_numpy(images[part])
            self._held = held.to(device) if cache == "device" else held

    def gather(self, rows: Tensor) -> Tensor:
        """(n, C, H, W) uint8 on the device."""
        if self.cache == "device":
            return self._held[self._place[rows].to(self.device)].permute(0, 3, 1, 2)
        if self.cache == "host":
            batch = self._held[self._place[rows]]
        else:
            batch = torch.from_numpy(self._images[rows.numpy()])
        if self.device.type == "cuda":
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        return batch.permute(0, 3, 1, 2)

    def batches(self, index: Iterable[Tensor]) -> Iterator[Tensor]:
        """`gather` for one row list after the other; where pixels are not on the device, ahead of use in a thread."""
        if self.cache == "device":
            return map(self.gather, index)
        return _ahead(self.gather, index)


def _ahead(work: Callable, items: Iterable, depth: int = 3) -> Iterator:
    """Results of `work(item)` in order, computed by one thread up to `depth` items ahead of the reader."""
    results: queue.Queue = queue.Queue(depth)
    stop = threading.Event()
    end = object()

    def run() -> None:
        try:
            for item in items:
                result = work(item)
                while not stop.is_set():
                    try:
                        results.put(result, timeout=0.2)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
            results.put(end)
        except BaseException as e:  # handed to the reader, who raises it
            results.put(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not end:
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        thread.join(timeout=5)


def check_some(faces: Artefact, rows: Rows, what: str) -> None:
    """Refuse to go on with no faces."""
    if not len(rows):
        raise DataError(f"{faces.path} has no labelled faces with a picture {what}", "fertool inspect shows its splits")


def check_classes(faces: Artefact, rows: Rows, what: str) -> None:
    """Refuse to go on with no faces, or to train on a single class."""
    check_some(faces, rows, what)
    if len(rows.labels.unique()) == 1:
        name = faces.classes[int(rows.labels[0])]
        raise DataError(
            f"all {len(rows)} faces of {faces.path} {what} are of the class {name!r}",
            "fertool inspect shows its labels",
        )
