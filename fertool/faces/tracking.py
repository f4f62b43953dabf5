"""One number for every person through a video: faces matched by where they are and by what they look like.

In every frame the Hungarian method matches faces with the tracks so far, at the least sum of costs
`distance of descriptors - overlap of boxes`. A pair is possible if

- the boxes overlap (intersection over union at least `OVERLAP`; the track's box is moved on as it moved last) and the
  track was seen in the frame before, or less than `RECENT` seconds ago, and the descriptors do not tell two people; or
- the descriptors are those of one person beyond doubt (distance at most `CERTAIN`), wherever the face is: somebody who
  comes back.

The distance to a track is that to the nearest of its last descriptor and up to `GALLERY` that differ. A face that
matches nothing begins a track.
"""

from dataclasses import dataclass, field

import numpy as np

from fertool.faces.descriptor import SAME_PERSON

OVERLAP = 0.3
RECENT = 1.0  # seconds
CERTAIN = 0.5  # stricter than SAME_PERSON: a track has several descriptors, and any of them may be near by chance
GALLERY = 12
_DIFFERENT = 0.3  # of another descriptor in the gallery
_UNKNOWN = SAME_PERSON  # distance where a face has no descriptor
_IMPOSSIBLE = 1e3


@dataclass
class _Track:
    number: int
    box: np.ndarray
    seconds: float
    frame: int
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(4))
    last: np.ndarray | None = None
    gallery: list[np.ndarray] = field(default_factory=list)

    def moved(self, seconds: float) -> np.ndarray:
        """Return its box, moved on to a time."""
        return self.box + self.velocity * min(seconds - self.seconds, RECENT)

    def distances(self, descriptors: np.ndarray) -> np.ndarray:
        """Return the distance (n,) of every descriptor (n, 128) to the nearest of its own."""
        own = [*self.gallery, *([] if self.last is None else [self.last])]
        if not own or not len(descriptors):
            return np.full(len(descriptors), np.nan)
        return np.linalg.norm(descriptors[:, None] - np.stack(own), axis=2).min(axis=1)

    def see(self, box: np.ndarray, descriptor: np.ndarray, seconds: float, frame: int) -> None:
        passed = seconds - self.seconds
        self.velocity = (box - self.box) / passed if 0 < passed <= RECENT else np.zeros(4)
        self.box, self.seconds, self.frame = box, seconds, frame
        if np.isfinite(descriptor).all():
            if len(self.gallery) < GALLERY and not self.distances(descriptor[None])[0] < _DIFFERENT:
                self.gallery.append(descriptor)
            self.last = descriptor


class Tracker:
    """Numbers the people in a video, from 1, in the order in which they appear."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._frame = 0

    def __call__(self, seconds: float, boxes: np.ndarray, descriptors: np.ndarray) -> list[int]:
        """Return the number of every face of the next frame.

        Args:
            seconds: time of the frame.
            boxes: (n, 4) x0, y0, x1, y1.
            descriptors: (n, 128); NaN where unknown.
        """
        from scipy.optimize import linear_sum_assignment

        self._frame += 1
        numbers = [0] * len(boxes)
        costs = np.array([self._costs(track, seconds, boxes, descriptors) for track in self._tracks])
        for row, i in zip(*linear_sum_assignment(costs.reshape(len(self._tracks), len(boxes))), strict=True):
            if costs[row, i] < _IMPOSSIBLE:
                numbers[i] = self._tracks[row].number
        for i, number in enumerate(numbers):
            if not number:
                numbers[i] = len(self._tracks) + 1
                self._tracks.append(_Track(numbers[i], boxes[i], seconds, self._frame))
            self._tracks[numbers[i] - 1].see(boxes[i], descriptors[i], seconds, self._frame)
        return numbers

    def _costs(self, track: _Track, seconds: float, boxes: np.ndarray, descriptors: np.ndarray) -> np.ndarray:
        """Return what it costs to match a track with every face."""
        distances = track.distances(descriptors)
        overlaps = _overlaps(track.moved(seconds), boxes)
        near = overlaps >= OVERLAP
        near &= track.frame == self._frame - 1 or seconds - track.seconds <= RECENT
        near &= ~(distances > SAME_PERSON)
        costs = np.nan_to_num(distances, nan=_UNKNOWN) - overlaps
        return np.where(near | (distances <= CERTAIN), costs, _IMPOSSIBLE)


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union (n,) of a box with others (n, 4)."""
    sides = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None)
    shared = sides.prod(axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return shared / np.maximum(areas - shared, 1e-9)
