"""Command-line options: those that several commands share, and those made from the settings classes."""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from fertool.cli import complete
from fertool.plugins import PluginName
from fertool.settings import Settings

Data = Annotated[
    str | None,
    typer.Option(
        help="dataset in the workspace, or a faces.h5 file (default: the only one)", autocompletion=complete.data
    ),
]
Out = Annotated[Path | None, typer.Option(help="output file (default: in the workspace)")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="overwrite existing output")]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", help="recipe: a name or a .yaml file", autocompletion=complete.recipes),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="any setting; repeatable", autocompletion=complete.settings
    ),
]
Images = Annotated[
    Path | None, typer.Option("--images", help="folder that a table's paths are relative to (default: the table's)")
]
Space = Annotated[Path | None, typer.Option("--workspace", help="folder of the artefacts (default: ./artefacts)")]
Runs = Annotated[
    list[str] | None,
    typer.Option(
        "--run", help="name or folder of a run; repeatable (default: the latest)", autocompletion=complete.runs
    ),
]
Run = Annotated[
    str | None,
    typer.Option("--run", help="name or folder of a run (default: the latest)", autocompletion=complete.runs),
]
Gpus = Annotated[
    int | None, typer.Option(min=0, help="number of GPUs on this machine; 0: CPU (default: one, if there is one)")
]
Processes = Annotated[int, typer.Option("--cpu-processes", min=1, help="number of processes on the CPU")]
ExecutorName = Annotated[
    str | None,
    typer.Option("--executor", help="where the work runs: local or ray (default: FERTOOL_EXECUTOR, or local)"),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address", metavar="HOST:PORT", help="running Ray cluster (default: one on this machine, else a new one)"
    ),
]
Lists = Annotated[Path | None, typer.Option("--lists", help="folder of RAN's released lists")]
Variant = typer.Option(help="baseline or ablation, see: fertool models NAME")


def flags_of(cls: type[Settings], entries: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Return parameters for fields of a settings class: name -> (field, annotation of an option, None if not given).

    Args:
        cls: the settings class, which holds type, help and default of every field.
        entries: names of fields; "field --flag" for an option of another name.
    """
    made = {}
    for entry in entries:
        field, _, flag = entry.partition(" ")
        made[flag.lstrip("-").replace("-", "_") or field] = (field, _option(cls, field, flag))
    return made


def _option(cls: type[Settings], name: str, flag: str) -> Any:
    field = next(f for f in fields(cls) if f.name == name)
    kind, words, plugin = _parts(field.type)
    if get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis:
        element: Any = get_args(kind)[0]
        while get_origin(element) is Annotated:
            element = get_args(element)[0]
        # typer has no lists of choices: what is not among them is refused with the settings
        choices = get_origin(element) is Literal
        kind, words = GenericAlias(list, str if choices else element), f"{words}; repeatable"
    metavar = f"<{get_args(kind)[0].__name__}>" if get_origin(kind) is list else None
    declared = typer.Option(
        *([flag] if flag else []),
        metavar=metavar,
        help=_with_default(words, field.default),
        autocompletion=complete.plugin(plugin) if plugin else None,
    )
    return Annotated[kind | None, declared]


def _parts(kind: Any) -> tuple[Any, str, PluginName | None]:
    """Return the bare type of a field, its help, and the plugins it names."""
    words, plugin = "", None
    while True:
        if get_origin(kind) is Annotated:
            words = words or next((m for m in get_args(kind)[1:] if isinstance(m, str)), "")
            plugin = plugin or next((m for m in get_args(kind)[1:] if isinstance(m, PluginName)), None)
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, UnionType):
            kind = next(a for a in get_args(kind) if a is not type(None))
        else:
            break
    return kind, words, plugin


def described(cls: type[Settings]) -> list[dict[str, Any]]:
    """Return the fields of a settings class: [{"name", "values" (empty where any will do), "default", "help"}]."""
    found = []
    for f in fields(cls):
        kind, words, _ = _parts(f.type)
        values = [str(v) for v in get_args(kind)] if get_origin(kind) is Literal else []
        found.append({"name": f.name, "values": values, "default": f.default, "help": _with_default(words, f.default)})
    return found


def _with_default(words: str, default: Any) -> str:
    words = words.replace("`", "")
    if "(default:" in words or default in (None, "", (), MISSING):
        return words
    if isinstance(default, bool):
        shown = "on" if default else "off"
    elif isinstance(default, tuple):
        shown = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in default)
    else:
        shown = f"{default:g}" if isinstance(default, float) else str(default)
    return f"{words} (default: {shown})".strip()
