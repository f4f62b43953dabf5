"""Predictions with weights laid out channels last, as eval and predict have them, beside torch's usual layout.

    python tests/bench/inference.py [--network ran va-cnn] [--batch 2] [--device cuda] [--turns 3]

Networks have the papers' sizes and random weights; a turn is one forward pass. Both layouts give the same logits.
"""

import argparse
import functools
import time

import torch
from side_by_side import Way, every, ratio, take_turns

from fertool import console
from fertool.models.registry import build_model, model_settings
from fertool.requirements import Regions

LAYOUTS = {"channels last": torch.channels_last, "usual": torch.contiguous_format}


def forward(name: str, layout: str, batch: int, device: str, bf16: bool):
    """A function that gives the logits of random faces."""
    torch.manual_seed(0)
    net = build_model(model_settings({"name": name}), 7).eval().to(device, memory_format=LAYOUTS[layout])
    views = torch.rand(batch, 6 if Regions() in net.requires else 1, net.input.channels, *net.input.size, device=device)

    @torch.inference_mode()
    def run():
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            return net(views).logits.float().cpu()

    return run


def prepare(*what):
    run = forward(*what)
    run()

    def turn() -> dict:
        began = time.perf_counter()
        run()
        return {"seconds": [time.perf_counter() - began]}

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", default=["ran", "lnlattennet", "ws-lgrn", "va-cnn", "man"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    rows = []
    for name in asked.network:
        last, usual = (forward(name, layout, 1, "cpu", False)() for layout in LAYOUTS)
        apart = float((last - usual).abs().max())
        if apart > 1e-4:
            raise SystemExit(f"the two layouts of {name} differ by {apart}")
        for bf16 in (False, True):
            ways = {
                layout: Way(functools.partial(prepare, name, layout, asked.batch, asked.device, bf16))
                for layout in LAYOUTS
            }
            found = take_turns(ways, asked.turns)
            times = [1000 * min(every(found[layout], "seconds")) / asked.batch for layout in LAYOUTS]
            faster = ratio(found["usual"], found["channels last"], "seconds")
            rows.append((name, "bf16" if bf16 else "32", *(f"{t:.0f}" for t in times), f"{faster:.2f}", f"{apart:.0e}"))
    columns = ("network", "precision", *(f"{layout}, ms a face" for layout in LAYOUTS), "times as fast", "logits apart")
    console.show(console.table(f"forward passes, batch {asked.batch}, {asked.device}", columns, rows))


if __name__ == "__main__":
    main()
