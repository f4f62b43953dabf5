"""The file that an image was read from, and whether it still is that image.

Size and times of a file say cheaply that it may be unchanged; the digest of the pixels that were read proves it. Times
belong to one disk: they are kept beside the faces, but are no part of a faces file's digest.
"""

import hashlib
from pathlib import Path

import numpy as np

from fertool.faces.images import is_missing

#: bytes of a digest; that of a file that is no usable image is all zeros
DIGEST = 16

#: size in bytes, and times of the last change of content and of the file's entry in ns
Stat = tuple[int, int, int]

NO_FILE: Stat = (0, 0, 0)  # the dataset draws its images
MISSING: Stat = (-1, -1, -1)


def stat(path: Path | None) -> Stat:
    """Return the size and times of a file.

    Raises:
        OSError: there is no such file, or it cannot be asked now.
    """
    if path is None:
        return NO_FILE
    about = path.stat()
    # the time of the entry also changes where a file takes another's name and keeps its size and time
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


def listed(path: Path | None) -> Stat:
    """Return the size and times of a file that a dataset lists, MISSING if there is none.

    Raises:
        OSError: it cannot be asked now.
    """
    try:
        return stat(path)
    except OSError as e:
        if is_missing(e):
            return MISSING
        raise


def digest(image: np.ndarray | None) -> np.ndarray:
    """Return (16,) uint8 digest of an image's pixels and shape."""
    if image is None:
        return np.zeros(DIGEST, np.uint8)
    h = hashlib.blake2b(repr(image.shape).encode(), digest_size=DIGEST)
    h.update(np.ascontiguousarray(image).data)
    return np.frombuffer(h.digest(), np.uint8)
