"""Photographs, folders of them, films and cameras as one stream of pictures, of which one at a time is in memory."""

import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fertool.datasets.disk import pictures_below, printable
from fertool.datasets.video import probe
from fertool.faces import source_file
from fertool.faces.images import UnreadableImage, read_image
from fertool.faces.source_file import MISSING

#: endings of the files that are taken for films; all others are taken for photographs
FILMS = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts"))

_SHORT = 0.95  # a film with less of its frames than this ends too early; the number a file states is an estimate


@dataclass(frozen=True)
class Source:
    """A photograph, a film or a camera.

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
    def is_camera(self) -> bool:
        return isinstance(self.at, int)

    @property
    def is_film(self) -> bool:
        """Whether it has many pictures."""
        return self.is_camera or self.at.suffix.lower() in FILMS


@dataclass(frozen=True)
class Picture:
    """A photograph, or a frame of a film.

    Attributes:
        source: where it comes from.
        pixels: (H, W, 3) RGB or (H, W) grey uint8; None if it cannot be read.
        problem: why it cannot be read, or what is wrong with the film, of which it then is the end.
        frame: its number in the film, from 1; 0 for a photograph.
        seconds: since the film began, or since the camera was switched on; NaN for a photograph.
        rate: frames per second of a film as they are taken here; 0 if unknown.
    """

    source: Source
    pixels: np.ndarray | None
    problem: str = ""
    frame: int = 0
    seconds: float = np.nan
    rate: float = 0.0


def named(words: Iterable[str]) -> list[Source]:
    """What a user means by some words: files, folders with all pictures in and below them, numbers of cameras.

    Raises:
        DataError: a folder cannot be read.
    """
    found = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            files = sorted(pictures_below(path))
            found += [Source(printable(str(p)), p, printable(p.relative_to(path).as_posix())) for p in files]
        elif word.isdecimal() and not path.exists():
            found.append(Source(f"camera {word}", int(word), f"camera-{word}.mp4"))
        else:
            found.append(Source(printable(word), path, printable(path.name), source_file.listed(path) == MISSING))
    return found


def count(sources: Iterable[Source], every: int) -> int | None:
    """How many pictures they have, as far as films state it; None with a camera among them."""
    total = 0
    for source in sources:
        if source.is_camera:
            return None
        total += -(-_stated(source) // every) if source.is_film else 1
    return total


def pictures(sources: Iterable[Source], every: int = 1) -> Iterator[Picture]:
    """All pictures, in order.

    Args:
        every: of a film or camera, only every so-manieth frame.

    Raises:
        OSError, MemoryError: a file cannot be read now, which says nothing of its picture.
    """
    for source in sources:
        if source.missing:
            yield Picture(source, None, "no such file or directory")
        elif source.is_film:
            yield from _frames(source, every)
        else:
            yield _photograph(source)


def _photograph(source: Source) -> Picture:
    try:
        return Picture(source, read_image(source.at))
    except UnreadableImage as e:
        return Picture(source, None, e.message.removeprefix(f"{source.at}: "))


def _frames(source: Source, every: int) -> Iterator[Picture]:
    import cv2

    if not source.is_camera and not stat.S_ISREG(source.at.stat().st_mode):
        yield Picture(source, None, "not a file")
        return
    film = _open(source)
    began, number = time.monotonic(), 0
    try:
        if not film.isOpened():
            if not source.is_camera:
                probe(source.at)
            yield Picture(source, None, "there is no such camera" if source.is_camera else "not a film, or damaged")
            return
        rate = film.get(cv2.CAP_PROP_FPS) / every
        while film.grab():
            number += 1
            if (number - 1) % every:
                continue
            seconds = time.monotonic() - began if source.is_camera else film.get(cv2.CAP_PROP_POS_MSEC) / 1000
            there, frame = film.retrieve()
            if not there:
                break
            yield Picture(source, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), "", number, seconds, rate)
        stated = film.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        film.release()
    if not number:
        if not source.is_camera:
            probe(source.at)
        yield Picture(source, None, "no frame of it can be read")
    elif not source.is_camera and number < _SHORT * stated:
        probe(source.at)
        yield Picture(source, None, f"damaged: it ends after {number:,} of {stated:,.0f} frames", number)


def _stated(source: Source) -> int:
    import cv2

    film = _open(source)
    frames = int(film.get(cv2.CAP_PROP_FRAME_COUNT)) if film.isOpened() else 1
    film.release()
    return max(frames, 1)


def _open(source: Source):
    """The film, opened without what OpenCV and FFmpeg would print about a broken one."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(source.at if source.is_camera else str(source.at))
    finally:
        cv2.utils.logging.setLogLevel(before)
