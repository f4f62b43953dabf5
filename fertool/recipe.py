"""Recipes: a paper's settings for one dataset, one section per stage, typed and checked.

Precedence: defaults < recipe < command-line option < `--set section.key=value`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from fertool import yaml_files
from fertool.errors import RecipeError, UsageError, nearest
from fertool.settings import STAGES, Settings
from fertool.yaml_text import LONGEST, parse

if TYPE_CHECKING:
    from pydantic import TypeAdapter

S = TypeVar("S", bound=Settings)

_LONGEST_CHAIN = 8  # recipes that extend one another

#: keys of a recipe that are not stage sections
HEADER = (
    "extends", "about", "paper", "dataset", "combine", "stages", "requires_recipes", "pretraining", "variants", "fuse",
    "sweeps",
)  # fmt: skip
_LISTS = ("stages", "requires_recipes", "variants", "fuse")
_TEXTS = ("extends", "about", "paper", "dataset", "pretraining")


@dataclass(frozen=True)
class Recipe:
    """A recipe as written.

    Attributes:
        name: file name without .yaml ("" for pure defaults).
        extends: recipe whose header and settings hold where this one has none of its own: a name, or a .yaml file
            beside this one; or "".
        about: one line for `fertool recipes`.
        paper: paper whose numbers stand beside the results: a name, or a .yaml file beside the recipe; or "".
        dataset: dataset it was written for, or "".
        stages: the commands `fertool run` walks, in order.
        combine: other datasets whose faces join for training: dataset -> {splits, recipe (of their faces; else this)}.
        requires_recipes: recipes that train the networks which this one requires, on the same faces or on their own
            dataset.
        pretraining: recipe on another dataset whose run of the same variant gives the starting weights, or "".
        variants: baselines and ablations `fertool run` trains one after the other; empty for the system itself.
        fuse: variants, and recipes on the same faces, of which `fertool run` also scores the mean of the probabilities.
        sweeps: series of trainings for `fertool sweep`, by name: "section.key" -> the values it takes.
        sections: stage name -> raw settings.
        text: the file itself, with its comments.
    """

    name: str = ""
    extends: str = ""
    about: str = ""
    paper: str = ""
    dataset: str = ""
    combine: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stages: tuple[str, ...] = ()
    requires_recipes: tuple[str, ...] = ()
    pretraining: str = ""
    variants: tuple[str, ...] = ()
    fuse: tuple[str, ...] = ()
    sweeps: Mapping[str, Mapping[str, list]] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    text: str = ""

    def settings(self, stage: str, options: Mapping[str, Any] | None = None, sets: Iterable[str] = ()) -> Any:
        """Return the settings of one stage with options and `--set` applied, checked.

        Args:
            stage: section name, e.g. "train".
            options: values given on the command line; None values were not given.
            sets: "section.key=value" strings, all of this stage's section.

        Raises:
            RecipeError: an unknown key, an impossible value or a setting of another stage, with the nearest known key
                or what is allowed.
        """
        merged = merge({}, self.sections.get(stage, {}))
        merged = merge(merged, {k: v for k, v in (options or {}).items() if v is not None})
        parsed = parse_sets(sets)
        for section, keys, value in sorted(parsed, key=lambda s: s[1] != ["model", "name"]):  # whose settings, first
            if section != stage:
                raise RecipeError(
                    f"--set {section}.{'.'.join(keys)}: {stage} does not use the settings of {section}",
                    f"say it to fertool {section}, or to fertool run",
                )
            merged = merge(merged, _nest(keys, value))
        return build(STAGES[stage], merged, where=f"{stage}" + (f" of recipe {self.name}" if self.name else ""))

    def with_model(self, name: str) -> "Recipe":
        """Return this recipe for another network, with that network's own defaults."""
        return replace(
            self, sections={**self.sections, "train": merge(self.sections.get("train", {}), {"model": {"name": name}})}
        )


def of_training(model: str, name: str | None, faces: Path) -> Recipe:
    """Return the recipe that trains `model` on some faces.

    Args:
        model: a network, or a recipe.
        name: recipe to use for the network; None: the one of network and dataset, else the paper's settings.
        faces: the faces file.

    Raises:
        UsageError: no such network or recipe, or two recipes.
    """
    from fertool import artefact, console, plugins

    if model in names() or yaml_files.is_file(model):
        if name:
            raise UsageError(f"two recipes: {model} and {name}", "name one of them, or a network and a recipe")
        return load(model)
    networks = plugins.names("models")
    if model not in networks and not plugins.is_foreign(model):
        close = nearest(model, [*networks, *names()], listed=networks)
        raise UsageError(f"{model!r} is neither a network nor a recipe", f"{close}; see: fertool recipes")
    if name:
        return load(name).with_model(model)
    usual = f"{model}-{artefact.read(faces, 'faces').params.get('dataset', '')}"
    if usual in names():
        console.say(f"recipe {usual}")
        return load(usual)
    console.say(f"no recipe for {model} on these faces: the paper's settings")
    return load(None).with_model(model)


def merge(base: Mapping, over: Mapping) -> dict:
    """Return one nested mapping with another laid over it.

    Where both name a network (`name`) and not the same one, nothing of the first one's settings is left.
    """
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            other = {"name"} <= value.keys() & below.keys() and value["name"] != below["name"]
            out[key] = dict(value) if other else merge(below, value)
        else:
            out[key] = value
    return out


def _nest(keys: list[str], value: Any) -> dict:
    for key in reversed(keys):
        value = {key: value}
    return value


def parse_sets(sets: Iterable[str]) -> list[tuple[str, list[str], Any]]:
    """Return section, keys and value of a text: "train.model.margin=0.1" -> ("train", ["model", "margin"], 0.1).

    Values are YAML. `data.` is short for `detect-align.data.`.
    """
    out = []
    for entry in sets:
        left, eq, right = entry.partition("=")
        section, *keys = left.strip().split(".")
        if section == "data":  # options of the dataset, which detect-align opens
            section, keys = "detect-align", [section, *keys]
        if not eq or not keys:
            raise RecipeError(f"--set {entry!r} is not of the form section.key=value", "e.g. --set train.lr=0.005")
        if section not in STAGES:
            raise RecipeError(f"--set {entry!r}: there is no section {section!r}", nearest(section, STAGES))
        out.append((section, keys, parse(right, f"--set {left.strip()}: the value")))
    return out


@cache
def _adapter(cls: type) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """Make a settings object; every problem becomes one line that names the key."""
    from pydantic import ValidationError  # slow to import, and `fertool --help` imports this module

    known = [f.name for f in fields(cls)]
    _check_size(values, "", where)
    for name, kind in get_type_hints(cls).items():
        if name in values and _is_number(kind) and _holds_truth(values[name]):
            said = str(values[name]).lower()
            raise RecipeError(
                f"{where}: {name} is a number, not {said}", "YAML takes yes, no, on and off for true and false"
            )
    try:
        return _adapter(cls).validate_python(values)
    except ValidationError as e:
        problems, hint = [], None
        for error in e.errors():
            key = ".".join(str(p) for p in error["loc"])
            if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
                problems.append(f"unknown key {key!r}")
                hint = hint or nearest(key, known)
            else:
                problems.append(f"{key}: {error['msg'].lower()} (got {_short(error.get('input'))})")
        raise RecipeError(f"{where}: " + "; ".join(problems), hint) from e


def _is_number(kind: Any) -> bool:
    """Return whether a type allows numbers and neither true nor false, which would pass for 1 and 0."""
    leaves, todo = set(), [kind]
    while todo:
        parts = get_args(kind := todo.pop())
        leaves |= set() if parts else {kind}
        todo += [p for p in parts if isinstance(p, type) or get_args(p)]
    return bool(leaves & {int, float}) and bool not in leaves


def _holds_truth(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_truth, value)))


def _check_size(value: Any, key: str, where: str) -> None:
    """Raise RecipeError for a whole number beyond 64 bits, which no library takes."""
    if isinstance(value, Mapping | list | tuple):
        for name, part in value.items() if isinstance(value, Mapping) else ((key, v) for v in value):
            _check_size(part, str(name), where)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise RecipeError(f"{where}: {key} is beyond 64 bits (got {_short(value)})", "take a smaller number")


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**60:
        return "a number of more than 60 digits"
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def names() -> list[str]:
    """Return the names of the recipes of fertool and of installed packages."""
    return list(yaml_files.named("recipes"))


def load(name: str | None) -> Recipe:
    """Return a recipe by name, or from a .yaml file of the user's; None gives pure defaults.

    Raises:
        RecipeError: no such recipe, invalid YAML, or an unknown section or key anywhere in it.
    """
    if name is None:
        return Recipe()
    raw, text = _read(name)
    name = Path(name).stem if yaml_files.is_file(name) else name
    recipe = Recipe(name=name, sections={k: v or {} for k, v in raw.items() if k in STAGES}, text=text, **_header(raw))
    for stage in recipe.sections:
        recipe.settings(stage)
    for sweep, axes in recipe.sweeps.items():
        _check_sweep(recipe, sweep, axes)
    return recipe


def _read(name: str, extending: tuple[str, ...] = ()) -> tuple[dict, str]:
    """Return the keys of a recipe, laid over those of the recipe that it extends, and its own text.

    Args:
        extending: the recipes that extend this one.

    Raises:
        RecipeError: no such recipe, invalid YAML, unknown keys, or recipes that extend each other.
    """
    if name in extending or len(extending) > _LONGEST_CHAIN:
        raise RecipeError(f"recipe {name} extends itself", f"look at: {' → '.join((*extending, name))}")
    file = name
    if yaml_files.is_file(file):
        path = Path(file)
        if not path.is_file():
            raise RecipeError(f"there is no recipe file {file}")
        if path.stat().st_size > LONGEST:
            raise RecipeError(f"{file} has {path.stat().st_size:,} bytes", "this is no recipe")
        data, name = path.read_bytes(), path.stem
    elif name in names():
        data = yaml_files.named("recipes")[name].read_bytes()
    else:
        raise RecipeError(f"there is no recipe {name!r}", nearest(name, names()))
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise RecipeError(f"recipe {name} is not valid YAML: {e}") from e
    raw = parse(text, f"recipe {name}") or {}
    if not isinstance(raw, dict):
        raise RecipeError(f"recipe {name} does not consist of sections", "fertool recipes ran-ferplus shows one")
    _check_keys(name, raw)
    if raw.get("paper"):
        raw["paper"] = yaml_files.beside(raw["paper"], file)
    if not (base := raw.get("extends")):
        return raw, text
    inherited, _ = _read(yaml_files.beside(str(base), file), (*extending, file))
    sections = {k: merge(inherited.get(k) or {}, raw.get(k) or {}) for k in STAGES if k in inherited or k in raw}
    return {**inherited, **raw, **sections}, text


def _check_sweep(recipe: Recipe, name: str, axes: Any) -> None:
    """Check that every value of a sweep is valid."""
    if not isinstance(axes, dict) or not all(isinstance(v, list) and v for v in axes.values()):
        raise RecipeError(
            f"recipe {recipe.name}: sweep {name} is no list of values", "write: NAME: {section.key: [one, another]}"
        )
    for key, values in axes.items():
        for value in values:
            recipe.settings(section_of(key), sets=[set_to(key, value)])


def set_to(key: str, value: Any) -> str:
    """Return the `--set` that gives a key ("section.key") a value."""
    return f"{key}={json.dumps(value)}"


def section_of(key: str) -> str:
    """Return the section of a key.

    Raises:
        RecipeError: it is not of the form section.key, or there is no such section.
    """
    return parse_sets([f"{key.partition('=')[0]}=null"])[0][0]


def _check_keys(name: str, raw: dict) -> None:
    """Raise RecipeError for a key that recipes do not have, or a value of another kind."""
    for key, value in raw.items():
        if key not in STAGES and key not in HEADER:
            raise RecipeError(f"recipe {name}: unknown section {str(key)!r}", nearest(str(key), [*STAGES, *HEADER]))
        if key in STAGES and not isinstance(value, dict | None):
            raise RecipeError(f"recipe {name}: section {key} holds no settings", f"write: {key}: {{key: value}}")
        if key in _LISTS and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            raise RecipeError(f"recipe {name}: {key} is not a list of names", f"write: {key}: [one, another]")
        if key in _TEXTS and not isinstance(value, str | None):
            raise RecipeError(f"recipe {name}: {key} is no text", f"write: {key}: NAME")
        if key == "sweeps" and not isinstance(value, dict):
            raise RecipeError(f"recipe {name}: sweeps have no names", "write: sweeps: {name: {section.key: [1, 2]}}")
        if key == "combine" and not (
            isinstance(value, dict)
            and all(isinstance(v, dict) and isinstance(v.get("splits"), list) for v in value.values())
            and all(isinstance(v.get("recipe", ""), str) for v in value.values())
        ):
            raise RecipeError(
                f"recipe {name}: combine does not say which splits join", "write: combine: {DATASET: {splits: [train]}}"
            )
    for stage in raw.get("stages", ()):
        if stage not in STAGES:
            raise RecipeError(f"recipe {name}: there is no stage {stage!r}", nearest(str(stage), STAGES))


def _header(raw: dict) -> dict:
    """Return the keys of a recipe beside its sections."""
    header = {k: raw[k] for k in HEADER if k in raw}
    return header | {k: tuple(raw.get(k, ())) for k in _LISTS}
