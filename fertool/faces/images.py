"""Images as people have them on disk: any common format, mode and orientation → upright 8-bit pixels."""

import errno
import io
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fertool.errors import DataError, out_of_memory

if TYPE_CHECKING:
    from PIL import Image, ImageFile

#: larger images are refused before they are decoded (a decompression bomb is a small file)
MAX_PIXELS = 100_000_000
MAX_SIDE = 32_000  # OpenCV warps no wider ones
MAX_BYTES = 1 << 30

# those that Pillow decodes itself; EPS, for one, would start another program
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")

_HEIF = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypmif1", b"ftypmsf1")  # bytes 4 to 12
_ARCHIVE = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!")
_ORIENTATION = 0x0112  # tag of EXIF
_DEPTHS = (8, 10, 12, 14, 16)  # bits of a value that 16-bit files hold


class UnreadableImage(DataError):
    """A file that is no image that can be used."""


def read_image(path: Path | str) -> np.ndarray:
    """Return an image as (H, W, 3) RGB or (H, W) grey uint8, turned upright as its EXIF data say.

    The format is told by what the file holds, not by its name. Of animations the first frame is taken, and what is
    transparent is laid over white. Values of 16-bit files are scaled from the smallest of 8, 10, 12, 14 and 16 bits
    that holds them all: many cameras write 12 bits into 16. HEIC needs the package pillow-heif.

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
            with Image.open(io.BytesIO(data), formats=_formats(data, path)) as image:
                pixels = image.width * image.height
                if pixels > MAX_PIXELS or max(image.size) > MAX_SIDE:
                    raise UnreadableImage(f"{path}: {image.width:,} × {image.height:,} pixels are {_TOO_MANY}")
                if _is_deep(image):
                    return _pixels(ImageOps.exif_transpose(_eight_bit(image, data)), path)
                image.load()
                return _pixels(ImageOps.exif_transpose(image), path)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as e:
        raise UnreadableImage(f"{path}: its pixels are {_TOO_MANY}") from e
    except Image.UnidentifiedImageError as e:
        packed = ": an archive is unpacked first" if data.startswith(_ARCHIVE) else ""
        raise UnreadableImage(f"{path}: not an image, or of a format not known here{packed}") from e
    except Exception as e:  # decoders raise whatever they like on damaged data
        # of damaged data, too, they say that memory ran out: then there is room for what any image needs
        if out_of_memory(e) and not _room_for(8 * pixels):
            raise MemoryError(f"{path}: no memory for its {pixels:,} pixels") from e
        raise UnreadableImage(f"{path}: damaged ({' '.join(str(e).split()) or type(e).__name__})") from e


def is_missing(e: OSError) -> bool:
    """Return whether there is no file of that name, rather than one that cannot be read now."""
    return e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def _read_bytes(path: Path) -> bytes:
    """Return all of a file; what goes wrong here is the disk's fault, not the image's."""
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
    """Return whether so many bytes of memory can be had."""
    try:
        np.empty(count, np.uint8)
    except MemoryError:
        return False
    return True


_TOO_MANY = f"too many (at most {MAX_PIXELS // 1_000_000} million, and {MAX_SIDE:,} a side)"


def _formats(data: bytes, path: Path) -> tuple[str, ...]:
    """Return the formats that Pillow may take data for; HEIF if they are and its decoder is installed."""
    if data[4:12] not in _HEIF:
        return _FORMATS
    try:
        import pillow_heif
    except ImportError:
        raise UnreadableImage(f"{path}: HEIC, which needs: pip install pillow-heif") from None
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _is_deep(image: "ImageFile.ImageFile") -> bool:
    """Return whether an image has 16 bits for each of several channels, of which Pillow would keep the upper eight."""
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in image.tile)


def _eight_bit(image: "ImageFile.ImageFile", data: bytes) -> "Image.Image":
    """Return a deep image as one of 8 bits, as it lies in the file."""
    import cv2
    from PIL import Image

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        image.load()  # says what is wrong with it
        return image
    order = cv2.COLOR_BGRA2RGBA if values.shape[2] == 4 else cv2.COLOR_BGR2RGB
    values = cv2.cvtColor(values, order)
    eight = np.dstack([_scaled(values[..., :3]), values[..., 3:] // 257]).astype(np.uint8)
    flat = Image.fromarray(eight)
    flat.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
    return flat


def _scaled(values: np.ndarray) -> np.ndarray:
    """Return values of 0 to 65535 as uint8, white being the largest that the bits in use can hold."""
    bits = next(bits for bits in _DEPTHS if values.max(initial=0) < 1 << bits)
    white = (1 << bits) - 1
    return ((values.astype(np.int64) * 255 + white // 2) // white).astype(np.uint8)


def _pixels(image: "Image.Image", path: Path) -> np.ndarray:
    from PIL import Image

    if image.mode == "F":
        raise UnreadableImage(f"{path}: floating-point pixels")
    if image.mode.startswith("I"):
        return _scaled(np.clip(np.asarray(image, dtype=np.int64), 0, 65535))
    if image.has_transparency_data:
        target = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
        image = image.convert("RGBA")
        return np.array(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert(target))
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return np.array(image)
