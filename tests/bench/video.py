"""How many frames of a video a second, by each way of reading it and of finding its faces.

    python tests/bench/video.py VIDEO [--turns 3] [--step 1] [--detector mtcnn]

Read: all frames as pixels by OpenCV and by PyAV. Find: faces of every `step`-th frame in this process, with tracks,
and in as many workers as there are cores (their start counted, and without). Frames a second of the clock, and CPU a
frame, also that of the workers; the ways take turns.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from side_by_side import Way, take_turns

from fertool import pool
from fertool.executors import LocalExecutor
from fertool.faces.media import Sampling, named, pictures
from fertool.settings import DetectAlign, Predict
from fertool.videos import files, numbered, open_video


def reading(path: Path, library: str) -> Callable[[], dict]:
    def turn() -> dict:
        files.find_spec = find_spec if library == "pyav" else lambda name: None
        with open_video(path) as video:
            return timed(video.image() is not None for _ in numbered(video))

    return turn


def finding(path: Path, step: int, detector: str, track: bool, workers: int) -> Callable[[], dict]:
    import torch

    from fertool.stages.predict.detection import FaceSearch, in_workers, one_by_one
    from fertool.stages.predict.tracks import tracked

    torch.set_num_threads(pool.cores())
    search = FaceSearch(DetectAlign(detector=detector), Predict(track=track), False, "cpu")

    def turn() -> dict:
        stream = pictures(named([str(path)]), Sampling(step))
        found = (
            in_workers(search, stream, workers, (), LocalExecutor())
            if workers > 1
            else one_by_one(search, stream, False)
        )
        return timed(bool(seen.faces) for seen in (tracked(found) if track else found))

    return turn


def timed(frames: Iterator[bool]) -> dict:
    began, cpu = time.monotonic(), sum(os.times()[:4])
    count, first = 0, 0.0
    for _ in frames:
        first = first or time.monotonic()
        count += 1
    seconds = time.monotonic() - began
    after = (count - 1) / max(time.monotonic() - first, 1e-9)
    return {"frames": count, "rate": count / seconds, "rate_after": after, "cpu": (sum(os.times()[:4]) - cpu) / count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--detector", default="mtcnn")
    args = parser.parse_args()
    find = partial(finding, args.video, args.step, args.detector)
    ways = {
        "read by OpenCV": Way(partial(reading, args.video, "opencv")),
        "read by PyAV": Way(partial(reading, args.video, "pyav")),
        "find": Way(partial(find, False, 1)),
        "find and track": Way(partial(find, True, 1)),
        f"find and track, {pool.cores()} workers": Way(partial(find, True, pool.cores())),
    }
    for name, turns in take_turns(ways, args.turns).items():
        rate, after, cpu = (median(turn[key] for turn in turns) for key in ("rate", "rate_after", "cpu"))
        print(f"{name:28} {rate:7.1f} frames/s ({after:7.1f} after the first), {1000 * cpu:7.1f} ms of CPU a frame")


if __name__ == "__main__":
    main()
