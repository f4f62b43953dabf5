"""The networks fertool knows, by name. Adding a paper is one file and one line here."""

from importlib import import_module
from typing import Any

from fertool.errors import RecipeError, nearest

#: name -> (module, class); modules are imported when a network is asked for
MODELS = {
    "ran": ("fertool.models.ran", "Ran"),
    "lnlattennet": ("fertool.models.lnlattennet", "LnlAttenNet"),
    "ws-lgrn": ("fertool.models.ws_lgrn", "WsLgrn"),
    "amg": ("fertool.models.amg", "Amg"),
    "va-cnn": ("fertool.models.va_cnn", "VaCnn"),
    "man": ("fertool.models.man", "Man"),
    "identity": ("fertool.models.identity", "Identity"),
    "rasnet": ("fertool.models.rasnet", "RasNet"),
}


def model_class(name: str) -> Any:
    """The class of a network.

    Raises:
        RecipeError: no network of that name.
    """
    if name not in MODELS:
        raise RecipeError(f"there is no model {name!r}", nearest(name, MODELS))
    module, cls = MODELS[name]
    return getattr(import_module(module), cls)


def model_settings(values: dict[str, Any], variant: str | None = None) -> Any:
    """Checked settings of a network from a recipe's `model:` section.

    Args:
        values: the section; `name` picks the network.
        variant: one of the network's named baselines and ablations, applied on top.
    """
    from fertool.recipe import build, merge

    if "name" not in values:
        raise RecipeError("the model section has no name", nearest("", MODELS))
    cls = model_class(str(values["name"]))
    if variant:
        if variant not in cls.VARIANTS:
            raise RecipeError(f"{values['name']} has no variant {variant!r}", nearest(variant, cls.VARIANTS))
        values = merge(values, cls.VARIANTS[variant])
    return build(cls.Settings, values, where=f"model {values['name']}")


def build_model(settings: Any, classes: int, regions: int = 6) -> Any:
    """A network with fresh weights."""
    return model_class(settings.name)(settings, classes=classes, regions=regions)
