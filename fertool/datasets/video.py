"""Frames of a video, read by OpenCV."""

import os
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import cv2

_PATIENCE = 10_000  # frames in a row that cannot be decoded before a video counts as ended


def open_video(at: Path | int) -> "cv2.VideoCapture":
    """Open a video file, or the camera of a number, without what OpenCV and FFmpeg would print about a broken one.

    Returns:
        cv2.VideoCapture, which may not be opened.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(at if isinstance(at, int) else str(at))
    finally:
        cv2.utils.logging.setLogLevel(before)


def grabbed(video: "cv2.VideoCapture", at: Path | int) -> Iterator[tuple[int, float]]:
    """Grab the frames of an open video one by one; the caller retrieves those it wants.

    Frames that cannot be decoded are passed over and counted: later ones keep their numbers. Where one is missing, by
    its time or because nothing was decoded, the times of all frames in the file tell the number of the next.

    Yields:
        (number of the frame, from 1; its time in milliseconds).
    """
    import cv2

    path = None if isinstance(at, int) else at
    stated = video.get(cv2.CAP_PROP_FRAME_COUNT) if path else 0
    rate = video.get(cv2.CAP_PROP_FPS)
    number, failed, before, times = 0, 0, 0.0, None
    while failed <= min(max(stated - number, 0), _PATIENCE):
        if not video.grab():
            failed += 1
            continue
        now = video.get(cv2.CAP_PROP_POS_MSEC)
        number += 1
        if path and (failed or (number > 1 and (now - before) * rate > 1500)):
            times = _times(path) if times is None else times
            number = max(number, bisect_left(times, now - 1) + 1)
        failed, before = 0, now
        yield number, now


def _times(path: Path) -> list[float]:
    """Return the times of all frames in a file in milliseconds, sorted, without decoding them."""
    import cv2

    video = open_video(path)
    times = []
    try:
        if video.set(cv2.CAP_PROP_FORMAT, -1):  # packets as they are
            while video.grab():
                times.append(video.get(cv2.CAP_PROP_POS_MSEC))
    finally:
        video.release()
    return sorted(times)


def count_frames(path: Path) -> int:
    """Return how many frames a video says it has; 0 if it cannot be read."""
    import cv2

    video = open_video(path)
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    return max(count, 0)


def retrieve(video: "cv2.VideoCapture") -> np.ndarray | None:
    """Return the frame grabbed last as (H, W, 3) RGB uint8; None if it is empty or cannot be decoded."""
    import cv2

    there, frame = video.retrieve()
    if not there or frame is None or not frame.size:
        return None
    return cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB if frame.ndim == 2 else cv2.COLOR_BGR2RGB)


def read_frame(path: Path, number: int) -> np.ndarray:
    """Return a frame as (H, W, 3) RGB uint8; the first one has the number 1.

    Frames are passed one by one: videos of some encodings jump to another frame than the one asked for.

    Raises:
        UnreadableImage: the video cannot be decoded or is shorter, or the frame is damaged.
        OSError: its file cannot be read now.
    """
    from fertool.faces.images import UnreadableImage

    video = open_video(path)
    try:
        at = next((n for n, _ in grabbed(video, path) if n >= number), None) if video.isOpened() else None
        frame = retrieve(video) if at == number else None
    finally:
        video.release()
    if frame is None:
        probe(path)
        raise UnreadableImage(f"{path}: there is no frame {number}" + (", or it is damaged" if at else ""))
    return frame


def probe(path: Path) -> None:
    """Read a file whole, because OpenCV tells a damaged video from a failing disk or too many open files by nothing.

    Raises:
        OSError: it cannot be read now.
    """
    try:
        with open(path, "rb") as file, open(path, "rb"), open(path, "rb"):  # as many as a decoder opens
            while file.read(1 << 22):
                pass
    except OSError as e:
        e.filename = str(path)
        raise
