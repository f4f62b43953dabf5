"""Recipes and published numbers by name: those of fertool, and those of installed packages.

A package offers its files by an entry point in the group `fertool.recipes` or `fertool.papers`, whose value is the
package that holds them, e.g. `my_net = "my_package.recipes"`.
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.metadata import entry_points
from importlib.resources.abc import Traversable
from pathlib import Path

from fertool import console

SUFFIXES = (".yaml", ".yml")


@cache
def named(kind: str) -> Mapping[str, Traversable]:
    """Return name -> YAML file.

    Args:
        kind: "recipes" or "papers".
    """
    found: dict[str, Traversable] = {}
    for entry in entry_points(group=f"fertool.{kind}"):
        try:
            found |= _of(resources.files(entry.value))
        except ImportError as error:
            console.say(f"note: {kind} of {entry.value} are left out: {error}")
    return dict(sorted((found | _of(resources.files("fertool") / kind)).items()))


def _of(folder: Traversable) -> dict[str, Traversable]:
    return {f.name.removesuffix(".yaml"): f for f in folder.iterdir() if f.name.endswith(".yaml")}


def is_file(reference: str) -> bool:
    """Return whether a reference is a file of the user's, not a name."""
    return reference.endswith(SUFFIXES)


def beside(reference: str, file: str | Path) -> str:
    """Return a reference that a file holds: other files are looked up in its folder, names stay names."""
    return str(Path(file).parent / Path(reference).expanduser()) if is_file(reference) else reference


def version(reference: str) -> tuple[str, int]:
    """Return what a cache of files of the user's has to be keyed by beside the reference; always the same for names."""
    path = Path(reference)
    return (str(path.resolve()), path.stat().st_mtime_ns) if is_file(reference) and path.is_file() else ("", 0)
