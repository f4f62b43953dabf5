"""How much memory a recipe's training step needs at its batch.

    python tests/bench/memory.py [RECIPE ...] [--device cuda]

On the CPU the peak of a fresh process is measured at two small batches and extended to the recipe's batch along a
straight line, because the large networks would not fit; on a GPU it is measured at the recipe's batch.
"""

import argparse
import json
import subprocess
import sys

from fertool import console, recipe

DEFAULT = ("ran-ferplus", "lnlattennet-rafdb", "amg-celeba", "ws-lgrn-rafdb", "va-cnn-rafd-front", "va-cnn-rafd-pose")
DEFAULT += ("rasnet-rafdb", "man-rafdb")
SMALL = (4, 8)


def step(name: str, batch: int, device: str) -> int:
    """Peak bytes of one training step with its optimiser, beyond what the libraries hold."""
    import resource

    import torch

    from fertool.models.base import Targets
    from fertool.models.registry import build_model, model_settings
    from fertool.requirements import AttributeGroups, Regions
    from fertool.training.state import make_optimizer

    s = recipe.load(name).settings("train")
    torch.manual_seed(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    net = build_model(model_settings(s.model), 7).to(device, memory_format=torch.channels_last)
    net.train()
    faces = batch * (2 if net.pairs is not None or isinstance(net.selection, AttributeGroups) else 1)
    views = torch.randn(
        faces, 6 if Regions() in net.requires else 1, net.input.channels, *net.input.size, device=device
    )
    given = {"masks": torch.zeros(faces, 8, 14, 14), "groups": torch.arange(2 * faces).view(faces, 2) % 2}
    targets = Targets(torch.arange(faces, device=device) % 7, given={k: v.byte().to(device) for k, v in given.items()})
    optimizer = make_optimizer(net, s)
    for _ in range(2):
        sum(net.losses(net(views), targets).values()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def measure(name: str, batch: int, device: str) -> int:
    command = [sys.executable, __file__, "--one", json.dumps([name, batch, device])]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=DEFAULT)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(step(*json.loads(given.one)))
        return
    rows = []
    for name in given.recipes:
        batch = recipe.load(name).settings("train").global_batch
        if given.device == "cuda":
            total, each = measure(name, batch, "cuda"), None
        else:
            low, high = (measure(name, b, "cpu") for b in SMALL)
            each = (high - low) / (SMALL[1] - SMALL[0])
            total = low + each * (batch - SMALL[0])
        rows.append((name, batch, f"{total / 2**30:.1f}", None if each is None else f"{each / 2**20:.0f}"))
        print(rows[-1], flush=True)
    console.show(console.table("memory of a training step", ("recipe", "batch", "GB", "MB per sample"), rows))


if __name__ == "__main__":
    main()
