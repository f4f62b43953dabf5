"""Landmark models, one file each; `fertool.plugins` finds those of other people."""

from fertool import plugins
from fertool.landmarks.base import DEFAULTS, LandmarkModel, Options


def make(name: str, options: Options = DEFAULTS) -> LandmarkModel:
    """Return a landmark model by name.

    Raises:
        RecipeError, UsageError: there is none of that name, see `plugins.resolve`; or no file of a supervised descent.
        ArtefactError: that file is unusable.
        DeviceError: a package or model file is missing.
    """
    model: LandmarkModel = landmark_class(name)(options)
    return model


def landmark_class(name: str) -> type[LandmarkModel]:
    """Return the class of a landmark model."""
    cls: type[LandmarkModel] = plugins.resolve("landmarks", name).object
    return cls
