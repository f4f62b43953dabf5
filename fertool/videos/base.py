"""What a video is, whichever library reads it."""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator
from typing import Self

import numpy as np


class VideoError(Exception):
    """A file without frames, or a camera that is not there; the message says why."""


class Video(ABC):
    """An open video or camera, which is read once from its beginning.

    Attributes:
        stated: number of frames that the file states, often an estimate; 0 if unknown.
        duration: seconds that the file states; 0 if unknown.
        rate: mean number of frames per second that the file states; 0 if unknown.
    """

    stated: int = 0
    duration: float = 0.0
    rate: float = 0.0

    @abstractmethod
    def grab(self) -> Iterator[float | None]:
        """Yield the time of every frame in seconds since the video began; None for one that cannot be decoded."""

    @abstractmethod
    def image(self) -> np.ndarray | None:
        """Return the frame grabbed last as (H, W, 3) RGB uint8, upright; None if it cannot be decoded."""

    @abstractmethod
    def times(self) -> list[float]:
        """Return the times of all frames in the file in seconds, sorted, without decoding them."""

    @abstractmethod
    def close(self) -> None:
        """Close the file or camera."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def numbered(video: Video) -> Iterator[tuple[int, float]]:
    """Grab the frames of a video one by one; the caller takes the images of those that it wants.

    Frames that cannot be decoded are passed over and counted: later ones keep their numbers. Where one is missing, by
    its time or because nothing was decoded, the times of all frames in the file tell the number of the next.

    Yields:
        (number of the frame, from 1; its time in seconds).
    """
    number, failed, before = 0, False, 0.0
    times: list[float] | None = None
    for now in video.grab():
        if now is None:
            failed = True
            continue
        number += 1
        if failed or (number > 1 and (now - before) * video.rate > 1.5):
            times = video.times() if times is None else times
            number = max(number, bisect_left(times, now - 0.001) + 1)
        failed, before = False, now
        yield number, now
