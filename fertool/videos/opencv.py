"""Videos and cameras read by OpenCV."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fertool.videos.base import Video, VideoError

_PATIENCE = (
    10_000  # frames in a row that cannot be decoded before a video counts as ended: OpenCV does not tell the end
)


def silence_ffmpeg() -> None:
    """Keep FFmpeg from printing about broken files; OpenCV reads the level once, at the first video read or written."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class OpencvVideo(Video):
    """A video file, or the camera of a number.

    Raises:
        VideoError: it is damaged, or not there.
    """

    def __init__(self, at: Path | int):
        self._at = at
        self._video = _capture(at)
        if not self._video.isOpened():
            raise VideoError("there is no such camera" if isinstance(at, int) else "not a video, or damaged")
        self.rate = self._video.get(cv2.CAP_PROP_FPS)
        self.stated = 0 if isinstance(at, int) else max(int(self._video.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.duration = self.stated / self.rate if self.rate > 0 else 0.0

    def grab(self) -> Iterator[float | None]:
        grabbed = failed = 0
        while failed <= min(max(self.stated - grabbed, 0), _PATIENCE):
            if self._video.grab():
                grabbed, failed = grabbed + 1, 0
                yield self._video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            else:
                failed += 1
                yield None

    def image(self) -> np.ndarray | None:
        there, frame = self._video.retrieve()
        if not there or frame is None or not frame.size:
            return None
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB if frame.ndim == 2 else cv2.COLOR_BGR2RGB)

    def times(self) -> list[float]:
        video, times = _capture(self._at), []
        try:
            if not isinstance(self._at, int) and video.set(cv2.CAP_PROP_FORMAT, -1):  # packets as they are
                while video.grab():
                    times.append(video.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        finally:
            video.release()
        return sorted(times)

    def close(self) -> None:
        self._video.release()


def _capture(at: Path | int) -> cv2.VideoCapture:
    """Open without what OpenCV and FFmpeg would print about a broken file."""
    silence_ffmpeg()
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(at if isinstance(at, int) else str(at))
    finally:
        cv2.utils.logging.setLogLevel(before)
