"""Training steps of LNLAttenNet, MAN and WS-LGRN beside their plainest forms.

    python tests/bench/network_step.py [--network lnlattennet man ws-lgrn amg] [--batch 4] [--device cuda] [--bf16]

The plain forms loop in Python: over patches, with one network each; over regions, each masked before its own
convolution; over the two faces of a pair. AMG is the other way about: fertool runs its two branches one after the
other, and the other form runs them as one, stacked by torch.func.vmap. Both forms get the same weights, and before
anything is timed they have to give the same logits and gradients. Times are forward and backward passes over random
faces at the papers' sizes; memory is the peak of the process.
"""

import argparse
import functools
import time
from statistics import median

import torch
import torch.nn.functional as F
from side_by_side import Way, every, ratio, take_turns
from torch import Tensor, nn

from fertool import console
from fertool.models import lnlattennet, man
from fertool.models.amg import activation_map
from fertool.models.registry import build_model, model_settings


class OneByOne(nn.Module):
    """A network of M patches side by side, as M networks in a list."""

    def __init__(self, together: nn.Sequential, make, c: int, nets: int):
        super().__init__()
        self.nets = nn.ModuleList(make(c, 1) for _ in range(nets))
        for i, net in enumerate(self.nets):
            for mine, all_of in zip(net, together, strict=True):
                if isinstance(mine, nn.Conv2d):
                    mine.weight.data = all_of.weight.data.chunk(nets)[i].clone()
                    mine.bias.data = all_of.bias.data.chunk(nets)[i].clone()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([net(part) for net, part in zip(self.nets, x.chunk(len(self.nets), dim=1), strict=True)], 1)


class RegionByRegion(man.MultipleAttention):
    """MAN's block with a loop over regions."""

    def forward(self, v: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        q, c, ca = self.weigh(v), v.shape[1], self.channel_attention
        h = ca.squeeze.weight.shape[0] // 8
        fused = 0
        for r in range(8):
            mine, few = slice(c * r, c * (r + 1)), slice(h * r, h * (r + 1))
            f = F.conv2d(v * masks[:, r, None], self.buffer.weight[mine], self.buffer.bias[mine])
            squeezed = F.conv2d(f.mean((2, 3), keepdim=True), ca.squeeze.weight[few], ca.squeeze.bias[few]).relu()
            f = f * F.conv2d(squeezed, ca.excite.weight[mine], ca.excite.bias[mine]).sigmoid()
            fused = fused + q[:, r, None, None, None] * f
        return fused, q


def two_passes(net, views: Tensor) -> Tensor:
    """WS-LGRN's two streams one after the other."""
    first, second = net(views[0::2]).logits, net(views[1::2]).logits
    return torch.stack([first, second], dim=1).flatten(0, 1)


def stacked_branches(net, views: Tensor) -> Tensor:
    """AMG's two branches as one."""
    branches = [net.eyes, net.mouth]
    stacked, buffers = torch.func.stack_module_state(branches)
    tied = {k: torch.stack([dict(b.named_parameters())[k] for b in branches]) for k in stacked}

    def one(parameters, buffers, x):
        features = torch.func.functional_call(branches[0].trunk, _of(parameters, buffers, "trunk."), (x,))
        weight, bias = parameters["classifier.weight"], parameters["classifier.bias"]
        return F.linear(features.mean(dim=(2, 3)), weight, bias), activation_map(features, weight[1])

    return torch.vmap(one, in_dims=(0, 0, None))(tied, buffers, views[:, 0])[0].transpose(0, 1)


def _of(parameters: dict, buffers: dict, part: str) -> dict:
    return {k.removeprefix(part): v for k, v in {**parameters, **buffers}.items() if k.startswith(part)}


def build(name: str, plain: bool, device: str):
    """(network, function from views to logits)."""
    torch.manual_seed(0)
    net = build_model(model_settings({"name": name}), 7)
    if plain and name == "lnlattennet":
        net.local = OneByOne(net.local, lnlattennet.SimpleNet, 64, 16)
        net.local_attention = OneByOne(net.local_attention, lnlattennet.LocalAttention, 64, 16)
    if plain and name == "man":
        net.attention.__class__ = RegionByRegion
    net = net.eval().to(device, memory_format=torch.channels_last)  # dropout and batch statistics would differ
    other = {"ws-lgrn": two_passes, "amg": stacked_branches}.get(name)
    return net, functools.partial(other, net) if plain and other else lambda views: net(views).logits


def faces(net, batch: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 1, net.input.channels, *net.input.size, generator=generator).to(device)


def step(net, run, views: Tensor, device: str, bf16: bool) -> Tensor:
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        logits = run(views)
    labels = torch.arange(len(views), device=device) % logits.shape[-1]
    flat = logits.float() if logits.ndim == 2 else logits.float().mean(1)
    F.cross_entropy(flat, labels).backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return logits.detach()


def prepare(name: str, plain: bool, batch: int, device: str, bf16: bool):
    net, run = build(name, plain, device)
    views = faces(net, batch, device)
    step(net, run, views, device, bf16)

    def turn() -> dict:
        began = time.perf_counter(), time.process_time()
        net.zero_grad(set_to_none=True)
        step(net, run, views, device, bf16)
        found = {"seconds": [time.perf_counter() - began[0]], "cpu": [time.process_time() - began[1]]}
        return found | ({"memory": torch.cuda.max_memory_allocated()} if device == "cuda" else {})

    return turn


def check_equal(name: str) -> str:
    (ours, run), (theirs, other) = (build(name, plain, "cpu") for plain in (False, True))
    views = faces(ours, 2, "cpu")
    a, b = step(ours, run, views, "cpu", False), step(theirs, other, views, "cpu", False)
    gradients = [next(p.grad for p in net.parameters() if p.grad is not None) for net in (ours, theirs)]
    apart = (a - b).abs().max().item(), (gradients[0] - gradients[1]).abs().max().item()
    if max(apart) > 1e-4:
        raise SystemExit(f"the two forms of {name} differ: {apart}")
    return f"{name}: equal logits (within {apart[0]:.0e}) and gradients ({apart[1]:.0e})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ["lnlattennet", "man", "ws-lgrn", "amg"]
    parser.add_argument("--network", nargs="+", choices=known, default=known)
    parser.add_argument("--batch", type=int, default=4, help="faces per step (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="steps of either form, in turn (%(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--bf16", action="store_true")
    given = parser.parse_args()
    rows = []
    for name in given.network:
        print(check_equal(name), flush=True)
        options = {"batch": given.batch, "device": given.device, "bf16": given.bf16}
        forms = {
            f: Way(functools.partial(prepare, name, f == "other form", **options)) for f in ("fertool", "other form")
        }
        results = take_turns(forms, given.turns)
        for form, turns in results.items():
            rows.append(
                (
                    f"{name}, {form}",
                    f"{1000 * median(every(turns, 'seconds')):.0f}",
                    f"{ratio(turns, results['fertool'], 'seconds'):.2f}",
                    f"{ratio(turns, results['fertool'], 'cpu'):.2f}",
                    f"{turns[-1]['memory'] / 2**20:,.0f}",
                )
            )
    where = torch.cuda.get_device_name() if given.device == "cuda" else f"{torch.get_num_threads()} threads"
    title = f"steps of {given.batch} faces, {where}, torch {torch.__version__}{', bf16' if given.bf16 else ''}"
    console.show(console.table(title, ("", "ms/step", "× fertool", "CPU ×", "peak MB"), rows))


if __name__ == "__main__":
    main()
