"""Figures: the `@figure` decorator, and modules that draw from arrays (nothing in those opens artefacts).

A figure of `fertool visualize` is one decorated function, in fertool.stages.visualize or in a file of anyone's own:

    @figure("ages", "accuracy over the age of the subjects")
    def draw_ages(runs: list[Run], settings: Visualize, subset: str | None) -> Drawn:
        ...

`fertool visualize ages.py:draw_ages` draws it. See fertool.plugins for the references that name a figure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import, and `fertool --help` imports this module
    import numpy as np
    from matplotlib.figure import Figure

    from fertool.artefact import Artefact
    from fertool.settings import Visualize
    from fertool.stages.visualize.inputs import Run


@dataclass(frozen=True)
class Drawn:
    """A figure and what it was drawn from: its arrays by name, and the artefacts they come from."""

    figure: "Figure"
    arrays: "dict[str, np.ndarray]"
    parents: "list[Artefact]"


#: draws a figure: of these runs, with these settings, only of the faces of a subset
Draw = Callable[["list[Run]", "Visualize", "str | None"], Drawn]


class FigureKind:
    """A decorated function, see `figure`; called as the function is.

    Attributes:
        name: of the figure, for the command and its files.
        about: what it shows, in a line.
        of_faces: whether it can be drawn of a dataset's faces, without a run.
    """

    def __init__(self, draw: Draw, name: str, about: str, of_faces: bool):
        update_wrapper(self, draw)
        self.draw, self.name, self.about, self.of_faces = draw, name, about, of_faces

    def __call__(self, runs: "list[Run]", settings: "Visualize", subset: str | None) -> Drawn:
        """Draw it."""
        return self.draw(runs, settings, subset)


def figure(name: str, about: str, *, of_faces: bool = False) -> Callable[[Draw], FigureKind]:
    """Make a figure of `fertool visualize` of a function.

    Args:
        name: of the figure; files are named after it.
        about: what it shows, in a line.
        of_faces: whether it can be drawn of a dataset's faces, without a run.
    """
    return lambda draw: FigureKind(draw, name, about, of_faces)
