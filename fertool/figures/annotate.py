"""Images with the faces in them framed and labelled, and where the network looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fertool.labels import EMOTIONS

if TYPE_CHECKING:
    from PIL import ImageFont

_LEAST_SIDE = 640  # smaller pictures are enlarged: a label would not fit into them
_TEXT = (13, 40)  # height of letters in pixels, at least and at most
_OF_PICTURE, _OF_FACE = 1 / 40, 0.2  # of the picture's longer side, of the face's width
_HEAT = 0.5  # how much a map covers where it is highest

#: of each emotion, whatever the order of a run's classes: Okabe and Ito's palette, and grey
_COLOURS = dict(
    zip(
        EMOTIONS,
        ("#BBBBBB", "#E69F00", "#0072B2", "#56B4E9", "#CC79A7", "#009E73", "#D55E00", "#F0E442"),
        strict=True,
    )
)


@dataclass(frozen=True)
class Framed:
    """A face in an image.

    Attributes:
        box: x0, y0, x1, y1 in pixels, the centre of the top-left one being (0, 0).
        emotion: decides the colour, and is written beside it.
        sure: its probability, written too.
        heat: (h, w) where the network looked, or None.
        place: (2, 3) pixels of `heat` → pixels of the image.
        number: of the person in a video, written too; 0 if unknown.
    """

    box: np.ndarray
    emotion: str
    sure: float
    heat: np.ndarray | None = None
    place: np.ndarray | None = None
    number: int = 0

    @property
    def label(self) -> str:
        return f"{f'{self.number}: ' if self.number else ''}{self.emotion} {100 * self.sure:.0f} %"


def annotate(image: np.ndarray, faces: Sequence[Framed]) -> np.ndarray:
    """Return an image (H, W[, 3]) with its faces marked, (h, w, 3) uint8; small ones enlarged."""
    import cv2
    from PIL import Image, ImageDraw

    k = max(1, -(-_LEAST_SIDE // max(image.shape[:2])))
    if k > 1:
        image = cv2.resize(image, None, fx=k, fy=k, interpolation=cv2.INTER_CUBIC)
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    for face in faces:
        if face.heat is not None and face.place is not None:
            image = _heated(image, face.heat, face.place, k)
    drawn = Image.fromarray(image)
    pen = ImageDraw.Draw(drawn)
    boxes = [tuple(k * (np.asarray(face.box) + 0.5)) for face in faces]
    largest = np.clip(max(drawn.size) * _OF_PICTURE, *_TEXT)
    texts: list[tuple[float, ...]] = []
    for box, face in zip(boxes, faces, strict=True):
        colour = _COLOURS[face.emotion]
        width = max(2, round(largest / 8))
        pen.rectangle(box, outline="black", width=width + 2)
        pen.rectangle([box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1], outline=colour, width=width)
    for i, (box, face) in enumerate(zip(boxes, faces, strict=True)):
        font = _font(round(np.clip(_OF_FACE * (box[2] - box[0]), _TEXT[0], largest)))
        left, _, right, _ = font.getbbox(face.label, anchor="ls")
        pad = max(2, font.size // 4)
        ascent, descent = font.size * 0.8, font.size * 0.22  # the same for every label, with or without a p or an l
        size = (right - left + 2 * pad, ascent + descent + pad)
        area = _free(size, box, [*boxes[:i], *boxes[i + 1 :]], texts, drawn.size)
        texts.append(area)
        colour = _COLOURS[face.emotion]
        pen.rectangle(area, fill=colour, outline="black")
        pen.text((area[0] + pad - left, area[1] + pad / 2 + ascent), face.label, _ink(colour), font, anchor="ls")
    return np.asarray(drawn)


def _free(
    size: tuple[float, float],
    box: tuple[float, ...],
    others: Sequence[tuple[float, ...]],
    texts: Sequence[tuple[float, ...]],
    picture: tuple[int, int],
) -> tuple[float, ...]:
    """Return where a label of some size goes: around its face's box, or inside it along an edge.

    It stays within the image and covers as little as possible of other faces and labels.
    """
    (w, h), (x0, y0, x1, y1) = size, box
    places = [(x, y) for y in (y0 - h, y1) for x in (x0, x1 - w, (x0 + x1 - w) / 2)]
    places += [(x, y) for x in (x1, x0 - w) for y in (y0, y1 - h)]
    places += [(x0, y0), (x0, y1 - h)]
    best: tuple[float, ...] = box
    least = np.inf
    for order, place in enumerate(places):
        x, y = np.clip(place, 0, (max(0, picture[0] - 1 - w), max(0, picture[1] - 1 - h))).tolist()
        area = (x, y, x + w, y + h)
        over = sum(_shared(area, other) for other in others) + 3 * sum(_shared(area, text) for text in texts)
        cost = over + 0.3 * _shared(area, box) + 0.01 * order * w * h
        if cost < least:
            best, least = area, cost
    return best


def _shared(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the area in which two boxes overlap."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _heated(image: np.ndarray, values: np.ndarray, place: np.ndarray, k: int) -> np.ndarray:
    """Return an image, enlarged k times, with a map over one face.

    The map is stretched from its lowest value to its highest, and the more opaque the higher it is.
    """
    import cv2

    low, high = float(values.min()), float(values.max())
    heat = ((values - low) / max(high - low, 1e-9)).astype(np.float32)
    heat = np.pad(heat, 1, mode="edge")  # up to the edges of its outer cells
    matrix = place * k
    matrix[:, 2] += (k - 1) / 2 - matrix[:, :2].sum(axis=1)
    height, width = image.shape[:2]
    rows, columns = values.shape
    corners = np.array([(0.5, 0.5), (columns + 0.5, 0.5), (columns + 0.5, rows + 0.5), (0.5, rows + 0.5)])
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    (x0, y0), (x1, y1) = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int) + 1
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if x0 >= x1 or y0 >= y1:
        return image
    matrix[:, 2] -= (x0, y0)
    size = (x1 - x0, y1 - y0)
    over = np.clip(cv2.warpAffine(heat, matrix, size, flags=cv2.INTER_LINEAR), 0, 1)
    polygon = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillConvexPoly(polygon, np.rint(corners - (x0, y0)).astype(np.int32), 1)
    coloured = cv2.applyColorMap((255 * over).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opaque = (_HEAT * over * polygon)[..., None]
    out = image.copy()
    out[y0:y1, x0:x1] = np.rint((1 - opaque) * image[y0:y1, x0:x1] + opaque * coloured)
    return out


def _ink(colour: str) -> str:
    """Return black or white, whichever is read better on a colour."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


@lru_cache
def _font(size: int) -> "ImageFont.FreeTypeFont":
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
