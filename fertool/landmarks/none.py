"""No landmarks."""

import numpy as np

from fertool.landmarks.base import LandmarkModel


class NoLandmarks(LandmarkModel):
    """Places nothing."""

    name = "none"

    def place(
        self,
        image: np.ndarray,
        box: np.ndarray,
        points: np.ndarray | None,
        detector: str,
        given: np.ndarray | None = None,
    ) -> None:
        """Return None."""
