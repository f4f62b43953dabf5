"""Open videos with the library that is there; single frames; what a file is without decoding it."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fertool.videos.base import Video, VideoError, numbered


def open_video(at: Path | int) -> Video:
    """Open a video file, or the camera of a number (which OpenCV reads).

    Raises:
        VideoError: there are no frames in it, or no such camera.
    """
    if not isinstance(at, int) and find_spec("av"):
        from fertool.videos.pyav import PyavVideo

        return PyavVideo(at)
    from fertool.videos.opencv import OpencvVideo

    return OpencvVideo(at)


def count_frames(path: Path) -> int:
    """Return how many frames a video says it has; 0 if it cannot be read."""
    try:
        with open_video(path) as video:
            return video.stated
    except VideoError:
        return 0


def read_frame(path: Path, number: int) -> np.ndarray:
    """Return a frame as (H, W, 3) RGB uint8; the first one has the number 1.

    Frames are passed one by one: videos of some encodings jump to another frame than the one asked for.

    Raises:
        UnreadableImage: the video cannot be decoded or is shorter, or the frame is damaged.
        OSError: its file cannot be read now.
    """
    from fertool.faces.images import UnreadableImage

    at, frame = None, None
    try:
        with open_video(path) as video:
            at = next((n for n, _ in numbered(video) if n >= number), None)
            frame = video.image() if at == number else None
    except VideoError:
        pass
    if frame is None:
        probe(path)
        raise UnreadableImage(f"{path}: there is no frame {number}" + (", or it is damaged" if at else ""))
    return frame


def has_frames(path: Path) -> bool:
    """Return whether an image file is an animation: a .gif of several frames."""
    from PIL import Image

    if path.suffix.lower() != ".gif":
        return False
    try:
        with Image.open(path, formats=("GIF",)) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # whatever Pillow raises on damaged data; reading the image will say it
        return False


def probe(path: Path) -> None:
    """Read a file whole, because decoders tell a damaged video from a failing disk or too many open files by nothing.

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
