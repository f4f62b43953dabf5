"""What a data set is to the rest of fertool: a list of samples and a way to read one.

A data set knows nothing of torch or HDF5. It is picklable, so that worker processes can call `read`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One photograph as its data set lists it.

    Attributes:
        id: unique name inside the data set, stable across machines (never an absolute path).
        path: the image file, or None where pixels come from elsewhere (a CSV).
        label: canonical emotion name, or None if the data set gives none.
        split: "train", "val", "test" or "" if the data set has no splits.
        subject, sequence, frame: whose face, which recording, which frame of it ("" and -1 if unknown).
        distribution: probability of each class, in the order of the data set's classes, or None.
        landmarks: (K, 2) float x, y in pixels of the source image, or None.
        box: x0, y0, x1, y1 in pixels of the source image, or None.
        extra: further columns this data set carries (numbers or short strings; the same keys for every sample).
    """

    id: str
    path: Path | None = None
    label: str | None = None
    split: str = ""
    subject: str = ""
    sequence: str = ""
    frame: int = -1
    distribution: tuple[float, ...] | None = None
    landmarks: np.ndarray | None = None
    box: tuple[float, float, float, float] | None = None
    extra: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Something a data set lacks or has wrong; `fatal` if it cannot be used like this."""

    message: str
    path: str = ""
    fatal: bool = True


class Dataset:
    """A data set found at `root`. Subclasses give the class attributes and `matches`, `problems`, `samples`.

    Class attributes:
        name: what `--dataset` takes.
        classes: ordered canonical class names (an instance may set its own, as `folder` does).
        about: one line with citation and licence.
        layout: the tree expected on disk, as users see it in `fertool datasets`.
        expect: sample counts per split of the complete data set (empty if there is no such thing).
    """

    name: str = ""
    classes: tuple[str, ...] = ()
    about: str = ""
    layout: str = ""
    expect: dict[str, int] = {}

    def __init__(self, root: Path):
        self.root = Path(root)

    @classmethod
    def matches(cls, root: Path) -> bool:
        """Whether the tree at `root` looks like this data set. Cheap: a few `exists` calls."""
        raise NotImplementedError

    def problems(self) -> list[Problem]:
        """Everything missing or wrong, each with the path looked for; an empty list if all is well."""
        return []

    def samples(self) -> Sequence[Sample]:
        """All samples in a fixed order.

        Raises:
            DataError: the data set cannot be read at all; the message lists all that is missing.
        """
        raise NotImplementedError

    def read(self, sample: Sample) -> np.ndarray:
        """The photograph as (H, W, 3) RGB or (H, W) grey uint8, upright (EXIF applied).

        Raises:
            UnreadableImage: the file is no image that can be used; the message says why.
        """
        from fertool.faces.images import read_image

        return read_image(sample.path)
