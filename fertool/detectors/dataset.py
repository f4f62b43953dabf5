"""The dataset's own boxes."""

from collections.abc import Iterator, Sequence

import numpy as np

from fertool.detectors.base import NOTHING, Box, Detector, Faces


class DatasetBoxes(Detector):
    """Returns the boxes that the dataset provides, or one box for all images."""

    name = "dataset"

    def detect(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None] = ()) -> Iterator[Faces]:
        """Yield the given face of each image, or none."""
        for _, given in zip(images, boxes or [None] * len(images), strict=True):
            box = self.options.box or given
            yield NOTHING if box is None else Faces(np.array([box], dtype=np.float64), np.array([np.inf]))
