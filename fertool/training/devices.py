"""Processes and devices: one process per device, on one machine or several."""

import logging
import os
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy

from fertool.errors import DeviceError

logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # its greetings are not the user's business

_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True)
class Devices:
    """What to run on: "cuda" or "cpu", how many processes on each machine, how many machines."""

    kind: str
    count: int = 1
    nodes: int = 1


def choose(gpus: int | None, processes: int = 1, nodes: int = 1) -> Devices:
    """The devices meant by `--gpus N`: N GPUs; 0 means the CPU, in `processes` processes; None takes one GPU if
    there is one.

    Raises:
        DeviceError: more GPUs than this machine has.
    """
    visible = torch.cuda.device_count()
    if gpus is None:
        gpus = min(1, visible) if processes == 1 else 0
    if gpus > visible:
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(visible)) or "none"
        raise DeviceError(
            f"--gpus {gpus}: this machine has {visible} GPU{'s' * (visible != 1)} ({names})",
            f"use --gpus {visible}" + ("" if visible else ", which runs on the CPU"),
        )
    return Devices("cuda", gpus, nodes) if gpus else Devices("cpu", processes, nodes)


def one_device(devices: Devices, precision: str) -> Fabric:
    """A single process on the first of the devices, for predictions."""
    return Fabric(accelerator=devices.kind, devices=1, precision=_precision(devices, precision))


def _precision(devices: Devices, precision: str) -> str:
    if precision == "16" and devices.kind == "cpu":
        raise DeviceError("precision 16 needs a GPU", "use --precision bf16 or 32")
    return _PRECISION[precision]


def start(devices: Devices, precision: str, work, *args):
    """Run `work(fabric, *args)` in one process per device and give what it returns on the first.

    Started by torchrun or Slurm, this process is one of them; otherwise the others are spawned.
    """
    options = {"accelerator": devices.kind, "devices": devices.count, "num_nodes": devices.nodes}
    launched = any(v in os.environ for v in ("TORCHELASTIC_RUN_ID", "SLURM_PROCID"))
    many = devices.count * devices.nodes > 1
    if many:
        backend = "nccl" if devices.kind == "cuda" else "gloo"
        method = "popen" if launched else "spawn"
        options["strategy"] = DDPStrategy(process_group_backend=backend, start_method=method)
    fabric = Fabric(precision=_precision(devices, precision), **options)
    if many and not launched:
        return fabric.launch(_Process(work, args))
    fabric.launch()
    return work(fabric, *args)


class _Process:
    """The work of a spawned process and its arguments, told its rank first, so that only rank 0 prints."""

    def __init__(self, work, args: tuple):
        self.work, self.args = work, args

    def __call__(self, fabric):
        os.environ["RANK"] = str(fabric.global_rank)
        return self.work(fabric, *self.args)
