"""Images, folders of them, videos and cameras as one stream of images, of which one at a time is in memory."""

import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np

from fertool.datasets.base import some
from fertool.datasets.disk import NOTES, VIDEOS, is_picture, printable, walk
from fertool.faces import source_file
from fertool.faces.images import UnreadableImage, read_image
from fertool.faces.source_file import MISSING
from fertool.outputs import is_drawn
from fertool.videos import VideoError, has_frames, numbered, open_video, probe

_CAMERA = re.compile(r"[0-9]{1,4}")  # longer ones are names of files
_EXACT = (".avi",)  # states the exact number of its frames
_SHORT = 0.95  # a video that ends before this part of the length its file states, which is an estimate, ends too early
_SAME_TIME = 0.0005  # seconds: some files round times to milliseconds


@dataclass(frozen=True)
class Source:
    """An image, a video or a camera.

    Attributes:
        name: what the user calls it.
        at: the file, or the number of a camera.
        below: the file's place in the folder that was named; its name alone if it was named itself.
        missing: whether there was no such file when it was named; one that goes missing later is a failure.
        is_video: whether it has frames: a video, a camera or an animated .gif.
    """

    name: str
    at: Path | int
    below: str
    missing: bool = False
    is_video: bool = False

    @property
    def path(self) -> Path | None:
        """The file; None of a camera."""
        return None if isinstance(self.at, int) else self.at

    @property
    def is_camera(self) -> bool:
        return self.path is None


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video.

    Attributes:
        source: where it comes from.
        pixels: (H, W, 3) RGB or (H, W) grey uint8; None if it cannot be read, or is an image not read yet.
        problem: why it cannot be read, or what is wrong with the video, of which it then is the end.
        frame: its number in the video, from 1; 0 for an image.
        seconds: since the video began, or since the camera was switched on; NaN for an image.
        rate: frames per second of a video as they are taken here; 0 if unknown.
    """

    source: Source
    pixels: np.ndarray | None
    problem: str = ""
    frame: int = 0
    seconds: float = np.nan
    rate: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.source.name} frame {self.frame:,}" if self.frame else self.source.name

    def read(self) -> "Picture":
        """Return it with the pixels of its image, if they are not there yet.

        Raises:
            OSError, MemoryError: the file cannot be read now, which says nothing of its image.
        """
        path = self.source.path
        if path is None or self.source.is_video or self.pixels is not None or self.problem:
            return self
        try:
            return replace(self, pixels=read_image(path))
        except UnreadableImage as e:
            return replace(self, problem=e.message.removeprefix(f"{path}: "))


def named(words: Iterable[str], note: Callable[[str], None] = lambda message: None) -> list[Source]:
    """Return the sources that a user names: files, folders, numbers of cameras.

    A folder gives all images and videos in and below it, linked folders too, without what fertool drew.

    Args:
        note: called with a message on what is left out of a folder.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[Source] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            found += _inside(path, note)
        elif _CAMERA.fullmatch(word) and not path.exists():
            found.append(Source(f"camera {word}", int(word), f"camera-{word}.mp4", is_video=True))
        else:
            found.append(_file(word, path, path.name))
    return found


def _inside(root: Path, note: Callable[[str], None]) -> list[Source]:
    sources: list[tuple[Path, Source]] = []
    others: Counter[str] = Counter()
    drawn = 0
    for below, names in walk(root, skipped=lambda at, first: note(f"{root / at} is left out, it is a link to {first}")):
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            if not is_picture(name) and ending not in VIDEOS:
                others.update([ending or "without an ending"] if ending not in NOTES else [])
            elif is_drawn(root / below / name):
                drawn += 1
            else:
                path = root / below / name
                sources.append((path, _file(str(path), path, path.relative_to(root).as_posix())))
    if drawn:
        note(f"{drawn:,} images and videos in {root} that fertool drew are left out")
    if others:
        kinds = some((f"{n:,} {ending}" for ending, n in others.most_common()), 8)
        note(f"{others.total():,} files in {root} are left out, they do not end like images or videos: {kinds}")
    return [source for _, source in sorted(sources, key=lambda source: source[0])]


def _file(name: str, path: Path, below: str) -> Source:
    video = path.suffix.lower() in VIDEOS or has_frames(path)
    return Source(printable(name), path, printable(below), source_file.listed(path) == MISSING, video)


@dataclass(frozen=True)
class Sampling:
    """Which frames of videos and cameras are taken.

    Attributes:
        step: every N-th, the first included.
        seconds: if not 0, the first frame at or after every multiple of so many seconds instead.
    """

    step: int = 1
    seconds: float = 0.0

    def rate(self, rate: float) -> float:
        """Return how many frames per second are taken of a video of some rate."""
        return min(rate, 1 / self.seconds) if self.seconds else rate / self.step

    def taken(self, frames: Iterable[tuple[int, float]]) -> Iterator[tuple[int, float, bool]]:
        """Yield number and time of every frame, and whether it is taken."""
        due = 0.0
        for number, seconds in frames:
            taken = seconds + _SAME_TIME >= due if self.seconds else (number - 1) % self.step == 0
            if taken and self.seconds:
                due = ((seconds + _SAME_TIME) // self.seconds + 1) * self.seconds
            yield number, seconds, taken


def count(sources: Iterable[Source], sampling: Sampling) -> int | None:
    """Return how many images they have, as far as videos state it; None with a camera among them."""
    total = 0
    for source in sources:
        if source.path is None:
            return None
        total += _stated(source.path, sampling) if source.is_video else 1
    return total


def _stated(path: Path, sampling: Sampling) -> int:
    try:
        with open_video(path) as video:
            frames = video.duration / sampling.seconds if sampling.seconds else video.stated / sampling.step
            return max(ceil(frames), 1)
    except VideoError:
        return 1


def pictures(sources: Iterable[Source], sampling: Sampling = Sampling()) -> Iterator[Picture]:
    """Yield all images, in order. Images are not read yet, see `Picture.read`.

    Raises:
        OSError, MemoryError: a video cannot be read now, which says nothing of its frames.
    """
    for source in sources:
        if source.missing:
            yield Picture(source, None, "no such file or directory")
        elif source.is_video:
            yield from _frames(source, sampling)
        else:
            yield Picture(source, None)


def _frames(source: Source, sampling: Sampling) -> Iterator[Picture]:
    path = source.path
    if path and not stat.S_ISREG(path.stat().st_mode):
        yield Picture(source, None, "not a file")
        return
    last, now = 0, 0.0
    try:
        with open_video(source.at) as video:
            frames = _clocked(numbered(video)) if source.is_camera else numbered(video)
            for number, now, taken in sampling.taken(frames):
                if number > last + 1:
                    yield Picture(
                        source, None, f"damaged: frames {last + 1:,} to {number - 1:,} cannot be read", last + 1
                    )
                last = number
                if taken:
                    pixels = video.image()
                    problem = "" if pixels is not None else f"damaged: frame {number:,} cannot be read"
                    yield Picture(source, pixels, problem, number, now, sampling.rate(video.rate))
    except VideoError as e:
        if path:
            probe(path)
        yield Picture(source, None, str(e))
        return
    if not path:
        return
    if not last:
        probe(path)
        yield Picture(source, None, "no frame of it can be read")
    elif path.suffix.lower() in _EXACT and last < video.stated:
        probe(path)
        said = f"damaged: it ends after {last:,} of {video.stated:,} frames"
        yield Picture(source, None, f"{said}, or some of them are lost and later ones are counted without them", last)
    elif now + 1 < _SHORT * video.duration:
        probe(path)
        yield Picture(source, None, f"damaged: it ends after {now:.1f} of {video.duration:.1f} s", last)


def _clocked(frames: Iterable[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """Return frames of a camera with the seconds since it was switched on."""
    began = time.monotonic()
    return ((number, time.monotonic() - began) for number, _ in frames)
