"""A small network that guesses what covers a face, learned from drawn occluders alone.

It sees 48 x 48 grey pixels, as few as FERPlus has. Four blocks of convolution and pooling keep where things are on a
grid of 3 x 3, because the four types differ by nothing else.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from fertool.occlusion.training_samples import SIDE
from fertool.subsets import OCCLUSIONS

WEIGHTS = Path(__file__).with_name("guesser.safetensors")

_CHANNELS = (1, 16, 32, 64, 96)
_BATCH = 64
_RATE = 4e-3  # highest learning rate, of one cycle
_FLAT = 8.0  # grey levels added to a face's spread, so that flat ones are not blown up to noise


class Guesser(nn.Sequential):
    """(N, 1, 48, 48) grey levels -> (N, 5) logits: nothing, then the types of `OCCLUSIONS`."""

    def __init__(self) -> None:
        blocks: list[nn.Module] = []
        for before, after in pairwise(_CHANNELS):
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
            blocks += [convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        cells = (SIDE // 2 ** (len(_CHANNELS) - 1)) ** 2
        super().__init__(*blocks, nn.Flatten(), nn.Dropout(0.4), nn.Linear(_CHANNELS[-1] * cells, 1 + len(OCCLUSIONS)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spread = x.std((2, 3), keepdim=True) + _FLAT
        return super().forward((x - x.mean((2, 3), keepdim=True)) / spread)


def learn(
    images: np.ndarray, types: np.ndarray, *, epochs: int, seed: int, advance: Callable[..., None] = lambda *_: None
) -> Guesser:
    """Train a network on this process's threads.

    Args:
        images: (N, 48, 48) uint8. types: (N,) 0 nothing, else 1 + place in `OCCLUSIONS`.
        advance: called after every epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Guesser()
        x, y = torch.from_numpy(images)[:, None], torch.from_numpy(types.astype(np.int64))
        batch = min(_BATCH, len(x))
        steps = len(x) // batch
        optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE / 2, weight_decay=1e-3)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=epochs * steps)
        for _ in range(epochs):
            order = torch.randperm(len(x), generator=generator)
            for part in order[: steps * batch].split(batch):
                logits = net(_varied(x[part].float(), generator))
                loss = F.cross_entropy(logits, y[part], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                cycle.step()
            advance()
    return net.eval()


def shipped() -> Guesser:
    """Return the network that comes with fertool. It has seen rendered faces and drawings on them, no image."""
    net = Guesser()
    net.load_state_dict(load_file(str(WEIGHTS)))
    return net.eval()


@torch.inference_mode()
def guess(net: Guesser, images: np.ndarray) -> np.ndarray:
    """Return (N, 5) probabilities, the mean over each face and its mirror image."""
    parts = torch.from_numpy(images)[:, None].split(256)
    sides = [(net(p.float()).softmax(1) + net(p.float().flip(3)).softmax(1)) / 2 for p in parts]
    return torch.cat(sides).numpy() if sides else np.zeros((0, 1 + len(OCCLUSIONS)), np.float32)


def _varied(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Augment images geometrically, in light, noise and blur, so that no seam of the drawing shows."""
    n = len(x)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(shape or (n,), generator=generator)

    angle, scale = uniform(-0.17, 0.17), uniform(0.87, 1.15)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    across, along = (
        torch.stack([angle.cos() * mirror, -angle.sin()], 1),
        torch.stack([angle.sin() * mirror, angle.cos()], 1),
    )
    matrix = torch.cat([torch.stack([across, along], 1) * scale[:, None, None], uniform(-0.08, 0.08, n, 2, 1)], 2)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    # alignment repeats the last line of an image that ends too early: so must pictures here, before things or not
    ends = torch.where(uniform(0, 1, n, 4) < 0.25, uniform(0.55, 1, n, 4), torch.ones(n, 4))[:, :, None, None]
    grid = torch.stack(
        [grid[..., 0].clamp(-ends[:, 0], ends[:, 1]), grid[..., 1].clamp(-ends[:, 2].clamp(min=0.8), ends[:, 3])],
        dim=-1,
    )
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = 255 * (x / 255).clamp(0, 1) ** torch.exp(uniform(-0.4, 0.4))[:, None, None, None]
    x = x + torch.randn(x.shape, generator=generator) * uniform(0, 8)[:, None, None, None]
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.where((uniform(0, 1) < 0.3)[:, None, None, None], soft, x)
