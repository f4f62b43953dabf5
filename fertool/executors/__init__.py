"""Where row-by-row work runs: in processes of this machine, or on a Ray cluster."""

import os

from fertool.errors import UsageError, nearest
from fertool.executors.base import Executor
from fertool.executors.local import LocalExecutor

__all__ = ["NAMES", "VARIABLE", "Executor", "LocalExecutor", "choose"]

#: names of the executors; environment variable with the default
NAMES = ("local", "ray")
VARIABLE = "FERTOOL_EXECUTOR"


def choose(name: str | None = None, ray_address: str | None = None) -> Executor:
    """Return an executor.

    Args:
        name: "local" or "ray"; None: as the environment variable says, else local.
        ray_address: HOST:PORT of a running cluster; None: one that runs on this machine, else a new one.

    Raises:
        UsageError: an unknown name, or an address without Ray.
    """
    name = name or os.environ.get(VARIABLE) or "local"
    if name not in NAMES:
        raise UsageError(f"there is no executor {name!r}", nearest(name, NAMES))
    if name == "ray":
        from fertool.executors.ray_cluster import RayExecutor

        return RayExecutor(ray_address)
    if ray_address:
        raise UsageError(f"--ray-address {ray_address} has no use with the local executor", "add --executor ray")
    return LocalExecutor()
