"""Small images for a page: faces, and where a network looked, as JPEG data URIs."""

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from fertool.figures import style

WIDTH = 144  # pixels; shown at about two thirds of it, so that it is sharp on a dense screen
_MAP, _STRENGTH = "inferno", 0.6  # as `figures.attention` draws them


def face(image: np.ndarray) -> Image.Image:
    """Return a face (H, W, 1 or 3) uint8, enlarged or reduced to WIDTH."""
    whole = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")
    return whole.resize((WIDTH, round(WIDTH * image.shape[0] / image.shape[1])), Image.Resampling.BICUBIC)


def heat(image: np.ndarray, values: np.ndarray, view: Sequence[float] = (0, 0, 1, 1)) -> Image.Image:
    """Return a face with a map over it, stretched from its lowest value to its highest.

    Args:
        image: (H, W, 1 or 3) uint8.
        values: (h, w) over the view.
        view: x0, y0, x1, y1 of the network's view as fractions of the face; the rest stays grey.
    """
    base = face(image).convert("L").convert("RGB")
    x0, x1 = (round(v * base.width) for v in (view[0], view[2]))
    y0, y1 = (round(v * base.height) for v in (view[1], view[3]))
    spread = np.ptp(values)
    level = (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
    smooth = Image.fromarray(level.astype(np.float32)).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
    coloured = Image.fromarray(matplotlib.colormaps[_MAP](np.asarray(smooth), bytes=True)[..., :3])
    base.paste(Image.blend(base.crop((x0, y0, x1, y1)), coloured, _STRENGTH), (x0, y0))
    return base


def framed(image: np.ndarray, boxes: np.ndarray, weights: np.ndarray) -> Image.Image:
    """Return a face with the region of the largest weight framed in red, of the smallest in blue (RAN's Fig. 6).

    Args:
        boxes: (K, 4) fractions of the face.
        weights: (K,).
    """
    drawn = face(image)
    pen = ImageDraw.Draw(drawn)
    for k, colour, inset in ((weights.argmin(), style.LOWEST, 5), (weights.argmax(), style.HIGHEST, 0)):
        x0, y0, x1, y1 = boxes[k] * np.array([drawn.width, drawn.height] * 2)
        pen.rectangle((x0 + inset, y0 + inset, x1 - 1 - inset, y1 - 1 - inset), outline=colour, width=4)
    return drawn


def data_uri(picture: Image.Image) -> str:
    """Return an image as a link that holds it."""
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode()
