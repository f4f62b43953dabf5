"""Photographs as people have them on disk: any common format, mode and orientation → upright 8-bit pixels."""

import errno
import io
import stat
import warnings
from pathlib import Path

import numpy as np

from fertool.errors import DataError, out_of_memory

#: larger photographs are refused before they are decoded (a decompression bomb is a small file)
MAX_PIXELS = 100_000_000
MAX_SIDE = 32_000  # OpenCV warps no wider ones
MAX_BYTES = 1 << 30

# those that Pillow decodes itself; EPS, for one, would start another program
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000")


class UnreadableImage(DataError):
    """A file that is no photograph that can be used."""


def read_image(path: Path | str) -> np.ndarray:
    """A photograph as (H, W, 3) RGB or (H, W) grey uint8, turned upright as its EXIF data say.

    The format is told by what the file holds, not by its name. Of animations the first frame is taken, 16-bit values
    are scaled by 1/257, and what is transparent is laid over white.

    Raises:
        UnreadableImage: a folder, empty, no image, damaged, too large, or of floating-point values.
        OSError, MemoryError: the file cannot be read now (missing, no permission, a failing disk, too many open files,
            no memory), which says nothing of the image.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    data = _read_bytes(path)
    pixels = MAX_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's opinions on EXIF data, palettes, and sizes that are judged here
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                pixels = image.width * image.height
                if pixels > MAX_PIXELS or max(image.size) > MAX_SIDE:
                    raise UnreadableImage(f"{path}: {image.width:,} × {image.height:,} pixels are {_TOO_MANY}")
                image.load()
                return _pixels(ImageOps.exif_transpose(image), path)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as e:
        raise UnreadableImage(f"{path}: its pixels are {_TOO_MANY}") from e
    except Image.UnidentifiedImageError as e:
        raise UnreadableImage(f"{path}: not an image, or of a format not known here") from e
    except Exception as e:  # decoders raise whatever they like on damaged data
        # of damaged data, too, they say that memory ran out: then there is room for what any image needs
        if out_of_memory(e) and not _room_for(8 * pixels):
            raise MemoryError(f"{path}: no memory for its {pixels:,} pixels") from e
        raise UnreadableImage(f"{path}: damaged ({' '.join(str(e).split()) or type(e).__name__})") from e


def is_missing(e: OSError) -> bool:
    """Whether there is no file of that name, rather than one that cannot be read now."""
    return e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def _read_bytes(path: Path) -> bytes:
    """All of a file; what goes wrong here is the disk's fault, not the image's."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise UnreadableImage(f"{path}: not a file")
    if about.st_size == 0:
        raise UnreadableImage(f"{path}: empty file")
    if about.st_size > MAX_BYTES:
        raise UnreadableImage(f"{path}: {about.st_size:,} bytes are too many (at most {MAX_BYTES:,})")
    try:
        return path.read_bytes()
    except OSError as e:
        e.filename = str(path)  # reading, unlike opening, does not name it
        raise


def _room_for(count: int) -> bool:
    """Whether so many bytes of memory can be had."""
    try:
        np.empty(count, np.uint8)
    except MemoryError:
        return False
    return True


_TOO_MANY = f"too many (at most {MAX_PIXELS // 1_000_000} million, and {MAX_SIDE:,} a side)"


def _pixels(image, path: Path) -> np.ndarray:
    from PIL import Image

    if image.mode == "F":
        raise UnreadableImage(f"{path}: floating-point pixels")
    if image.mode.startswith("I"):
        values = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        return ((values + 128) // 257).astype(np.uint8)
    if image.has_transparency_data:
        target = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
        image = image.convert("RGBA")
        return np.array(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert(target))
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return np.array(image)
