"""Pixels and region boxes of the faces a run works on, ready to be gathered in batches."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from fertool.artefact import Artefact
from fertool.training.transforms import RandomCrops

WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]], dtype=np.float32)


def region_boxes(faces: Artefact, regions: Artefact | None) -> Tensor:
    """Return (N, K, 4) boxes for every row of the faces; the whole face where there is no regions file."""
    if regions is None:
        return torch.from_numpy(WHOLE).expand(faces.rows, 1, 4)
    regions.require_parent(faces)
    return torch.from_numpy(np.array(regions["boxes"], dtype=np.float32))


def random_crops(regions: Artefact | None) -> RandomCrops | None:
    """Return how the crops of a regions file are sampled anew in training; None if they are not random."""
    if regions is None or regions.params.get("mode") != "random":
        return None
    return RandomCrops(regions.params["random_n"], tuple(regions.params["random_ratio"]))


class Pixels:
    """Images of a faces file, gathered by row.

    Args:
        images: (N, H, W, C) uint8, a read-only memory map.
        rows: the rows that will be asked for.
        cache: "device" holds them as uint8 on the device, "host" in memory, "none" leaves them to the file, whose
            pages the system caches and all processes share; "auto" takes the device if they fill less than a third
            of its free memory, else the file.

    Attributes:
        size: height and width of an image.
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
        """Return (n, C, H, W) uint8 on the device."""
        if self.cache == "device" and self._held is not None:
            return self._held[self._place[rows].to(self.device)].permute(0, 3, 1, 2)
        if self._held is not None:
            batch = self._held[self._place[rows]]
        else:
            batch = torch.from_numpy(self._images[rows.numpy()])
        if self.device.type == "cuda":
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        return batch.permute(0, 3, 1, 2)

    def batches(self, index: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield `gather` of each row list; where pixels are not on the device, ahead of use in a thread."""
        if self.cache == "device":
            return map(self.gather, index)
        return _ahead(self.gather, index)


def _ahead(work: Callable, items: Iterable, depth: int = 3) -> Iterator:
    """Yield results of `work(item)` in order, computed by one thread up to `depth` items ahead of the reader."""
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
