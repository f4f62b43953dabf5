"""No detector: the whole image is a face."""

from collections.abc import Iterator, Sequence

import numpy as np

from fertool.detectors.base import Box, Detector, Faces


class WholeImage(Detector):
    """Takes every image as a face."""

    name = "none"
    dlib_square = (0.05, 0.85)
    head = (0.1, 0.348)

    def detect(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None] = ()) -> Iterator[Faces]:
        """Yield one face per image."""
        return map(whole, images)


def whole(image: np.ndarray) -> Faces:
    """Return an image as the only face in it."""
    height, width = image.shape[:2]
    return Faces(np.array([(-0.5, -0.5, width - 0.5, height - 0.5)]), np.array([np.inf]))
