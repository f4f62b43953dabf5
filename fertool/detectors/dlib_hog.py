"""dlib's HOG face detector."""

from collections.abc import Iterator, Sequence

import numpy as np

from fertool.detectors.base import DEFAULTS, Box, Detector, Faces, Options, doublings, from_rectangles, view


class DlibHog(Detector):
    """dlib's frontal face detector: histograms of oriented gradients and linear filters.

    Faces have at least 80 pixels.

    On 1,000 faces of FER+ (48×48) it detects 81 %.
    """

    name = "dlib-hog"
    head = (0.059, 0.409)
    smallest = 192

    def __init__(self, options: Options = DEFAULTS):
        super().__init__(options)
        import dlib

        self._net = dlib.get_frontal_face_detector()

    def detect(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None] = ()) -> Iterator[Faces]:
        """Yield the faces in each image."""
        for image in images:
            v = view(image, self.smallest)
            times = doublings(v, self.options.upsample)
            rectangles, scores, _ = self._net.run(v.pixels, times, self.options.threshold)
            yield from_rectangles(v, [(r.left(), r.top(), r.right(), r.bottom()) for r in rectangles], scores)
