"""What all commands share: the app, the options every one of them has, and how errors reach the user."""

import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from fertool import __version__, console
from fertool.errors import DataError, FertoolError, OutOfMemoryError, out_of_memory

app = typer.Typer(
    name="fertool",
    help="Rerun, compare and extend attention-based facial expression recognition.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich help takes twice as long to appear
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PREPARE, RUNS, SHOW, TOOLS = "Prepare faces", "Train and measure", "Show and use", "Look around"

Data = Annotated[str | None, typer.Option(help="data set in the workspace, or a faces.h5 file; default: the only one")]
Out = Annotated[Path | None, typer.Option(help="file to write instead of the one in the workspace")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="make it again although it is there")]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", help="recipe to take settings from: a name or a .yaml file")
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="any setting; repeatable")]
Images = Annotated[
    Path | None, typer.Option("--images", help="folder that a table's paths are relative to; default: the table's")
]
Space = Annotated[Path | None, typer.Option("--workspace", help="folder of the artefacts; default: ./artefacts")]
Runs = Annotated[
    list[str] | None, typer.Option("--run", help="a run's name or folder; repeatable; default: the latest")
]
Gpus = Annotated[
    int | None, typer.Option(min=0, help="GPUs on this machine; 0 is the CPU; default: one if there is one")
]


def setting(cls: type, name: str, *flags: str) -> Any:
    """The option for a field of a settings class: its type and help, None where it is not given."""
    declared = next(f.type for f in fields(cls) if f.name == name)
    kind, words = declared, ""
    while True:
        if get_origin(kind) is Annotated:
            words = words or next((m for m in get_args(kind)[1:] if isinstance(m, str)), "")
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, UnionType):
            kind = next(a for a in get_args(kind) if a is not type(None))
        else:
            break
    return Annotated[kind | None, typer.Option(*flags, help=words.replace("`", ""))]


_SMALLER_STEPS = (
    "try --set train.accumulate=4 (pieces of a batch one after the other), --set train.precision=bf16, "
    "--set train.cache=none (faces stay in their file), or a smaller --set train.global_batch"
)
_FREE_MEMORY = "close other programs, or use a machine with more memory"
_SMALLER_BATCH = "try a smaller --batch, --precision bf16, or --gpus 0 (the CPU)"
_FEWER_WORKERS = "try --workers 1, or a smaller --size"
#: command -> how it does with less memory
_LESS_MEMORY = {
    "train": _SMALLER_STEPS,
    "sweep": _SMALLER_STEPS,
    "run": _SMALLER_STEPS,
    "eval": _SMALLER_BATCH,
    "predict": _SMALLER_BATCH,
    "detect-align": _FEWER_WORKERS,
    "render": _FEWER_WORKERS,
}

_COMMON = {
    "json_output": Annotated[bool, typer.Option("--json", help="print one JSON object on stdout")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")],
    "debug": Annotated[bool, typer.Option("--debug", help="show the traceback of an error")],
}


def command(name: str, panel: str, *, to: typer.Typer | None = None, choices: dict[str, str] | None = None) -> Callable:
    """Register a command. What it returns is printed as JSON under --json; errors become two lines and an exit code.
    What there is to choose from is listed below the help."""
    wide = max(map(len, choices or ()), default=0)
    listed = "\b\n" + "\n".join(f"  {k:<{wide}}  {v}" for k, v in choices.items()) if choices else None

    def register(function: Callable) -> Callable:
        @functools.wraps(function)
        def run(*, json_output: bool = False, quiet: bool = False, debug: bool = False, **options):
            from fertool.pool import stoppable

            console.configure(json_output=json_output, quiet=quiet)
            try:
                with stoppable():
                    console.emit(function(**{k: _expanded(v) for k, v in options.items()}) or {})
            except KeyboardInterrupt:
                console.fail("stopped", None, 130)
                sys.exit(130)
            except Exception as e:
                if short := out_of_memory(e):
                    _fail(OutOfMemoryError(short.message, short.hint or _LESS_MEMORY.get(name, _FREE_MEMORY)), debug)
                if isinstance(e, FertoolError):
                    _fail(e, debug)
                if isinstance(e, OSError):
                    where = f"{e.filename}: " if e.filename else ""
                    _fail(DataError(f"{where}{e.strerror or e}"), debug)
                if debug:
                    traceback.print_exc()
                said = " ".join(str(e).split()) or "no message"
                console.fail(f"{type(e).__name__}: {said}", "this is a bug; --debug shows where", 1)
                sys.exit(1)

        signature = inspect.signature(function)
        extra = [
            inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=v)
            for k, v in _COMMON.items()
        ]
        kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
        run.__signature__ = signature.replace(parameters=[*kept, *extra], return_annotation=None)
        run.__annotations__ = {p.name: p.annotation for p in [*kept, *extra]}
        (to or app).command(name, rich_help_panel=panel, epilog=listed)(run)
        return function

    return register


def _expanded(value: Any) -> Any:
    """An option with ~ as the home folder: of --workspace=~/x a shell leaves it as it is."""
    if isinstance(value, list):
        return [_expanded(v) for v in value]
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith("~")):
        return type(value)(os.path.expanduser(value))
    return value


def _fail(error: FertoolError, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    console.fail(error.message, error.hint, error.exit_code, error.facts)
    sys.exit(error.exit_code)


def _version(asked: bool) -> None:
    if asked:
        print(f"fertool {__version__}")
        raise typer.Exit


@app.callback()
def _frame(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    pass
