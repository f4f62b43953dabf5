"""How long `fertool datasets check` takes on a large dataset, and how much memory.

    python tests/bench/listing.py [--images 450000] [--keep FOLDER]

Makes a tree of AffectNet's layout (lists with 68 landmarks a line, images as empty files), counts how long the
plain listing of its files and reading of its lists takes, and checks it with the real command.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FOLDER = 1000  # images in one of AffectNet's folders


def write(root: Path, count: int) -> None:
    """A tree with `count` images, one in a hundred for validation."""
    rng = np.random.default_rng(0)
    lists = root / "Manually_Annotated_file_lists"
    lists.mkdir(parents=True)
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    with open(lists / "training.csv", "w") as train, open(lists / "validation.csv", "w") as val:
        train.write(header + "\r\n")
        for i in range(count):
            folder = root / "Manually_Annotated_Images" / str(i // FOLDER)
            if i % FOLDER == 0:
                folder.mkdir(parents=True)
                marks = ";".join(f"{v:.2f}" for v in rng.uniform(50, 400, 136))
            name = f"{i:056x}.jpg"
            os.close(os.open(folder / name, os.O_CREAT))
            to = val if i % 100 == 0 else train
            to.write(f"{i // FOLDER}/{name},10,10,400,400,{marks},{i % 11},0.1,-0.1\r\n")


def count_lines(path: Path) -> int:
    with open(path) as lines:
        return sum(1 for _ in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=450_000)
    parser.add_argument("--keep", type=Path, help="make the tree here and leave it, or use the one that is there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = chosen.keep or Path(scratch) / "affectnet"
        if not root.exists():
            write(root, chosen.images)
        started = time.perf_counter()
        files = sum(len(names) for _, _, names in os.walk(root))
        lines = sum(map(count_lines, root.glob("*/*.csv")))
        print(f"plain: {files:,} files and {lines:,} lines in {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "fertool", "datasets", "check", "auto", str(root)], check=False)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = time.perf_counter() - started
        print(f"checked in {took:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of CPU, {used.ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
