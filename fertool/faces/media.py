"""Images, folders of them, videos and cameras as one stream of pictures, of which one at a time is in memory."""

import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fertool.datasets.base import some
from fertool.datasets.disk import NOTES, VIDEOS, is_picture, printable, walk
from fertool.datasets.video import count_frames, grabbed, open_video, probe, retrieve
from fertool.faces import source_file
from fertool.faces.images import UnreadableImage, read_image
from fertool.faces.source_file import MISSING
from fertool.outputs import is_drawn

_CAMERA = re.compile(r"[0-9]{1,4}")  # longer ones are names of files
_EXACT = (".avi",)  # states the exact number of its frames
_SHORT = 0.95  # a video with less of its frames than this ends too early; the number a file states is an estimate


@dataclass(frozen=True)
class Source:
    """An image, a video or a camera.

    Attributes:
        name: what the user calls it.
        at: the file, or the number of a camera.
        below: the file's place in the folder that was named; its name alone if it was named itself.
        missing: whether there was no such file when it was named; one that goes missing later is a failure.
    """

    name: str
    at: Path | int
    below: str
    missing: bool = False

    @property
    def path(self) -> Path | None:
        """The file; None of a camera."""
        return None if isinstance(self.at, int) else self.at

    @property
    def is_camera(self) -> bool:
        return self.path is None

    @property
    def is_video(self) -> bool:
        """Whether it has many pictures."""
        return self.path is None or self.path.suffix.lower() in VIDEOS


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video.

    Attributes:
        source: where it comes from.
        pixels: (H, W, 3) RGB or (H, W) grey uint8; None if it cannot be read.
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


def named(words: Iterable[str], note: Callable[[str], None] = lambda message: None) -> list[Source]:
    """Return what a user means by some words: files, folders with all images and videos in and below them, linked
    folders too, numbers of cameras. What fertool drew is left out of folders.

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
            found.append(Source(f"camera {word}", int(word), f"camera-{word}.mp4"))
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
    return Source(printable(name), path, printable(below), source_file.listed(path) == MISSING)


def count(sources: Iterable[Source], every: int) -> int | None:
    """How many pictures they have, as far as videos state it; None with a camera among them."""
    total = 0
    for source in sources:
        if source.path is None:
            return None
        total += -(-max(count_frames(source.path), 1) // every) if source.is_video else 1
    return total


def pictures(sources: Iterable[Source], every: int = 1) -> Iterator[Picture]:
    """All pictures, in order.

    Args:
        every: of a video or camera, only every N-th frame.

    Raises:
        OSError, MemoryError: a file cannot be read now, which says nothing of its picture.
    """
    for source in sources:
        if source.missing:
            yield Picture(source, None, "no such file or directory")
        elif source.path is None or source.is_video:
            yield from _frames(source, every)
        else:
            yield _still(source, source.path)


def _still(source: Source, path: Path) -> Picture:
    try:
        return Picture(source, read_image(path))
    except UnreadableImage as e:
        return Picture(source, None, e.message.removeprefix(f"{path}: "))


def _frames(source: Source, every: int) -> Iterator[Picture]:
    import cv2

    path = source.path
    if path and not stat.S_ISREG(path.stat().st_mode):
        yield Picture(source, None, "not a file")
        return
    video = open_video(source.at)
    began, last = time.monotonic(), 0
    try:
        if not video.isOpened():
            if path:
                probe(path)
            yield Picture(source, None, "there is no such camera" if source.is_camera else "not a video, or damaged")
            return
        stated, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS) / every
        for number, milliseconds in grabbed(video, source.at):
            if number > last + 1:
                yield Picture(source, None, f"damaged: frames {last + 1:,} to {number - 1:,} cannot be read", last + 1)
            last = number
            if (number - 1) % every:
                continue
            seconds = time.monotonic() - began if source.is_camera else milliseconds / 1000
            pixels = retrieve(video)
            problem = "" if pixels is not None else f"damaged: frame {number:,} cannot be read"
            yield Picture(source, pixels, problem, number, seconds, rate)
    finally:
        video.release()
    if not last:
        if path:
            probe(path)
        yield Picture(source, None, "no frame of it can be read")
    elif path and last < (stated if path.suffix.lower() in _EXACT else _SHORT * stated):
        probe(path)
        said = f"damaged: it ends after {last:,} of {stated:,.0f} frames"
        yield Picture(source, None, f"{said}, or some of them are lost and later ones are counted without them", last)
