"""Which faces make up a rendered dataset: people, splits, expressions, poses, occlusion.

Everything but the label is drawn without regard to it, so that nothing but the face tells the expression.
"""

from dataclasses import dataclass

import numpy as np

from fertool.labels import PROTOCOLS
from fertool.rendering import expressions
from fertool.rendering.occluders import OCCLUSIONS
from fertool.rendering.render import FaceSpec

CLASSES = PROTOCOLS["rafdb7"]


@dataclass(frozen=True)
class Variety:
    """What the faces have besides an expression.

    Attributes:
        occluded: share of faces with an occluder.
        turned: share of faces from the wide range of poses.
        varied: whether expressions are also shown in the ways of `expressions.VARIED`.
    """

    occluded: float = 0.25
    turned: float = 0.2
    varied: bool = False


@dataclass(frozen=True)
class Planned:
    """A face of the dataset: its id, its subject's id, its split, and what to render."""

    id: str
    subject: str
    split: str
    spec: FaceSpec


def plan(
    people: int, per_person: int, size: int, seed: int, mixed: int = 0, variety: Variety | None = None
) -> list[list[Planned]]:
    """Return the faces of every person, in the order of the dataset.

    People are parted into train, val and test (about 70, 10 and 20 %). Every person shows every expression equally
    often, but for one face where per_person is no multiple of seven. Mixed faces come after them: their eyes show
    any expression and their mouth any other, and they change nothing about the rest.
    """
    test, val = max(1, round(0.2 * people)), max(1, round(0.1 * people))
    splits = ["test"] * test + ["val"] * val
    splits = ["train"] * (people - len(splits)) + splits
    np.random.default_rng([seed, 10]).shuffle(splits)
    variety = variety or Variety()
    return [
        _pure(number, splits[number], per_person, size, seed, variety)
        + _mixed(number, splits[number], mixed, size, seed, variety)
        for number in range(people)
    ]


def _pure(number: int, split: str, count: int, size: int, seed: int, variety: Variety) -> list[Planned]:
    """Return a person's faces that show one expression each."""
    rng = np.random.default_rng([seed, 11, number])
    labels = [CLASSES[i % len(CLASSES)] for i in rng.permutation(len(CLASSES))]
    labels = [labels[i % len(CLASSES)] for i in range(count)]
    rng.shuffle(labels)
    return _faces("", number, split, labels, size, seed, variety, rng)


def _mixed(number: int, split: str, count: int, size: int, seed: int, variety: Variety) -> list[Planned]:
    """Return a person's faces that show two expressions each."""
    rng = np.random.default_rng([seed, 12, number])
    labels = [expressions.mixed(*rng.choice(CLASSES, 2, replace=False)) for _ in range(count)]
    return _faces("m", number, split, labels, size, seed, variety, rng)


def _faces(
    mark: str,
    number: int,
    split: str,
    labels: list[str],
    size: int,
    seed: int,
    variety: Variety,
    rng: np.random.Generator,
) -> list[Planned]:
    subject = f"p{number:03d}"
    faces = []
    for i, label in enumerate(labels):
        pitch, yaw, roll = _pose(rng, variety.turned)
        intensity = float(rng.uniform(0.7, 1.0))
        occlusion = str(rng.choice(OCCLUSIONS)) if rng.random() < variety.occluded else ""
        spec = FaceSpec(
            subject=seed * 100_000 + number,
            expression=label,
            intensity=0.0 if label == "neutral" else round(intensity, 3),
            pitch=pitch,
            yaw=yaw,
            roll=roll,
            occlusion=occlusion,
            seed=int(rng.integers(2**31)),
            size=size,
            varied=variety.varied,
        )
        faces.append(Planned(f"{subject}-{mark}{i:02d}", subject, split, spec))
    return faces


def _pose(rng: np.random.Generator, turned: float) -> tuple[float, float, float]:
    """Return pitch, yaw and roll: mostly near the camera, with a tail to the sides."""
    if rng.random() < turned:
        pitch, yaw, roll = rng.triangular(-40, 0, 40), rng.uniform(-75, 75), rng.uniform(-20, 20)
    else:
        pitch, yaw, roll = np.clip(rng.normal(0, [8, 13, 6]), [-20, -30, -18], [20, 30, 18])
    return round(float(pitch), 2), round(float(yaw), 2), round(float(roll), 2)
