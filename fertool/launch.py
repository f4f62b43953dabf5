"""Launchers: what torchrun or srun says about the processes that it has started together with this one."""

import os
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """The processes that a launcher started together: one is this process, of global rank `rank`.

    `layout` holds the number of processes on each node.
    """

    launcher: str
    rank: int
    layout: tuple[int, ...]


def launch() -> Launch | None:
    """Return how this process was started together with others; None: nothing has started others.

    Inside a Slurm allocation, `SLURM_PROCID` and `SLURM_NTASKS` are set without any process having been started: only
    the variables of a step, which srun sets, say so. A step of one task is alone: it may start processes itself.
    """
    env = os.environ
    if {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= env.keys():
        size = int(env["WORLD_SIZE"])
        each = int(env.get("LOCAL_WORLD_SIZE", size))
        return Launch("torchrun", int(env["RANK"]), (each,) * (size // each))
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in env:
        return Launch("srun", int(env["SLURM_PROCID"]), _layout(env["SLURM_STEP_TASKS_PER_NODE"]))
    return None


def _layout(text: str) -> tuple[int, ...]:
    """Return the tasks on each node from Slurm's notation: 2(x3),1 is 2, 2, 2, 1."""
    runs = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return tuple(int(tasks) for tasks, nodes in runs for _ in range(int(nodes or 1)))


def is_first_process() -> bool:
    """Return whether this process speaks for all: it is alone, or the first of several that were started together."""
    if "RANK" in os.environ:  # also of a process that fertool has started itself
        return os.environ["RANK"] == "0"
    launched = launch()
    return launched is None or launched.rank == 0
