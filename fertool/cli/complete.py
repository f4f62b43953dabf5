"""Candidates for shell completion. Nothing here imports torch: completion has to be immediate."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import typer

from fertool import plugins, run_folders
from fertool.workspace import Workspace


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _workspace(context: typer.Context) -> Workspace:
    given = context.params.get("workspace")
    return Workspace(Path(os.path.expanduser(given)) if given else None)


def networks(incomplete: str) -> list[str]:
    """Return networks."""
    return _matching(plugins.names("models"), incomplete)


def plugin(setting: plugins.PluginName) -> Callable[[str], list[str]]:
    """Return the completion of a setting that names a plugin."""
    return lambda incomplete: _matching(setting.names, incomplete)


def recipes(incomplete: str) -> list[str]:
    """Return recipes."""
    from fertool import recipe

    return _matching(recipe.names(), incomplete)


def networks_and_recipes(incomplete: str) -> list[str]:
    """Return networks and recipes."""
    return sorted({*networks(incomplete), *recipes(incomplete)})


def papers(incomplete: str) -> list[str]:
    """Return papers with published numbers."""
    from fertool import yaml_files

    return _matching(yaml_files.named("papers"), incomplete)


def data(context: typer.Context, incomplete: str) -> list[str]:
    """Return datasets of the workspace."""
    return _matching(_workspace(context).datasets(), incomplete)


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """Return runs of the workspace, by NAME or SWEEP/NAME and, once there is a slash, also by DATASET/NAME."""
    folders = _workspace(context).runs(sweeps=True)
    full = map(run_folders.name_of, folders) if "/" in incomplete else ()
    return _matching({*map(run_folders.short_name, folders), *full}, incomplete)


def figures(incomplete: str) -> list[str]:
    """Return figures."""
    return _matching(plugins.names("figures"), incomplete)


def dataset_types(incomplete: str) -> list[str]:
    """Return the names of dataset layouts."""
    return _matching(plugins.names("datasets"), incomplete)


def settings(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield `section.key=` for `--set`."""
    from fertool.settings import STAGES

    for section, cls in STAGES.items():
        for key in cls.__dataclass_fields__:
            if (entry := f"{section}.{key}=").startswith(incomplete) and not key.startswith("__"):
                yield entry
