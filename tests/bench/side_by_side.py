"""Measure several ways of doing the same work side by side.

Every way lives in a process of its own, so that its peak memory is its own. The processes take turns, A B C A B C,
one at work while the others wait: whatever else the machine does falls on all of them alike, and ratios hold.
"""

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from unittest.mock import patch


@dataclass(frozen=True)
class Way:
    """A way of doing the work.

    Attributes:
        prepare: returns the function that does and measures the work of one turn. It is sent to another process: a
            function of a module, or a partial of one.
        environment: variables of that process.
    """

    prepare: Callable[[], Callable[[], dict]]
    environment: Mapping[str, str] = field(default_factory=dict)


def take_turns(
    ways: Mapping[str, Way], turns: int, groups: Sequence[Sequence[str]] | None = None
) -> dict[str, list[dict]]:
    """Let every way have `turns` turns, alternating.

    Args:
        groups: names of ways that work at the same time, group after group; by default each alone.

    Returns:
        What each way's turns returned, with "memory" added: the process's peak so far in bytes.

    Raises:
        RuntimeError: a process ended before its turns were over; its traceback is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    results: dict[str, list[dict]] = {name: [] for name in ways}
    lines, processes = {}, []
    try:
        for name, way in ways.items():
            lines[name], theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, way.prepare), name=name)
            with patch.dict(os.environ, way.environment):
                process.start()
            theirs.close()
            processes.append(process)
        for name, line in lines.items():
            _hear(line, name)  # prepared
        for _ in range(turns):
            for group in groups or [[name] for name in ways]:
                for name in group:
                    lines[name].send("go")
                for name in group:
                    results[name].append(_hear(lines[name], name))
    finally:
        for line in lines.values():
            line.close()
    for process in processes:
        process.join()
    return results


def _hear(line, name: str):
    try:
        return line.recv()
    except EOFError:
        raise RuntimeError(f"{name} ended before its turns were over") from None


def _serve(line, prepare: Callable) -> None:
    turn = prepare()
    line.send("ready")
    while True:
        try:
            line.recv()
        except EOFError:
            return
        result = turn()
        line.send({"memory": _peak_memory(), **result})


def _peak_memory() -> int:
    """The most memory this process has held, in bytes. (ru_maxrss would start at its parent's.)"""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def every(results: list[dict], key: str) -> list[float]:
    """All values of a list-valued figure over the turns of one way."""
    return [value for turn in results for value in turn[key]]


def ratio(base: list[dict], other: list[dict], key: str) -> float:
    """How many times as long `base` takes as `other`: the median over turns, each compared with its neighbour."""
    return median(median(b[key]) / median(o[key]) for b, o in zip(base, other, strict=True))
