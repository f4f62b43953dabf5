"""What a dataset is to the rest of fertool: a list of samples and a way to read one.

A dataset knows nothing of torch or HDF5. It is picklable, so that worker processes can call `read`.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from fertool.errors import DataError, UsageError, nearest
from fertool.recipe import build
from fertool.settings import Settings


@dataclass(frozen=True, slots=True)
class Sample:
    """One image as its dataset lists it.

    Attributes:
        id: unique name inside the dataset, stable across machines (never an absolute path).
        path: the file that holds its pixels, or None where there is no file (a dataset that draws its images).
        offset: byte of `path` where the pixels begin if the file is a table of many images; -1 for an image file.
        label: canonical emotion name, or None if the dataset gives none.
        split: "train", "val", "test" or "" if the dataset has no splits.
        subject, sequence, frame: whose face, which recording, which frame of it ("" and -1 if unknown).
        distribution: probability of each class, in the order of the dataset's classes, or None.
        landmarks: (K, 2) float x, y in pixels of the source image, or None.
        box: x0, y0, x1, y1 in pixels of the source image, or None.
        extra: further columns this dataset carries (numbers or short strings; the same keys for every sample).
    """

    id: str
    path: Path | None = None
    offset: int = -1
    label: str | None = None
    split: str = ""
    subject: str = ""
    sequence: str = ""
    frame: int = -1
    distribution: tuple[float, ...] | None = None
    landmarks: np.ndarray | None = None
    box: tuple[float, float, float, float] | None = None
    extra: Mapping[str, float | int | str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Return the file that holds its pixels.

        Raises:
            DataError: there is none; only its dataset can read it.
        """
        if self.path is None:
            raise DataError(f"the sample {self.id!r} has no path", "give it one, or override the dataset's read")
        return self.path


@dataclass(frozen=True)
class Problem:
    """Something a dataset lacks or has wrong; `fatal` if it cannot be used like this."""

    message: str
    path: str = ""
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.message} ({self.path})" if self.path else self.message


class Samples(Sequence[Sample]):
    """Samples made when they are asked for, so that a list of 300,000 images stays small.

    Args:
        rows: whatever tells the samples apart, e.g. file names or row numbers.
        make: row -> Sample.
    """

    def __init__(self, rows: Sequence, make: Callable[..., Sample]):
        self._rows, self._make = rows, make

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "Samples": ...

    def __getitem__(self, index: int | slice) -> "Sample | Samples":
        if isinstance(index, slice):
            return Samples(self._rows[index], self._make)
        return self._make(self._rows[index])


#: what a dataset lists: its samples, and everything missing or wrong
Scan = tuple[Sequence[Sample], list[Problem]]


class Dataset(ABC):
    """A dataset found at `root`. Subclasses give the class attributes, `matches` and `scan`.

    Class attributes:
        name: what `--dataset` takes.
        classes: ordered canonical class names (an instance may set its own, as `folder` does).
        about: one line with citation and licence.
        marks: what it is recognised by, in a few words.
        layout: the tree expected on disk, as users see it in `fertool datasets`.
        expect: sample counts per split of the complete dataset (empty if there is no such thing).
        Options: how it can be read: a settings class, each field a Literal, a number or a text with a default and help.
            `detect-align` passes its settings `data` to it.
        priority: the smaller, the earlier it is recognised: 0 for what is named by its own files, 80 and more for
            tables and folders of any kind.

    Attributes:
        chosen: the options by name. Where one is `auto`, `scan` replaces it by what it found.

    Raises:
        UsageError: an option the dataset does not have.
        RecipeError: a value that an option does not take.
    """

    name: str = ""
    classes: tuple[str, ...] = ()
    about: str = ""
    marks: str = ""
    layout: str = ""
    expect: Mapping[str, int] = {}
    Options: type[Settings] = Settings
    priority: int = 50

    def __init__(self, root: Path | str, **options: Any):
        self.root = Path(root)
        known = self.option_names()
        if unknown := [o for o in options if o not in known]:
            hint = nearest(unknown[0], known) if known else f"{self.name} has no options"
            raise UsageError(f"the dataset {self.name} has no option {unknown[0]!r}", hint)
        self.chosen = build(self.Options, options, where=f"dataset {self.name}").as_dict()

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the names of the options."""
        return [f.name for f in fields(cls.Options)]

    @classmethod
    @abstractmethod
    def matches(cls, root: Path) -> str:
        """Return what in the tree at `root` shows that it is this dataset, or ""; a few look-ups suffice."""

    @abstractmethod
    def scan(self) -> Scan:
        """Read the lists and folders once: all samples in a fixed order, and everything missing or wrong.

        Every problem names the path looked for. A fatal one means that the samples are not to be used.
        """

    @cached_property
    def _scanned(self) -> Scan:
        return self.scan()

    def problems(self) -> list[Problem]:
        """Return everything missing or wrong, each with the path looked for; an empty list if all is well."""
        return self._scanned[1]

    def samples(self) -> Sequence[Sample]:
        """Return all samples in a fixed order.

        Raises:
            DataError: the dataset cannot be used as it is; the message lists all that is missing.
        """
        samples, problems = self._scanned
        fatal = [str(p) for p in problems if p.fatal]
        if fatal:
            raise DataError(
                f"{self.root} cannot be used as {self.name}: " + "; ".join(fatal),
                f"all of it: fertool datasets check {self.name} {self.root}; the layout: fertool datasets",
            )
        return samples

    def read(self, sample: Sample) -> np.ndarray:
        """Return the image as (H, W, 3) RGB or (H, W) grey uint8, upright (EXIF applied).

        Raises:
            UnreadableImage: the file is no image that can be used; the message says why.
            OSError, MemoryError: the file cannot be read now, which says nothing of the image.
        """
        from fertool.faces.images import read_image

        return read_image(sample.file)

    def __getstate__(self) -> dict:
        # workers only read images: the list of samples stays at home
        return {k: v for k, v in self.__dict__.items() if k != "_scanned"}

    def _uncounted(self, splits: Iterable[str]) -> list[Problem]:
        """Return a note for every split whose number of samples is not that of the complete dataset."""
        have = Counter(splits)
        return [
            Problem(f"{split or 'all'}: {have[split]:,} samples, the complete dataset has {n:,}", fatal=False)
            for split, n in self.expect.items()
            if have[split] != n
        ]


def some(names: Iterable[str], limit: int = 5) -> str:
    """Return the first few of many names, for a message."""
    names = list(names)
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
