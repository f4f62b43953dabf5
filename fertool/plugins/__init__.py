"""Plugins: networks, datasets, detectors, landmark models and figures, built in or anyone's own.

A plugin is named by one of four references:

    ran                   built in: the class or figure of fertool that has this `name`
    my-net                an entry point of an installed package, in the group `fertool.models`
    my_package.net:MyNet  a class of a module that Python can import
    nets/mynet.py:MyNet   a class in a file

Networks, datasets, detectors and landmark models are classes; a figure is a function with the decorator
`fertool.figures.figure`.

Artefacts, exported weights and recipes store references too, of a file only its name. Reading them never runs code
that nobody asked for: a file or an import path is loaded only if the user names it, as an argument or setting of the
same command, or in the environment variable FERTOOL_PLUGINS (several separated by commas). The folder of a file comes
from there, never from an artefact. Installed entry points need no such permission.

Beside the reference, artefacts store a digest of the file that defines the plugin (`digests`). A run whose
network's file has changed since is used with a note that names both digests, see `change`; it is an error only if
the weights no longer fit. A training is continued with the same source only.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from fertool import console
from fertool.errors import FertoolError, RecipeError, UsageError, nearest
from fertool.plugins import sources

_ROOT = Path(__file__).parents[2]

allow = sources.allow
allow_mentioned = sources.allow_mentioned
is_foreign = sources.is_foreign


@dataclass(frozen=True)
class Group:
    """A kind of plugin.

    Attributes:
        noun: in messages.
        package: package of the built-in ones.
        base: "module:Class" that every plugin is a subclass of; an instance of, if `made_by` is set.
        unknown: error for a name that is none; networks and detectors are settings, which recipes hold.
        made_by: decorator that makes plugins of functions.
    """

    noun: str
    package: str
    base: str
    unknown: type[FertoolError] = RecipeError
    made_by: str = ""

    def accepts(self, candidate: Any) -> bool:
        """Return whether an object is a plugin of this group."""
        base = _base(self)
        return isinstance(candidate, base) if self.made_by else _is_subclass(candidate, base)

    @property
    def recipe(self) -> str:
        """Return how to write one, for hints."""
        if self.made_by:
            return f"decorate a function with {self.made_by}"
        return f"subclass {self.base.replace(':', '.')}"


GROUPS = {
    "models": Group("network", "fertool.models", "fertool.models.base:FerModel"),
    "datasets": Group("dataset", "fertool.datasets", "fertool.datasets.base:Dataset", UsageError),
    "detectors": Group("detector", "fertool.detectors", "fertool.detectors.base:Detector"),
    "landmarks": Group("landmark model", "fertool.landmarks", "fertool.landmarks.base:LandmarkModel"),
    "figures": Group(
        "figure", "fertool.stages.visualize", "fertool.figures:FigureKind", UsageError, "fertool.figures.figure"
    ),
}


@dataclass(frozen=True)
class Plugin:
    """A resolved reference.

    Attributes:
        name: short name, for folders and tables.
        reference: as artefacts store it; of a file without its folder.
        object: the class; of a figure the decorated function.
        digest: of the file that defines it, "" for built-in ones.
    """

    name: str
    reference: str
    object: Any
    digest: str = ""


def names(group: str) -> list[str]:
    """Return the names of the built-in plugins of a group and of installed entry points, without importing them."""
    return sorted({*_builtin(group), *_installed(group)})


def resolve(group: str, reference: str) -> Plugin:
    """Return the plugin that a reference names.

    Args:
        group: one of `GROUPS`.
        reference: see the module's docstring.

    Raises:
        UsageError, RecipeError: there is none, its code cannot be imported or is something else, or it is a file or an
            import path that the user has not named.
    """
    kind = GROUPS[group]
    if sources.is_foreign(reference):
        plugin, reference = sources.load(reference, kind.noun), sources.stored(reference)
    elif module := _builtin(group).get(reference):
        return Plugin(reference, reference, _defined(import_module(module), kind, reference))
    elif entry := _installed(group).get(reference):
        plugin = _loaded(entry, kind.noun)
    else:
        raise kind.unknown(f"there is no {kind.noun} {reference!r}", nearest(reference, names(group)))
    if not kind.accepts(plugin):
        raise UsageError(f"{reference} is no {kind.noun}", kind.recipe)
    name = str(getattr(plugin, "name", "") or plugin.__name__.lower())
    return Plugin(name, reference, plugin, sources.digest_of(plugin))


def built_in_figures() -> dict[str, str]:
    """Return the names of the built-in figures and what they show, without importing them."""
    return {name: about for _, text in _sources("figures") for name, about in _FIGURE.findall(text)}


def every(group: str) -> Iterator[Plugin]:
    """Yield the built-in plugins of a group, the installed ones and those of FERTOOL_PLUGINS.

    A plugin that cannot be imported is skipped with a note.
    """
    for reference in [*names(group), *sources.listed()]:
        try:
            kind = GROUPS[group]
            if sources.is_foreign(reference) and not kind.accepts(sources.load(reference, kind.noun)):
                continue
            yield resolve(group, reference)
        except FertoolError as error:
            console.say(f"note: plugin {reference} is left out: {error}")


@dataclass(frozen=True)
class PluginName:
    """Type annotation of a setting that names a plugin: `detector: Annotated[str, PluginName("detectors"), "help"]`.

    Attributes:
        group: of the plugin.
        others: further values.
        without: plugins that the setting does not take.
    """

    group: str
    others: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Return the values that need no plugin of the user's own."""
        return [*self.others, *(name for name in names(self.group) if name not in self.without)]

    def check(self, value: str) -> str:
        """Return a value as artefacts store it.

        Raises:
            PydanticCustomError: nothing has that name.
        """
        from pydantic_core import PydanticCustomError  # slow to import, and `fertool --help` imports this module

        if sources.is_foreign(value):
            return sources.stored(value)
        if value in _builtin(self.group) and value not in self.without:
            return value
        if value not in self.names:
            noun = GROUPS[self.group].noun
            raise PydanticCustomError("plugin", f"there is no such {noun}, {nearest(value, self.names)}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))


def digests(**used: Plugin | type) -> dict[str, dict[str, str]]:
    """Return {"plugins": {setting: digest of the source}} of plugins, or their classes, that are not built in.

    It belongs to the settings that an artefact stores, so that a changed source counts as another setting; {} where
    all are built in.
    """
    classes = {setting: p.object if isinstance(p, Plugin) else p for setting, p in used.items()}
    foreign = {setting: digest for setting, cls in classes.items() if (digest := sources.digest_of(cls))}
    return {"plugins": foreign} if foreign else {}


def require_unchanged(plugin: Plugin, stored: Mapping[str, str], setting: str) -> None:
    """Raise if the source of a plugin is not the stored one: in the processes of one piece of work it has to be.

    Raises:
        UsageError: it has changed.
    """
    if stored.get(setting, plugin.digest) != plugin.digest:
        raise UsageError(f"the source of {plugin.reference} has changed since the command started", "start it again")


def change(plugin: Plugin, stored: Mapping[str, str], setting: str, where: str) -> str:
    """Return how the source of a plugin has changed since an artefact was made, "" if it has not.

    Args:
        plugin: as it is now.
        stored: digests by setting, as the artefact stores them.
        setting: that names the plugin.
        where: name of the artefact.
    """
    before = stored.get(setting, plugin.digest)
    if before == plugin.digest:
        return ""
    was, now = (digest[:8] or "built in" for digest in (before, plugin.digest))
    return f"the source of {plugin.reference} has changed since {where} was made (was {was}, is {now})"


@cache
def _builtin(group: str) -> Mapping[str, str]:
    """Return name -> module of every built-in plugin: a module of the package whose class or figure has that name."""
    pattern = _FIGURE if group == "figures" else _NAME
    return {found[1]: module for module, text in _sources(group) for found in pattern.finditer(text)}


def _sources(group: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of every module of a group's package, without importing it."""
    package = GROUPS[group].package
    for path in sorted(_ROOT.joinpath(*package.split(".")).glob("*.py")):
        yield f"{package}.{path.stem}", path.read_text(encoding="utf-8")


#: class attribute `name = "ran"`
_NAME = re.compile(r'^    name(?:: [^=\n]+)? = "([\w-]+)"$', re.M)
#: decorator `@figure("curves", "what it shows"`
_FIGURE = re.compile(r'^@figure\(\s*"([\w-]+)",\s*"([^"]+)"', re.M)


@cache
def _installed(group: str) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name; those called like a built-in plugin are left out."""
    return {e.name: e for e in entry_points(group=f"fertool.{group}") if e.name not in _builtin(group)}


def _loaded(entry: EntryPoint, noun: str) -> Any:
    with sources.import_errors(f"{noun} {entry.name} ({entry.value})", "update or uninstall the package it comes from"):
        return entry.load()


@cache
def _base(kind: Group) -> type:
    module, _, name = kind.base.partition(":")
    return getattr(import_module(module), name)


def _defined(module: ModuleType, kind: Group, name: str) -> Any:
    """Return the plugin of that name that a module of fertool defines."""
    (plugin,) = [
        p
        for p in vars(module).values()
        if kind.accepts(p) and p.__module__ == module.__name__ and (not kind.made_by or p.name == name)
    ]
    return plugin


def _is_subclass(candidate: Any, base: type) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, base)
