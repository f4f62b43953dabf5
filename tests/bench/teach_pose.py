"""Teach the two networks of fertool/faces/pose_net.npz the pose of rendered heads.

    python tests/bench/teach_pose.py [--heads 4500] [--views 10] [--out fertool/faces/pose_net.npz]

Heads are drawn over ±88° yaw and ±55° pitch, two of every person, in five of the seven expressions (anger and fear are
left for measuring: tests/bench/head_pose.py), some with things before the face. Of each several views are taken: light,
contrast, blur, noise, things that cover it, a cut too tight, mirrored; and with a frame off the head, the way boxes of
detectors are (rough) or the answers of the rough network (fine). About an hour on two cores.
"""

import argparse
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fertool import console
from fertool.faces import onet, pose_net
from fertool.faces.mean_head import POINTS, rotation
from fertool.rendering.occluders import OCCLUSIONS
from fertool.rendering.render import FaceSpec, render_face

_SIDE = 112  # of the stored pictures
_MIDDLE = np.array([0, 0.55, 0.35])  # of the head, in the frame of `head_points`
_LEARNT = ("neutral", "happiness", "sadness", "disgust", "surprise")
_UNIT = 45.0

#: network → hidden units, passes, and kinds of frames: how far off its middle and size may be (half squares and
#: logarithm), and how far it leans away from the head: uniformly up to, or normally by, so many degrees
_LESSONS = {"rough": (64, 18, ((0.28, 40, 0),)), "fine": (128, 30, ((0.10, 0, 6), (0.12, 0, 15)))}


def head(i: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey pixels (112, 112), and pitch, yaw, roll, middle (x, y) and size of the head in pixels."""
    rng = np.random.default_rng([901, i])
    pitch, yaw, roll = rng.uniform(-55, 55), rng.uniform(-88, 88), np.clip(rng.normal(0, 12), -35, 35)
    if rng.random() < 0.4:
        pitch = np.clip(rng.normal(0, 12), -55, 55)
    spec = FaceSpec(
        subject=40_000_000 + i // 2,
        expression=str(rng.choice(_LEARNT)),
        intensity=float(rng.uniform(0.4, 1)),
        pitch=float(pitch),
        yaw=float(yaw),
        roll=float(roll),
        occlusion=str(rng.choice(OCCLUSIONS)) if rng.random() < 0.08 else "",
        seed=int(rng.integers(2**31)),
        size=192,
    )
    face, turn = render_face(spec), rotation(pitch, yaw, roll)
    points = POINTS @ turn.T
    drawn = points[:, :2] * 16 / (16 + points[:, 2:])
    seen = face.landmarks.astype(float)
    size = ((drawn - drawn.mean(0)) * (seen - seen.mean(0))).sum() / ((drawn - drawn.mean(0)) ** 2).sum()
    middle = seen.mean(0) + size * ((turn @ _MIDDLE)[:2] - drawn.mean(0))
    scale = _SIDE / spec.size
    grey = cv2.resize(cv2.cvtColor(face.pixels, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return grey, np.array([pitch, yaw, roll, *((middle + 0.5) * scale - 0.5), size * scale])


def view(picture: np.ndarray, truth: np.ndarray, frame: tuple, rng: np.random.Generator) -> tuple:
    """A picture (48, 48) of the head in a frame that is off, and what to say of it (6,), see `pose_net.MIRRORED`."""
    off, most, spread = frame
    angles, middle, size = truth[:3].copy(), truth[3:5].copy(), truth[5]
    if rng.random() < 0.5:
        picture, middle[0] = picture[:, ::-1], _SIDE - 1 - middle[0]
        angles[1:] *= -1
    x = _altered(_cut_tight(picture, middle, size, rng), rng)
    lean = angles[2] + rng.uniform(-most, most) + rng.normal(0, 1) * spread
    grown, shift = rng.uniform(-off, off), rng.uniform(-off, off, 2)
    half = pose_net.SQUARE / 2 * size * np.exp(grown)
    at = middle + shift * half
    a = np.radians(lean)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    matrix = turn.T * onet.SIDE / (2 * half)
    matrix = np.column_stack([matrix, (onet.SIDE - 1) / 2 - matrix @ at])
    seen = cv2.warpAffine(x, matrix, (onet.SIDE, onet.SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    angles[2] -= lean
    return seen, np.concatenate([angles / _UNIT, turn.T @ (middle - at) / half, [-grown]])


def _cut_tight(picture: np.ndarray, middle: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """Sometimes without surroundings, the edge repeated, as detectors are shown tightly cut faces."""
    if rng.random() > 0.3:
        return picture
    left, top, right, bottom = rng.uniform((1.0, 1.1, 1.0, 1.0), (1.5, 1.6, 1.5, 1.5)) * size
    columns = np.clip(np.arange(_SIDE), middle[0] - left, middle[0] + right).round().astype(int).clip(0, _SIDE - 1)
    rows = np.clip(np.arange(_SIDE), middle[1] - top, middle[1] + bottom).round().astype(int).clip(0, _SIDE - 1)
    return picture[rows][:, columns]


def _altered(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other light and contrast, a thing before it, blur and noise; float32 0..255."""
    x = picture.astype(np.float32) / 255
    along = np.linspace(-1, 1, _SIDE, dtype=np.float32)
    slope = rng.uniform(-0.3, 0.3, 2)
    x = x * np.maximum(1 + slope[0] * along + slope[1] * along[:, None], 0.15)
    x = np.maximum(x, 1e-3) ** np.exp(rng.uniform(-0.35, 0.35))
    if rng.random() < 0.15:
        (x0, y0), half = rng.uniform(-0.8, 0.8, 2), rng.uniform(0.05, 0.3, 2)
        x[np.ix_(np.abs(along - y0) < half[1], np.abs(along - x0) < half[0])] = rng.uniform()
    if rng.random() < 1 / 3:
        small = int(rng.integers(28, _SIDE))
        x = cv2.resize(
            cv2.resize(x, (small, small), interpolation=cv2.INTER_AREA), x.shape, interpolation=cv2.INTER_CUBIC
        )
    x = x + rng.normal(0, rng.uniform(0, 0.04), x.shape)
    return (255 * x.clip(0, 1)).astype(np.float32)


def learn(x: Tensor, y: Tensor, hidden: int, passes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Matrix (inputs, outputs) and bias of each layer of a network that says y (N, 6), and how far off it will be."""
    mean, spread = x.mean(0), x.std(0) + 0.03
    net = nn.Sequential(
        nn.Dropout(0.2),
        nn.Linear(onet.FEATURES, hidden),
        nn.ReLU(),
        nn.Dropout(0.05),
        nn.Linear(hidden, hidden // 2),
        nn.ReLU(),
        nn.Linear(hidden // 2, 9),
    )
    batches = len(x) // 128
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=5e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=batches * passes)
    for _ in range(passes):
        for rows in torch.randperm(len(x))[: batches * 128].view(-1, 128):
            told = net((x[rows] - mean) / spread)
            off, scale = (told[:, :6] - y[rows]).abs(), told[:, 6:]
            expected = (off[:, :3].detach() * torch.exp(-scale) + scale).mean()  # of a Laplace distribution
            loss = off.mean() + 0.05 * expected
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
    layers = [(m.weight.detach().T, m.bias.detach()) for m in net if isinstance(m, nn.Linear)]
    first = layers[0][0] / spread[:, None]
    layers[0] = first, layers[0][1] - mean @ first
    return [(matrix.numpy(), bias.numpy()) for matrix, bias in layers]


def main(heads: int, views: int, out: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with Pool() as processes, console.progress("render", heads, "heads") as advance:
        drawn = []
        for one in processes.imap(head, range(heads), chunksize=8):
            drawn.append(one)
            advance()
    arrays = {}
    for network, (hidden, passes, frames) in _LESSONS.items():
        rng, features, answers = np.random.default_rng([902, hidden, len(frames)]), [], []
        with console.progress(network, views, "views") as advance:
            for i in range(views):
                seen = [view(picture, truth, frames[i % len(frames)], rng) for picture, truth in drawn]
                pictures, told = (np.array(v) for v in zip(*seen, strict=True))
                batches = torch.from_numpy(pictures).split(64)
                features += [onet.features(batch).numpy() for batch in batches]
                answers.append(told)
                advance()
        x, y = torch.from_numpy(np.concatenate(features)), torch.from_numpy(np.concatenate(answers)).float()
        for i, (matrix, bias) in enumerate(learn(x, y, hidden, passes)):
            arrays[f"{network}.{i}.weight"], arrays[f"{network}.{i}.bias"] = matrix.astype(np.float16), bias
    np.savez_compressed(out, **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=4500)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("fertool/faces/pose_net.npz"))
    given = parser.parse_args()
    main(given.heads, given.views, given.out)
