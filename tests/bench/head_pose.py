"""How right head pose is, by range of yaw: on rendered heads of known pose, and on images with landmarks by hand.

    python tests/bench/head_pose.py rendered [--heads 1000] [--detectors mtcnn dlib-hog]
    python tests/bench/head_pose.py images FOLDER [--limit 400]

`rendered` draws heads over ±75° yaw, ±45° pitch and ±20° roll, of people whom nothing was trained on (other numbers
than in tests/bench/teach_pose.py), half of them in expressions that were not in the training either, finds them as
detect-align does, and compares each way to estimate pose with the truth. A face is missed if none is found.
`images` wants pictures with .pts files of 68 points beside them. There is no truth about their pose: estimates are
compared with the fit to the landmarks placed by hand, and with the mirror image of the same image. Where 0° of
pitch lies is a convention in which the two ways differ, so pitch is given as it is and less the median difference.
dlib's landmark predictor was trained on many of the usual sets of such images, which flatters the fit to what it
finds.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fertool import console, detectors, landmarks
from fertool.faces import pose, pose_net
from fertool.faces.images import read_image
from fertool.faces.pipeline import rgb

RANGES = ((0, 15), (15, 30), (30, 45), (45, 60), (60, 90), (0, 90))
TRAINED = ("neutral", "happiness", "sadness", "disgust", "surprise")
OTHERS = ("anger", "fear")
#: (pitch, yaw, roll) of a mirrored face
MIRROR = np.array([1, -1, -1])


@dataclass
class Found:
    """What the ways to estimate pose say of some faces, each (N, 3) in degrees, NaN if missed; and their cost."""

    learned: list = field(default_factory=list)
    fitted: list = field(default_factory=list)
    expected: list = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"learned": 0.0, "fitted": 0.0})

    def add(self, image: np.ndarray, name: str, detector, placer, near: np.ndarray | None = None) -> None:
        """Find the face around the point `near`, else the largest, and estimate its pose."""
        faces = next(iter(detector.detect([image])))
        which = range(len(faces))
        if near is not None:
            which = [i for i in which if (faces.boxes[i, :2] < near).all() and (faces.boxes[i, 2:] > near).all()]
        if not which:
            for values, width in ((self.learned, 3), (self.fitted, 3), (self.expected, 1)):
                values.append(np.full(width, np.nan))
            return
        boxes = faces.boxes
        best = max(which, key=lambda i: (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1]))
        marks = placer.place(image, boxes[best], None if faces.points is None else faces.points[best], name)
        began = time.process_time()
        angles, errors = pose_net.estimate([image], [boxes[best]], name)
        between = time.process_time()
        self.learned.append(angles[0])
        self.expected.append(errors)
        self.fitted.append(np.array(pose.estimate(marks)[0]))
        self.seconds["learned"] += between - began
        self.seconds["fitted"] += time.process_time() - between

    def cost(self) -> str:
        known = max(int(np.isfinite(np.array(self.expected)).sum()), 1)
        return ", ".join(f"{name} {1000 * spent / known:.1f} ms" for name, spent in self.seconds.items())


def rendered(heads: int, detectors: list[str]) -> None:
    from fertool.rendering.render import FaceSpec, render_face

    placer, finders = landmarks.make("ert68"), {name: detectors.make(name) for name in detectors}
    found, marked, truth, in_training = {name: Found() for name in detectors}, [], [], []
    with console.progress("heads", heads, "heads") as advance:
        for i in range(heads):
            rng = np.random.default_rng([77, i])
            expression = str(rng.choice(TRAINED if i % 2 else OTHERS))
            turn = rng.uniform((-45, -75, -20), (45, 75, 20)).tolist()
            face = render_face(
                FaceSpec(80_000_000 + i, expression, 0.8, *turn, seed=int(rng.integers(2**31)), size=192)
            )
            truth.append(turn)
            in_training.append(expression in TRAINED)
            marked.append(pose.estimate(face.landmarks)[0])
            for name, detector in finders.items():
                found[name].add(face.pixels, name, detector, placer)
            advance()
    truth, in_training = np.array(truth), np.array(in_training)
    rows = _errors("true landmarks, fitted", np.array(marked), truth)
    for name, answers in found.items():
        rows += _errors(f"{name}: ert68, fitted", np.array(answers.fitted), truth)
        rows += _errors(f"{name}: learned", np.array(answers.learned), truth)
        console.say(f"{name}: {answers.cost()} per face")
    columns = ("way", "|yaw|", "heads", "missed", "pitch °", "yaw °", "roll °")
    console.show(console.table("mean absolute error on rendered heads", columns, rows))
    for name, answers in found.items():
        off, expected = np.abs(np.array(answers.learned) - truth), np.ravel(answers.expected)
        for kind, inside in (("trained", in_training), ("not trained", ~in_training)):
            p, y, r = np.nanmean(off[inside], axis=0)
            console.say(f"{name}, expressions {kind}: pitch {p:.2f}, yaw {y:.2f}, roll {r:.2f}")
        edges = np.nanquantile(expected, np.linspace(0, 1, 5))
        for low, high in zip(edges, edges[1:], strict=False):
            inside = (expected >= low) & (expected <= high)
            console.say(f"{name}, error expected {expected[inside].mean():.1f}°: is {off[inside, :2].mean():.1f}°")


def _errors(way: str, angles: np.ndarray, truth: np.ndarray) -> list[tuple]:
    rows = []
    for low, high in RANGES:
        inside = (np.abs(truth[:, 1]) >= low) & (np.abs(truth[:, 1]) < high)
        off = np.abs(angles - truth)[inside]
        known = np.isfinite(off[:, 0])
        means = off[known].mean(axis=0) if known.any() else np.full(3, np.nan)
        rows.append((way, f"{low}-{high}°", len(off), int((~known).sum()), *map(float, means)))
    return rows


def images(folder: Path, limit: int) -> None:
    detector, placer = detectors.make("mtcnn"), landmarks.make("ert68")
    there = sorted(folder.glob("*.pts"))
    there = [there[i] for i in np.linspace(0, len(there) - 1, min(limit, len(there))).round().astype(int)]
    plain, mirrored, hand = Found(), Found(), []
    with console.progress("images", len(there), "photos") as advance:
        for path in there:
            picture = next(p for p in sorted(path.parent.glob(f"{path.stem}.*")) if p.suffix != ".pts")
            image, marks = rgb(read_image(picture)), _points(path)
            low, high = marks.min(axis=0), marks.max(axis=0)
            start = np.maximum(low - 0.8 * (high - low), 0).astype(int)
            end = np.ceil(high + 0.8 * (high - low)).astype(int)
            image = np.ascontiguousarray(image[start[1] : end[1], start[0] : end[0]])
            middle = (low + high) / 2 - start
            hand.append(pose.estimate(marks)[0])
            plain.add(image, "mtcnn", detector, placer, middle)
            other_side = np.array([image.shape[1] - 1 - middle[0], middle[1]])
            mirrored.add(np.ascontiguousarray(image[:, ::-1]), "mtcnn", detector, placer, other_side)
            advance()
    hand, rows = np.array(hand), []
    for way in ("fitted", "learned"):
        angles, flipped = np.array(getattr(plain, way)), np.array(getattr(mirrored, way))
        apart, convention = angles - hand, np.nanmedian(angles[:, 0] - hand[:, 0])
        console.say(f"{way}: pitch is {convention:+.1f}° of the fit to landmarks by hand in the median")
        for low, high in RANGES:
            inside = (np.abs(hand[:, 1]) >= low) & (np.abs(hand[:, 1]) < high)
            known = inside & np.isfinite(angles[:, 0])
            if not inside.any():
                continue
            pitch, yaw, roll = np.median(np.abs(apart[known]), axis=0)
            less = np.median(np.abs(apart[known, 0] - convention))
            mirror = np.nanmedian(np.abs(angles[known] - flipped[known] * MIRROR), axis=0)
            counts = (int(inside.sum()), int(inside.sum() - known.sum()))
            rows.append((way, f"{low}-{high}°", *counts, *map(float, (pitch, less, yaw, roll, *mirror))))
    columns = ("way", "|yaw|", "faces", "missed", "pitch °", "(less median)", "yaw °", "roll °")
    columns += ("mirror: pitch °", "yaw °", "roll °")
    console.show(console.table(f"median difference to the fit to landmarks by hand, {folder.name}", columns, rows))


def _points(path: Path) -> np.ndarray:
    numbers = path.read_text().replace("{", " ").replace("}", " ").split()[-136:]
    return np.array(numbers, dtype=float).reshape(68, 2) - 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    known = commands.add_parser("rendered")
    known.add_argument("--heads", type=int, default=1000)
    known.add_argument("--detectors", nargs="+", default=["mtcnn", "dlib-hog"])
    real = commands.add_parser("images")
    real.add_argument("folder", type=Path)
    real.add_argument("--limit", type=int, default=400)
    given = parser.parse_args()
    if given.command == "rendered":
        rendered(given.heads, given.detectors)
    else:
        images(given.folder, given.limit)
