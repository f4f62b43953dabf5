"""Landmarks by supervised descent, learned by `fertool fit-sdm`."""

from pathlib import Path

import numpy as np

from fertool.errors import UsageError
from fertool.faces import sdm
from fertool.faces.align import apply, invert, similarity, warp
from fertool.landmarks.base import DEFAULTS, LandmarkModel, Options, square_of, square_of_five
from fertool.regions.points import five_points


class Sdm(LandmarkModel):
    """A supervised descent that `fertool fit-sdm` has learned, see `fertool.faces.sdm`.

    The first cut-out is laid by the detector's five points or box, the second by the landmarks found in the first. On
    AFW, taught by 870 images of HELEN, this takes the faces whose mean error is over a tenth of the distance
    between the outer eye corners from 3.4 % to 3.1 % with MTCNN's points, and from 12.4 % to 5.3 % with its box alone.
    """

    name = "sdm"

    def __init__(self, options: Options = DEFAULTS):
        super().__init__(options)
        self._cascade = sdm.load(sdm_file(options.sdm))
        self._square = square_of_five(five_points(self._cascade.mean[None])[0])

    def place(
        self,
        image: np.ndarray,
        box: np.ndarray,
        points: np.ndarray | None,
        detector: str,
        given: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the landmarks (K, 2), see the base class."""
        import cv2

        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        first = square_of(box, points, detector)
        placed = self._descend(image, similarity(first, self._square))
        return self._descend(image, similarity(placed, self._cascade.mean))

    def _descend(self, image: np.ndarray, to_cut_out: np.ndarray) -> np.ndarray:
        return apply(invert(to_cut_out), self._cascade.descend(warp(image, to_cut_out, sdm.SIZE)))


def sdm_file(path: Path | str | None) -> Path:
    """Return the file of a supervised descent.

    Raises:
        UsageError: none is named.
    """
    if path is None:
        raise UsageError(
            "--landmarks sdm needs a trained model",
            "make one with: fertool fit-sdm FOLDER (images and .pts files), then add --sdm FILE",
        )
    return Path(path)
