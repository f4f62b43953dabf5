"""Processes and devices: one process per device, on one machine or several."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from fertool import console, streams
from fertool.errors import DeviceError, FertoolError, out_of_memory

for _logger in ("lightning.fabric", "lightning.pytorch", "torch.multiprocessing.spawn"):
    logging.getLogger(_logger).setLevel(logging.ERROR)  # their greetings and farewells are not the user's business

_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True)
class Devices:
    """What to run on: "cuda" or "cpu", how many processes on each machine, how many machines."""

    kind: str
    count: int = 1
    nodes: int = 1


def choose(gpus: int | None, processes: int = 1, nodes: int = 1) -> Devices:
    """Return the devices meant by `--gpus N`: N GPUs; 0 means the CPU, in `processes` processes; None takes one GPU if
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


def describe(device: torch.device) -> str:
    """Return what a device is, in words, and how many of them work together."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    together = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return f"{together} × {name}" if together > 1 else name


def one_device(devices: Devices, precision: str) -> Fabric:
    """Return a single process on the first of the devices, for predictions."""
    return Fabric(accelerator=devices.kind, devices=1, precision=_precision(devices, precision))


def _precision(devices: Devices, precision: str) -> Any:
    if precision == "16" and devices.kind == "cpu":
        raise DeviceError("precision 16 needs a GPU", "use --precision bf16 or 32")
    return _PRECISION[precision]


def start(devices: Devices, precision: str, work: Callable[..., Any], *args: Any) -> Any:
    """Run `work(fabric, *args)` in one process per device and give what it returns on the first.

    Started by torchrun or Slurm, this process is one of them and works with the first one's arguments; otherwise the
    others are spawned.

    Raises:
        DeviceError: a process died, or several machines are asked for and nothing has started them.
        FertoolError: what a process raised, OutOfMemoryError among them.
    """
    options: dict[str, Any] = {"accelerator": devices.kind, "devices": devices.count, "num_nodes": devices.nodes}
    launched = is_launched()
    if devices.nodes > 1 and not launched:
        raise DeviceError(
            f"--nodes {devices.nodes}: nothing has started this command on the other machines",
            "start it on every machine with torchrun or srun",
        )
    many = devices.count * devices.nodes > 1
    if many:
        backend = "nccl" if devices.kind == "cuda" else "gloo"
        method: Literal["popen", "spawn"] = "popen" if launched else "spawn"
        options["strategy"] = DDPStrategy(process_group_backend=backend, start_method=method)
    fabric = Fabric(precision=_precision(devices, precision), **options)
    if many and not launched:
        return _spawn(fabric, work, args)
    fabric.launch()
    return work(fabric, *fabric.broadcast(args))


def on_any(fabric: Fabric, flag: bool) -> bool:
    """Whether the answer is yes in any process: all must leave the loop at the same step."""
    if fabric.world_size == 1:
        return flag
    flags = cast(Tensor, fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum"))
    return bool(flags > 0)


def is_launched() -> bool:
    """Whether torchrun or Slurm started this process as one of several."""
    return any(v in os.environ for v in ("TORCHELASTIC_RUN_ID", "SLURM_PROCID"))


def _spawn(fabric: Fabric, work: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
    try:
        return fabric.launch(_Process(work, args, errors))
    except ProcessRaisedException:
        if errors.empty():
            raise
        raise errors.get() from None
    except ProcessExitedException as e:
        how = f"by {e.signal_name}" if e.signal_name else f"with code {e.exit_code}"
        raise DeviceError(
            f"training process {e.error_index} was ended {how}",
            "the machine may be short of memory; if the run has saved its state, --resume goes on",
        ) from e


class _Process:
    """The work of a spawned process and its arguments, told its rank first, so that only rank 0 prints, and that as its
    parent would. What it raises for the user is sent home: torch would only pass on a traceback.
    """

    def __init__(self, work: Callable[..., Any], args: tuple[Any, ...], errors: Any):
        self.work, self.args, self.errors, self.console = work, args, errors, console.state()

    def __call__(self, fabric: Fabric) -> Any:
        os.environ["RANK"] = str(fabric.global_rank)
        streams.prepare()
        console.configure(**self.console)
        try:
            result = self.work(fabric, *self.args)
            # gloo's threads must have ended before the interpreter does, or it aborts
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
            return result
        except Exception as e:
            if told := out_of_memory(e) or (e if isinstance(e, FertoolError) else None):
                self.errors.put(told)
            raise
