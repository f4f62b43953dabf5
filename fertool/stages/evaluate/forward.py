"""A run's network over rows of a faces file, batch by batch: in this process, on several GPUs, or on a cluster."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from fertool.artefact import Artefact
from fertool.executors import Executor, LocalExecutor
from fertool.models.base import FerModel, Output
from fertool.models.registry import build_model
from fertool.regions.crops import random_boxes
from fertool.settings import Evaluate
from fertool.training.checkpoint import checkpoint, load_weights, network_settings
from fertool.training.data import Pixels, random_crops, region_boxes
from fertool.training.devices import Devices, on_one_device
from fertool.training.inference import infer
from fertool.training.sampling import mixed_seed

#: logits, and attention by name, of the faces of a batch
Batch = tuple[np.ndarray, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Job:
    """What is run over what.

    Attributes:
        run: the run.
        faces: the faces.
        regions: the regions of these faces, for networks with regions.
        repeat: number of the sample of random crops; 0: those of the regions file.
        settings: precision, checkpoint, and faces per batch.
    """

    run: Artefact
    faces: Artefact
    regions: Artefact | None
    repeat: int
    settings: Evaluate


def outputs(job: Job, rows: np.ndarray, devices: Devices, executor: Executor) -> Generator[Batch, None, None]:
    """Yield what the network gives for the rows, in order, a batch at a time.

    Several GPUs of this machine share the batches, as do the GPUs, or else the cores, of a cluster. Everywhere, a face
    is in a batch with the same others.
    """
    size = job.settings.batch
    batches = [rows[first : first + size].tolist() for first in range(0, len(rows), size)]
    workers, gpus = _workers(devices, executor)
    if workers < 2 and isinstance(executor, LocalExecutor):
        yield from make(job, devices)(batches)
        return
    arguments = (job, Devices("cuda" if gpus else "cpu"))
    paths = [a.path for a in (job.run, job.faces, job.regions) if a]
    workers = min(workers, len(batches))
    waiting, due = {}, 0
    results = executor.process(
        make_worker, arguments, enumerate(batches), workers=workers, chunk=1, gpus=gpus, paths=paths
    )
    with closing(results):
        for (number, _), batch in results:
            waiting[number] = batch
            while due in waiting:
                yield waiting.pop(due)
                due += 1


def _workers(devices: Devices, executor: Executor) -> tuple[int, list[str]]:
    """Return the number of workers and the names of their GPUs, one GPU for each."""
    if isinstance(executor, LocalExecutor):
        gpus = executor.gpus()[: devices.count] if devices.kind == "cuda" and devices.count > 1 else []
        return max(1, len(gpus)), gpus
    gpus = executor.gpus()
    return len(gpus) or executor.cores(), gpus


def make(job: Job, devices: Devices) -> Callable[[Sequence[Sequence[int]]], Iterator[Batch]]:
    """Return a function that runs the network over batches of rows."""
    net, forward, device = load_network(job.run, job.settings, devices, region_count(job.regions))
    boxes = boxes_of(job)

    def work(batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        rows = torch.tensor([row for batch in batches for row in batch], dtype=torch.int64)
        pixels = Pixels(job.faces["images"], rows, device)
        for _, output in infer(net, forward, pixels, boxes, rows, job.settings.batch):
            attention = {f"attention_{name}": w.float().cpu().numpy() for name, w in output.attention.items()}
            yield output.logits.float().cpu().numpy(), attention

    return work


def make_worker(job: Job, devices: Devices) -> Callable[[Sequence[tuple[int, list[int]]]], Iterator[Batch]]:
    """Return what a worker does with numbered batches of rows; on the CPU on one thread, as every core has a worker."""
    if devices.kind == "cpu":
        torch.set_num_threads(1)
    work = make(job, devices)
    return lambda tasks: work([rows for _, rows in tasks])


def load_network(
    trained: Artefact, settings: Evaluate, devices: Devices, regions: int = 6
) -> tuple[FerModel, Callable[..., Output], torch.device]:
    """Return a run's network with its weights, in eval mode.

    Returns:
        (network, what to call [the network in the asked precision], device)
    """
    name, stored = trained.path.parent.name, trained.params.get("plugins", {})
    model = network_settings(trained.params["model"], stored, name)
    net = build_model(model, len(trained.classes or ()), regions=regions)
    _, weights = checkpoint(trained, settings.weights)
    other_regions = (
        f"it was trained on another number of regions than {regions}, and its network cannot change it",
        "evaluate it with the regions it was trained on",
    )
    load_weights(net, weights, name, stored, other_regions)
    device, forward = on_one_device(net.eval(), devices, settings.precision)
    return net, forward, device


def region_count(regions: Artefact | None) -> int:
    """Return the number of regions of a face."""
    return regions["boxes"].shape[1] if regions else 1


def boxes_of(job: Job) -> torch.Tensor:
    """Return the region boxes of every face, with one sample of the random crops."""
    crops = random_crops(job.regions)
    if not job.repeat or job.regions is None or crops is None:
        return region_boxes(job.faces, job.regions)
    seed = mixed_seed(job.regions.params["seed"], job.repeat)
    return torch.from_numpy(random_boxes(job.faces.ids.tolist(), crops.count, crops.ratio, seed).astype(np.float32))
