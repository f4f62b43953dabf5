"""Photographs as people have them on disk: any common format, mode and orientation → upright 8-bit pixels."""

import warnings
from pathlib import Path

import numpy as np

from fertool.errors import DataError

#: larger photographs are refused before they are decoded (a decompression bomb is a small file)
MAX_PIXELS = 100_000_000
MAX_SIDE = 32_000  # OpenCV warps no wider ones

# those that Pillow decodes itself; EPS, for one, would start another program
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000")


class UnreadableImage(DataError):
    """A file that is no photograph that can be used."""


def read_image(path: Path | str) -> np.ndarray:
    """A photograph as (H, W, 3) RGB or (H, W) grey uint8, turned upright as its EXIF data say.

    The format is told by what the file holds, not by its name. Of animations the first frame is taken, 16-bit values
    are scaled by 1/257, and what is transparent is laid over white.

    Raises:
        UnreadableImage: missing, a folder, empty, no image, damaged, too large, or of floating-point values.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise UnreadableImage(f"{path}: not a file")
        if size == 0:
            raise UnreadableImage(f"{path}: empty file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's opinions on EXIF data, palettes, and sizes that are judged here
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                    raise UnreadableImage(f"{path}: {image.width:,} × {image.height:,} pixels are {_TOO_MANY}")
                image.load()
                return _pixels(ImageOps.exif_transpose(image), path)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as e:
        raise UnreadableImage(f"{path}: its pixels are {_TOO_MANY}") from e
    except Image.UnidentifiedImageError as e:
        raise UnreadableImage(f"{path}: not an image, or of a format not known here") from e
    except OSError as e:
        raise UnreadableImage(f"{path}: {e.strerror.lower() if e.strerror else f'damaged ({e})'}") from e
    except Exception as e:  # decoders raise whatever they like on damaged data
        raise UnreadableImage(f"{path}: damaged ({' '.join(str(e).split()) or type(e).__name__})") from e


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
