"""Face detectors, one file each; `fertool.plugins` finds those of other people."""

from fertool import plugins
from fertool.detectors.base import DEFAULTS, Detector, Options


def make(name: str, options: Options = DEFAULTS) -> Detector:
    """Return a detector by name.

    Raises:
        RecipeError, UsageError: there is none of that name, see `plugins.resolve`.
        DeviceError: a package or model file is missing or damaged.
    """
    detector: Detector = detector_class(name)(options)
    return detector


def detector_class(name: str) -> type[Detector]:
    """Return the class of a detector."""
    cls: type[Detector] = plugins.resolve("detectors", name).object
    return cls
