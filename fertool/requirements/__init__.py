"""What a network requires beside the pixels of faces: files of other stages, labels of some kind, aligned faces.

A network lists them in `FerModel.requires`; the stages loop over that list and name no network.
"""

from fertool.requirements.base import Inputs, NeededFile, Requirement, Selection
from fertool.requirements.faces import Aligned, Regions
from fertool.requirements.labels import Labels
from fertool.requirements.masks import AttributeGroups, Masks
from fertool.requirements.subjects import Subjects

__all__ = [
    "Aligned",
    "AttributeGroups",
    "Inputs",
    "Labels",
    "Masks",
    "NeededFile",
    "Regions",
    "Requirement",
    "Selection",
    "Subjects",
]
