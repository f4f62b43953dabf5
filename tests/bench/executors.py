"""detect-align by the two executors with the same number of workers: processes of this machine, and Ray actors.

    python tests/bench/executors.py IMAGES [--workers 2] [--sizes 200 1000] [--rounds 3] [options of detect-align]

Every run is a command of its own, start included; they take turns. Ray runs on a cluster that is started before and has
as many cores as there are workers. The faces.h5 of both must have the same digest. Two numbers of images tell what the
start costs, and what an image costs after it.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from fertool import artefact, console


@contextmanager
def cluster(cores: int) -> Iterator[str]:
    """Start a Ray cluster of one node; yield its address."""
    from ray.cluster_utils import Cluster

    node = Cluster(initialize_head=True, head_node_args={"num_cpus": cores, "num_gpus": 0, "include_dashboard": False})
    try:
        yield node.address
    finally:
        node.shutdown()


def measure(images: str, limit: int, out: Path, options: Sequence[str]) -> tuple[float, str]:
    """Run detect-align once.

    Returns:
        Seconds on the clock, and what was written to stderr.
    """
    command = [sys.executable, "-m", "fertool", "detect-align", images, "--limit", str(limit), "--out", str(out)]
    began = time.monotonic()
    done = subprocess.run([*command, "--overwrite", *options], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.monotonic() - began, done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="folder of images")
    parser.add_argument("--workers", type=int, default=2, help="of each executor (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs=2, default=[200, 1000], metavar=("FEW", "MANY"))
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    given, options = parser.parse_known_args()
    few, many = given.sizes
    if not few < many:
        raise SystemExit("--sizes must be two numbers, the smaller one first")

    seconds: dict[tuple[str, int], list[float]] = {(name, n): [] for name in ("local", "ray") for n in given.sizes}
    shares = []
    with cluster(given.workers) as address, tempfile.TemporaryDirectory() as folder:
        ways = {"local": ("--executor", "local"), "ray": ("--executor", "ray", "--ray-address", address)}
        for _ in range(given.rounds):
            for n in given.sizes:
                digests = set()
                for name, way in ways.items():
                    out = Path(folder, name, "faces.h5")
                    took, said = measure(given.images, n, out, (*way, "--workers", str(given.workers), *options))
                    seconds[name, n].append(took)
                    digests.add(artefact.read(out, "faces").digest)
                    shares += [int(share) for share in re.findall(r"writing took (\d+)% of the time", said)]
                assert len(digests) == 1, f"the digests of {n} faces differ"

    def after_start(name: str) -> float:
        return 1000 * (median(seconds[name, many]) - median(seconds[name, few])) / (many - few)

    rows = [
        (
            f"seconds for {n:,}",
            *(median(seconds[name, n]) for name in ways),
            _times(seconds["local", n], seconds["ray", n]),
        )
        for n in given.sizes
    ]
    each = [after_start(name) for name in ways]
    rows.append(("then ms per image", *each, each[1] / each[0]))
    console.show(
        console.table(
            f"detect-align of {given.images}, {given.workers} workers, {os.cpu_count()} cores, medians of "
            f"{given.rounds} rounds; equal digests; Ray's writer was busy {max(shares)} % of the time",
            ("measured", "local", "ray", "ray / local"),
            rows,
        )
    )


def _times(local: Sequence[float], ray: Sequence[float]) -> float:
    """Return how many times as long Ray took, in the median of the rounds."""
    return median(b / a for a, b in zip(local, ray, strict=True))


if __name__ == "__main__":
    main()
