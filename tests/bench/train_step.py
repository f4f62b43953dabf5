"""RAN's training step: fertool's way beside the way the authors of RAN took.

    python tests/bench/train_step.py [--device cuda] [--switches] [--json FILE]

fertool keeps faces as they are, cuts and enlarges all regions of a batch in one sampling step on the device, and
sends them through the backbone together. The other way is written out below as one would write it by hand: a
DataLoader whose dataset opens a picture, cuts six crops with PIL and enlarges each, and a network that sends crop
after crop through the backbone. Both get the same weights; before anything is timed it is checked that they give the
same logits, losses and gradients for the same pixels.

With --switches, fertool's own choices (memory format, number format, compiler) are turned one by one. Faces are random
and written to a temporary folder: 48×48 grey PNG, as in FERPlus.
"""

import argparse
import functools
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from side_by_side import Way, every, ratio, take_turns
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18
from torchvision.transforms.functional import normalize, to_tensor

from fertool import artefact, console
from fertool.backbones.registry import IMAGENET
from fertool.faces.status import OK
from fertool.labels import PROTOCOLS
from fertool.models.base import Targets
from fertool.models.ran import Ran, RanSettings
from fertool.regions.crops import fixed_boxes
from fertool.requirements.rows import Rows
from fertool.settings import Train
from fertool.training.data import Pixels
from fertool.training.devices import Devices, start
from fertool.training.loader import Data, Loader
from fertool.training.run_file import Progress, RunFile
from fertool.training.state import TrainState
from fertool.training.transforms import sample_views, view_transforms

CLASSES = PROTOCOLS["ferplus8"]
BOXES = torch.from_numpy(fixed_boxes()).float()
SWITCHES = {
    "channels_last off": {"channels_last": False},
    "bf16": {"precision": "bf16"},
    "bf16, channels_last off": {"precision": "bf16", "channels_last": False},
    "compile": {"compile": True},
    "bf16, compile": {"precision": "bf16", "compile": True},
}
#: what fertool changes for its own process, see fertool/__init__.py
TORCH_AS_IT_IS = {"THP_MEM_ALLOC_ENABLE": "0"}


class Clock:
    """Times the steps of a turn; a step is everything since the one before."""

    def __init__(self):
        self.steps = []
        self.last = time.perf_counter(), time.process_time()

    def step_done(self, loss: float, waited: float) -> None:
        now = time.perf_counter(), time.process_time()
        self.steps.append((now[0] - self.last[0], now[1] - self.last[1], waited, loss))
        self.last = now

    def turn(self, device: str) -> dict:
        """What the turn reports: times without its first step, which only warms up; the losses of all."""
        seconds, cpu, waited, losses = zip(*self.steps, strict=True)
        share = [w / s for w, s in zip(waited, seconds, strict=True)]
        found = {"seconds": seconds[1:], "cpu": cpu[1:], "share": share[1:], "losses": losses}
        return found | ({"memory": torch.cuda.max_memory_allocated()} if device == "cuda" else {})


# ------------------------------------------------------------------------------------------------ the authors' way


class PlainRan(nn.Module):
    """RAN with a Python loop over crops."""

    def __init__(self, classes: int):
        super().__init__()
        self.backbone = resnet18(weights=None)
        self.backbone.fc = nn.Identity()
        self.q0 = nn.Linear(512, 1, bias=False)
        self.q1 = nn.Linear(1024, 1, bias=False)
        self.classifier = nn.Linear(1024, classes)

    def forward(self, crops):
        """(N, K, 3, S, S), the whole face first -> logits (N, classes), mu (N, K)."""
        features = [self.backbone(crops[:, i]) for i in range(crops.shape[1])]
        mu = [torch.sigmoid(self.q0(f)) for f in features]
        fused = sum(m * f for m, f in zip(mu, features, strict=True)) / sum(mu)
        pairs = [torch.cat([f, fused], dim=1) for f in features]
        weights = [m * torch.sigmoid(self.q1(p)) for m, p in zip(mu, pairs, strict=True)]
        vector = sum(w * p for w, p in zip(weights, pairs, strict=True)) / sum(weights)
        return self.classifier(vector), torch.cat(mu, dim=1)


def plain_loss(logits, mu, labels, margin: float = 0.02):
    """Cross-entropy and region-biased loss."""
    gain = mu[:, 1:].max(dim=1).values - mu[:, 0]
    return nn.functional.cross_entropy(logits, labels), torch.clamp(margin - gain, min=0).mean()


class Crops(Dataset):
    """Pictures on disk, cut into crops as they are asked for."""

    def __init__(self, folder: Path, labels, boxes, size: int):
        self.files, self.labels, self.boxes, self.size = sorted(folder.glob("*.png")), labels, boxes, size

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        face = Image.open(self.files[i]).convert("RGB")
        if np.random.rand() < 0.5:
            face = face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        w, h = face.size
        crops = []
        for x0, y0, x1, y1 in self.boxes:
            crop = face.crop((int(x0 * w), int(y0 * h), int(x1 * w), int(y1 * h)))
            crop = crop.resize((self.size, self.size), Image.Resampling.BILINEAR)
            crops.append(normalize(to_tensor(crop), IMAGENET.mean, IMAGENET.std))
        return torch.stack(crops), int(self.labels[i])


def authors(folder: Path, weights: dict, settings: Train, size: int, steps: int, device: str, workers: int):
    """Prepare the authors' way; a turn is `steps` steps after one that is not counted."""
    model = PlainRan(len(CLASSES))
    model.load_state_dict(weights, strict=False)
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay)
    faces = artefact.read(folder / "faces.h5")
    data = Crops(folder, faces["label"], BOXES.tolist(), size)
    loader = DataLoader(
        data, settings.global_batch, shuffle=True, drop_last=True, num_workers=workers, pin_memory=device == "cuda"
    )

    def one_turn() -> dict:
        clock, batches = Clock(), iter(loader)
        for _ in range(steps + 1):
            asked = time.perf_counter()
            crops, labels = next(batches)
            waited = time.perf_counter() - asked
            crops, labels = crops.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bf16"):
                logits, mu = model(crops)
                loss = sum(plain_loss(logits, mu, labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clock.step_done(loss.item(), waited)
        return clock.turn(device)

    return one_turn


# --------------------------------------------------------------------------------------------------- fertool's way


def fertool(folder: Path, weights: dict, settings: Train, size: int, steps: int, device: str):
    """Prepare fertool's own training loop; a turn is `steps` steps after one that is not counted."""
    return start(Devices(device), settings.precision, _fertool, folder, weights, settings, size, steps)


def _fertool(fabric, folder: Path, weights: dict, s: Train, size: int, steps: int):
    net = Ran(RanSettings(size=size), len(CLASSES))
    net.load_state_dict(weights)
    faces = artefact.read(folder / "faces.h5")
    rows = Rows(torch.arange(faces.rows), torch.from_numpy(np.array(faces["label"], np.int64)))
    boxes = BOXES.expand(faces.rows, -1, 4)
    data = Data(rows, rows, Pixels(faces["images"], rows.index, fabric.device, s.cache), boxes)
    loader = Loader(net, data, s)
    out = RunFile(folder / "run.h5", {}, (), (), s.seed, {}, {})
    state = TrainState.start(fabric, net, s, loader.steps, out)
    state.net.train()

    def one_turn() -> dict:
        clock, before = Clock(), 0.0
        state.progress = progress = Progress()
        for batch in loader.batches(0, 0, steps + 1):
            state.set_lr()
            state.forward_backward(batch)
            state.step()
            progress.read()
            total = sum(v for k, v in progress.sums.items() if k not in ("score", "seen"))
            clock.step_done((total - before) / s.global_batch, batch.waited)
            before = total
        return clock.turn(fabric.device.type)

    return one_turn


# ------------------------------------------------------------------------------------------------------ the bench


def write_faces(folder: Path, n: int) -> None:
    """Random faces, as PNG files and as a faces file."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 48, 48, 1), dtype=np.uint8)
    ids = np.array([f"fer{i:07d}.png" for i in range(n)], dtype=object)
    for name, image in zip(ids, images, strict=True):
        Image.fromarray(image[..., 0]).save(folder / name)
    columns = {
        "id": ids,
        "images": images,
        "status": np.full(n, OK, "u1"),
        "label": rng.integers(0, len(CLASSES), n).astype("i2"),
        "split": np.array(["train"] * n, dtype=object),
    }
    artefact.save(folder / "faces.h5", "faces", columns, params={}, classes=CLASSES)


def check_equal(folder: Path, weights: dict, size: int) -> str:
    """Same pixels, same weights: compare logits, losses and gradients of the two networks, in float64 (fertool
    computes its gates in float32 whatever the rest is in).

    Batch statistics are off: in training, normalisation sees all regions together in one, one crop at a time in the
    other.
    """
    faces = artefact.read(folder / "faces.h5")
    images = torch.from_numpy(np.array(faces["images"][:4])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.array(faces["label"][:4], np.int64))
    ours, plain = Ran(RanSettings(size=size), len(CLASSES)), PlainRan(len(CLASSES))
    views = sample_views(images, view_transforms(BOXES.expand(4, -1, 4), None), ours.input).double()
    ours.load_state_dict(weights)
    plain.load_state_dict(weights, strict=False)
    ours.double().eval()
    plain.double().eval()
    output = ours(views)
    terms = list(ours.losses(output, Targets(labels)).values())
    logits, mu = plain(views)
    plain_terms = plain_loss(logits, mu, labels)
    sum(terms).backward()
    sum(plain_terms).backward()
    theirs = dict(plain.named_parameters())
    differences = {
        "logits": (output.logits - logits).abs().max().item(),
        "losses": max(abs(a - b).item() for a, b in zip(terms, plain_terms, strict=True)),
        "gradients": max((p.grad - theirs[name].grad).abs().max().item() for name, p in ours.named_parameters()),
    }
    if max(differences.values()) > 1e-6:
        raise SystemExit(f"the two networks differ: {differences}")
    return "largest differences: " + ", ".join(f"{name} {value:.0e}" for name, value in differences.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=16, help="faces per step (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of a region at the network (%(default)s)")
    parser.add_argument("--steps", type=int, default=2, help="timed steps in a turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="turns of every way (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the DataLoader (%(default)s)")
    parser.add_argument("--switches", action="store_true", help="also turn fertool's switches, one by one")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()

    torch.manual_seed(0)
    weights = Ran(RanSettings(size=given.size), len(CLASSES)).state_dict()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_faces(folder, given.batch * (given.steps + 1))
        print("equal weights and pixels,", check_equal(folder, weights, given.size))

        common = {"folder": folder, "weights": weights, "size": given.size, "steps": given.steps}
        common["device"] = given.device
        plain = Train(global_batch=given.batch)
        ways = {"fertool": Way(functools.partial(fertool, settings=plain, **common))}
        for workers in given.workers:
            for label, precision in (("", "32"), (", bf16", "bf16"))[: 1 + given.switches]:
                settings = Train(global_batch=given.batch, precision=precision)
                way = functools.partial(authors, settings=settings, workers=workers, **common)
                ways[f"loop over crops, {workers} workers{label}"] = Way(way, TORCH_AS_IT_IS)
        for label, switch in SWITCHES.items() if given.switches else ():
            settings = Train(global_batch=given.batch, **switch)
            ways[f"fertool, {label}"] = Way(functools.partial(fertool, settings=settings, **common))
        results = take_turns(ways, given.turns)

    figures = {label: measured(turns, results["fertool"]) for label, turns in results.items()}
    rows = []
    for label, f in figures.items():
        rows.append(
            (
                label,
                f"{f['ms_median']:.0f}",
                f"{f['ms_min']:.0f}",
                f"{f['ratio']:.2f}",
                f"{f['cpu_ratio']:.2f}",
                f"{100 * f['waiting']:.1f}",
                f"{f['memory'] / 2**20:,.0f}",
                f"{f['loss_difference']:.1e}" if label.startswith("fertool,") else None,
            )
        )
    heads = ("", "ms/step", "fastest", "× fertool", "CPU ×", "waiting %", "peak MB", "loss ±")
    where = torch.cuda.get_device_name() if given.device == "cuda" else f"{torch.get_num_threads()} threads"
    title = f"RAN, ResNet-18, {given.batch} faces of six regions at {given.size}², {where}, torch {torch.__version__}"
    console.show(console.table(title, heads, rows))
    print(f"{given.turns} turns of {given.steps} steps; load average at the end {os.getloadavg()[0]:.1f}")
    if given.json:
        facts = {k: getattr(given, k) for k in ("batch", "size", "steps", "turns")}
        given.json.write_text(
            json.dumps({"device": where, "torch": torch.__version__, **facts, "ways": figures}, indent=2)
        )
    for label in (label for label in results if label.startswith("loop")):
        base = "fertool, bf16" if label.endswith("bf16") else "fertool"
        print(f"{label}: {ratio(results[label], results[base], 'seconds'):.2f} times the step of {base}")


def measured(turns: list[dict], base: list[dict]) -> dict[str, float]:
    """The figures of one way beside fertool's plain one. Losses are those of the first turn, from equal weights; the
    loop over crops sees the faces in another order.
    """
    seconds = every(turns, "seconds")
    return {
        "ms_median": 1000 * median(seconds),
        "ms_min": 1000 * min(seconds),
        "ratio": ratio(turns, base, "seconds"),
        "cpu_ratio": ratio(turns, base, "cpu"),
        "waiting": median(every(turns, "share")),
        "memory": turns[-1]["memory"],
        "loss_difference": max(abs(a - b) for a, b in zip(base[0]["losses"], turns[0]["losses"], strict=True)),
    }


if __name__ == "__main__":
    main()
