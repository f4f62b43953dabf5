"""Frames of a film, read by OpenCV."""

from pathlib import Path

import numpy as np


def count_frames(path: Path) -> int:
    """How many frames a film says it has; 0 if it cannot be read."""
    import cv2

    film = cv2.VideoCapture(str(path))
    count = int(film.get(cv2.CAP_PROP_FRAME_COUNT)) if film.isOpened() else 0
    film.release()
    return max(count, 0)


def read_frame(path: Path, number: int) -> np.ndarray:
    """A frame as (H, W, 3) RGB uint8; the first one has the number 1.

    Frames are passed one by one: films of some encodings jump to another frame than the one asked for.

    Raises:
        UnreadableImage: the film cannot be decoded, or is shorter.
        OSError: its file cannot be read now.
    """
    import cv2

    from fertool.faces.images import UnreadableImage

    film = cv2.VideoCapture(str(path))
    try:
        passed = all(film.grab() for _ in range(number - 1))
        there, frame = film.read() if passed else (False, None)
    finally:
        film.release()
    if not there:
        probe(path)
        raise UnreadableImage(f"{path}: there is no frame {number}")
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def probe(path: Path) -> None:
    """Read a file whole, because OpenCV tells a damaged film from a failing disk or too many open files by nothing.

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
