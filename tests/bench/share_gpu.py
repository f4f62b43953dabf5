"""Two trainings on one device at the same time, beside one that has it alone.

    python tests/bench/share_gpu.py [--device cuda] [--batch 32] [--json FILE]

The two are independent processes with the same weights and faces. (One training over several processes takes a GPU for
each: NCCL refuses two processes on the same one.) What is compared is faces per second of both together with those of
the first alone; turns alternate. The losses of both should agree within what the order of sums leaves open.
"""

import argparse
import functools
import json
import tempfile
from pathlib import Path
from statistics import median

import torch
from side_by_side import Way, take_turns
from train_step import CLASSES, fertool, write_faces

from fertool.models.ran import Ran, RanSettings
from fertool.settings import Train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    parser.add_argument("--batch", type=int, default=16, help="faces per step (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of a region at the network (%(default)s)")
    parser.add_argument("--steps", type=int, default=2, help="timed steps in a turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()

    torch.manual_seed(0)
    weights = Ran(RanSettings(size=given.size), len(CLASSES)).state_dict()
    settings = Train(global_batch=given.batch, precision=given.precision)
    with tempfile.TemporaryDirectory() as folder:
        ways = {}
        for name in ("first", "second"):
            place = Path(folder, name)
            place.mkdir()
            write_faces(place, given.batch * (given.steps + 1))
            ways[name] = Way(
                functools.partial(fertool, place, weights, settings, given.size, given.steps, given.device)
            )
        results = take_turns(ways, given.turns, groups=[["first"], ["first", "second"]])

    turns = {"alone": results["first"][::2], "first": results["first"][1::2], "second": results["second"]}
    faces = given.batch * given.steps
    rates = {name: [faces / sum(turn["seconds"]) for turn in those] for name, those in turns.items()}
    alone = median(rates["alone"])
    together = [a + b for a, b in zip(rates["first"], rates["second"], strict=True)]
    gain = median(b / a for a, b in zip(rates["alone"], together, strict=True))
    starts = zip(turns["alone"][0]["losses"], turns["second"][0]["losses"], strict=True)
    apart = max(abs(a - b) for a, b in starts)
    where = torch.cuda.get_device_name() if given.device == "cuda" else f"{torch.get_num_threads()} threads each"
    facts = {k: getattr(given, k) for k in ("precision", "batch", "size", "steps", "turns")}
    facts |= {"device": where, "torch": torch.__version__, "alone": alone, "together": median(together)}
    facts |= {"gain": gain, "loss_difference": apart, "memory": turns["second"][-1]["memory"]}
    if given.json:
        given.json.write_text(json.dumps(facts, indent=2))
    print(f"RAN at {given.size}², batches of {given.batch}, precision {given.precision}, {where}")
    print(f"alone {alone:.1f} faces a second; largest difference of the losses {apart:.1e}")
    print(f"two together {median(together):.1f} faces a second: {gain:.2f} times as many as one alone")


if __name__ == "__main__":
    main()
