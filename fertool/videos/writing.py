"""Write MP4 files frame by frame, each shown from its own time on."""

from abc import ABC, abstractmethod
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fertool.errors import DataError

_UNIT = Fraction(1, 60_000)  # seconds; MPEG-4 allows no finer one
_CODECS = {  # the first that this build of FFmpeg has; H.264 is what browsers play
    "libx264": {"crf": "20", "preset": "veryfast"},
    "mpeg4": {"b": "8000000"},
}


class VideoWriter(ABC):
    """A video that is being written."""

    @abstractmethod
    def write(self, image: np.ndarray, seconds: float) -> None:
        """Add a frame (H, W, 3) RGB uint8, shown from `seconds` after the beginning until the next."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""


def write_video(path: Path, size: tuple[int, int], rate: float) -> VideoWriter:
    """Begin an MP4 file.

    Args:
        size: width and height in pixels, both even.
        rate: frames per second. PyAV takes it as an expectation; OpenCV, which knows no other times, repeats and leaves
            out frames to keep to theirs.

    Raises:
        DataError: it cannot be written.
    """
    if find_spec("av"):
        return _PyavWriter(path, size, rate)
    return _OpencvWriter(path, size, rate)


class _PyavWriter(VideoWriter):
    def __init__(self, path: Path, size: tuple[int, int], rate: float):
        import av

        name = next(name for name in _CODECS if name in av.codecs_available)
        self._frame = av.VideoFrame.from_ndarray
        self._file = av.open(str(path), "w", format="mp4")
        about = Fraction(rate).limit_denominator(1001)
        stream: Any = self._file.add_stream(name, rate=about, options=_CODECS[name])
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _UNIT
        self._encode = stream.encode
        self._last = -1

    def write(self, image: np.ndarray, seconds: float) -> None:
        frame = self._frame(np.ascontiguousarray(image), format="rgb24")
        self._last = max(round(seconds / _UNIT), self._last + 1)
        frame.pts, frame.time_base = self._last, _UNIT
        self._file.mux(self._encode(frame))

    def close(self) -> None:
        self._file.mux(self._encode())
        self._file.close()


class _OpencvWriter(VideoWriter):
    def __init__(self, path: Path, size: tuple[int, int], rate: float):
        import cv2

        from fertool.videos.opencv import silence_ffmpeg

        silence_ffmpeg()
        self._file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        if not self._file.isOpened():
            raise DataError(f"cannot write {path}", "this OpenCV writes no MP4, or the folder is not writable")
        self._rate, self._written = rate, 0
        self._waiting: np.ndarray | None = None

    def write(self, image: np.ndarray, seconds: float) -> None:
        self._fill(round(seconds * self._rate))
        self._waiting = np.ascontiguousarray(image[..., ::-1])

    def _fill(self, until: int) -> None:
        """Show the last frame up to a moment."""
        while self._waiting is not None and self._written < until:
            self._file.write(self._waiting)
            self._written += 1

    def close(self) -> None:
        self._fill(self._written + 1)
        self._file.release()
