"""Faces cut into regions, and faces brought to a template."""

from dataclasses import dataclass
from typing import Any

from fertool.errors import RecipeError
from fertool.requirements.base import Inputs, NeededFile, Requirement
from fertool.settings import Train


@dataclass(frozen=True)
class Regions(Requirement):
    """Boxes of regions: `forward` gets one view for each, the whole face first."""

    def files(self, settings: Train) -> tuple[NeededFile, ...]:
        return (NeededFile("regions", "crop-regions"),)

    def check(self, net: Any, inputs: Inputs) -> None:
        regions = inputs.files["regions"]
        there, wanted = regions["boxes"].shape[1], max(net.regions_used or (0,))
        if wanted >= there:
            raise RecipeError(
                f"region {wanted} is requested, and {regions.path} has regions 0 to {there - 1}",
                "make others with fertool crop-regions",
            )


@dataclass(frozen=True)
class Aligned(Requirement):
    """Faces that were brought to a template.

    Attributes:
        why: what of the network requires it.
        otherwise: how to train it on other faces.
    """

    why: str
    otherwise: str

    def check(self, net: Any, inputs: Inputs) -> None:
        if inputs.faces.params.get("align") == "none":
            raise RecipeError(
                f"{self.why} needs aligned faces, and those of {inputs.faces.path} were made with align: none",
                f"align them: fertool detect-align ... --align similarity; or {self.otherwise}",
            )
