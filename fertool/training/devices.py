"""Processes and devices: one process per device, on one machine or several."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from fertool import console, streams
from fertool.errors import DeviceError, FertoolError, out_of_memory
from fertool.launch import Launch, launch

if TYPE_CHECKING:  # lightning is imported where several processes may be started: that takes as long as torch itself
    from lightning.fabric import Fabric

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
    """Return the devices that `--gpus N` asks for.

    N GPUs; 0 means the CPU, in `processes` processes; None takes one GPU if there is one.

    Raises:
        DeviceError: more GPUs than this machine has.
    """
    visible = torch.cuda.device_count()
    if gpus is None:
        gpus = min(1, visible) if processes == 1 else 0
    if gpus > visible:
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(visible)) or "none"
        hint = f"use --gpus {visible}" + ("" if visible else ", which runs on the CPU")
        if "SLURM_JOB_ID" in os.environ:
            hint += f", or ask Slurm for --gpus-per-node={gpus} (with --gpus-per-task a task sees only its own)"
        raise DeviceError(f"--gpus {gpus}: this machine has {visible} GPU{'s' * (visible != 1)} ({names})", hint)
    return Devices("cuda", gpus, nodes) if gpus else Devices("cpu", processes, nodes)


def describe(device: torch.device) -> str:
    """Return what a device is, in words, and how many of them work together."""
    threads = torch.get_num_threads()
    cpu = f"CPU, {threads} thread{'s' * (threads != 1)}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    together = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return f"{together} × {name}" if together > 1 else name


def on_one_device(net: nn.Module, devices: Devices, precision: str) -> tuple[torch.device, Callable[..., Any]]:
    """Move a network to the first of the devices, for predictions.

    Returns:
        (device, what to call [the network in the asked precision])

    Raises:
        DeviceError: the device does not have this precision.
    """
    _check_precision(devices, precision)
    device = torch.device(devices.kind, 0) if devices.kind == "cuda" else torch.device(devices.kind)
    net.to(device).to(memory_format=torch.channels_last)
    if precision == "32":
        return device, net

    def forward(*args: Any) -> Any:
        with torch.autocast(device.type, {"bf16": torch.bfloat16, "16": torch.float16}[precision]):
            return net(*args)

    return device, forward


def _check_precision(devices: Devices, precision: str) -> None:
    if precision == "16" and devices.kind == "cpu":
        raise DeviceError("precision 16 needs a GPU", "use --precision bf16 or 32")


def start(devices: Devices, precision: str, work: Callable[..., Any], *args: Any) -> Any:
    """Run `work(fabric, *args)` in one process per device and give what it returns on the first.

    Started by torchrun or srun, this process is one of them and works with the first one's arguments; otherwise, also
    inside a Slurm allocation, the others are spawned.

    Raises:
        DeviceError: a process died, torchrun or srun has started another number of processes than the devices need, or
            several machines are asked for and nothing has started them.
        FertoolError: what a process raised, OutOfMemoryError among them.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
    from lightning.fabric.strategies import DDPStrategy

    _check_precision(devices, precision)
    options: dict[str, Any] = {"accelerator": devices.kind, "devices": devices.count, "num_nodes": devices.nodes}
    launched = launch()
    if launched:
        _verify(launched, devices)
    elif devices.nodes > 1:
        raise DeviceError(
            f"--nodes {devices.nodes}: nothing has started this command on the other machines",
            "start it on every machine with torchrun or srun",
        )
    many = devices.count * devices.nodes > 1
    if many:
        backend = "nccl" if devices.kind == "cuda" else "gloo"
        method: Literal["popen", "spawn"] = "popen" if launched else "spawn"
        options["strategy"] = DDPStrategy(process_group_backend=backend, start_method=method)
    if launched and launched.launcher == "srun":
        _name_as_torchrun()
    # named, so that Lightning does not take a Slurm allocation for the start of several processes
    options["plugins"] = [TorchElasticEnvironment() if many and launched else LightningEnvironment()]
    fabric = Fabric(precision=cast(Any, _PRECISION[precision]), **options)
    if many and not launched:
        return _spawn(fabric, work, args)
    fabric.launch()
    return work(fabric, *fabric.broadcast(args))


def _verify(launched: Launch, devices: Devices) -> None:
    """Raise DeviceError unless the launcher has started one process for each device of each node."""
    layout, count = launched.layout, devices.count
    if layout == (count,) * devices.nodes:
        return
    started = " + ".join(map(str, layout))
    per_node = max(layout)
    option = "--gpus" if devices.kind == "cuda" else "--cpu-processes"
    flags = "--nodes {} --ntasks-per-node" if launched.launcher == "srun" else "--nnodes {} --nproc-per-node"
    raise DeviceError(
        f"{launched.launcher} started {started} process{'es' * (sum(layout) > 1)} on {len(layout)} "
        f"node{'s' * (len(layout) > 1)}; {option} {count} --nodes {devices.nodes} needs {count} on each of "
        f"{devices.nodes}",
        f"add {option} {per_node} --nodes {len(layout)}, or start it with {launched.launcher} "
        f"{flags.format(devices.nodes)} {count}",
    )


def _name_as_torchrun() -> None:
    """Set the variables of torchrun from those of this srun step, for torch.distributed.

    The first node of the step is the meeting point; job and step choose its port, so that two jobs on one node differ.
    `MASTER_ADDR` and `MASTER_PORT` are kept where they are set.
    """
    from lightning.fabric.plugins.environments import SLURMEnvironment

    env = os.environ
    env["RANK"], env["LOCAL_RANK"] = env["SLURM_PROCID"], env["SLURM_LOCALID"]
    env["WORLD_SIZE"], env["GROUP_RANK"] = env["SLURM_STEP_NUM_TASKS"], env["SLURM_NODEID"]
    env.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(env["SLURM_STEP_NODELIST"]))
    env.setdefault("MASTER_PORT", str(15_000 + (int(env["SLURM_JOB_ID"]) + int(env["SLURM_STEP_ID"])) % 10_000))


def on_any(fabric: "Fabric", flag: bool) -> bool:
    """Return whether the answer is yes in any process: all must leave the loop at the same step."""
    if fabric.world_size == 1:
        return flag
    flags = cast(Tensor, fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum"))
    return bool(flags > 0)


def _spawn(fabric: "Fabric", work: Callable[..., Any], args: tuple[Any, ...]) -> Any:
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
    """The work of a spawned process and its arguments.

    The process gets its rank first, so that only rank 0 prints, with its parent's console settings. Its errors for the
    user are sent to the parent: torch would only pass on a traceback.
    """

    def __init__(self, work: Callable[..., Any], args: tuple[Any, ...], errors: Any):
        self.work, self.args, self.errors, self.console = work, args, errors, console.state()

    def __call__(self, fabric: "Fabric") -> Any:
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
