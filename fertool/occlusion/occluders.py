"""What is drawn over a face: where it lies at every size, and how it looks.

Everything is a `Thing`: a field over the working pixels whose values below a level are covered. A thing that comes in
from one side has the way to its edge as its field, a pair of glasses the distance from the rims. Raising the level
makes the thing come further or grow, so that any fraction of the face can be covered.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: depth behind an edge (h, w), in units of the face -> colours (h, w, 3) between 0 and 1
Paint = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Thing:
    """Something to be drawn.

    Attributes:
        name: what it is, in a word or two.
        field: (h, w) the level from which on a working pixel is covered, in units of the face.
        paint: depth behind the thing's edge (h, w), in units -> its colours (h, w, 3) between 0 and 1.
        glass: (h, w) how much the thing covers whatever the level, between 0 and 1: tinted glass. None: nothing.
        shadow: how dark its shadow on the face is, between 0 and 1.
        levels: the lowest and highest level at which it still looks like what it is.
    """

    name: str
    field: np.ndarray
    paint: Paint
    glass: np.ndarray | None = None
    shadow: float = 0.35
    levels: tuple[float, float] = (-np.inf, np.inf)
