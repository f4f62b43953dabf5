"""Networks by name: their classes, checked settings and fresh instances."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from fertool import plugins
from fertool.artefact import Artefact
from fertool.errors import RecipeError, nearest


def model_class(name: str) -> Any:
    """Return the class of a network: a built-in one or a plugin's, see `fertool.plugins`.

    Raises:
        RecipeError: no network of that name.
        UsageError: a plugin that cannot be loaded.
    """
    return plugins.resolve("models", name).object


def model_settings(values: dict[str, Any], variant: str | None = None) -> Any:
    """Return checked settings of a network from a recipe's `model:` section.

    Args:
        values: the section; `name` picks the network.
        variant: one of the network's named baselines and ablations, applied on top; or the network's own name.
    """
    from fertool.recipe import build, merge

    if "name" not in values:
        trainable = [name for name in plugins.names("models") if model_class(name).trainable]
        raise RecipeError("the model section has no name", nearest("", trainable))
    plugin = plugins.resolve("models", str(values["name"]))
    cls, values = plugin.object, {**values, "name": plugin.reference}
    if variant in cls.VARIANTS:
        values = merge(values, cls.VARIANTS[variant])
    elif variant and variant != plugin.name:
        raise RecipeError(f"{values['name']} has no variant {variant!r}", nearest(variant, cls.VARIANTS))
    return build(cls.Settings, values, where=f"model {values['name']}")


def unlabelled_networks() -> list[str]:
    """Return the names of the networks that train on faces without expression labels."""
    classes = {name: model_class(name) for name in plugins.names("models")}
    return sorted(name for name, cls in classes.items() if cls.trainable and not cls.classifies)


def build_model(settings: Any, classes: int, regions: int = 6) -> Any:
    """Return a network with fresh weights."""
    return model_class(settings.name)(settings, classes=classes, regions=regions)


def build_model_meta(settings: Any, classes: int) -> Any:
    """Return a network without memory for its weights, to ask what it needs."""
    import torch

    with torch.device("meta"):
        return build_model(settings, classes)


def network_of(run: Artefact) -> Any:
    """Return the network of a run without memory for its weights: what it declares of its input and attention."""
    return build_model_meta(model_settings(run.params["model"]), len(run.classes or ()) or 2)


def required_network(values: Mapping[str, Any], variant: str = "") -> str:
    """Return the name of the network that has to be trained before this one, "" for none.

    Arguments as for `model_settings`.
    """
    settings = model_settings(dict(values), variant)
    return _required(json.dumps(settings.as_dict(), sort_keys=True))


@cache
def _required(settings: str) -> str:
    """Return the answer for settings as JSON, once: recipes ask for the same few networks again and again."""
    return build_model_meta(model_settings(json.loads(settings)), classes=2).pretrained_part
