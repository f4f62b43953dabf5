"""The `command` decorator: options from settings classes, JSON output, errors as two lines and an exit code."""

import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from fertool import console
from fertool import recipe as recipes
from fertool.cli.app import app, listed
from fertool.cli.options import RecipeName, Sets, flags_of
from fertool.errors import DataError, FertoolError, OutOfMemoryError, out_of_memory
from fertool.settings import STAGES

_SMALLER_STEPS = (
    "try --set train.accumulate=4 (batches in pieces), --set train.precision=bf16, --set train.cache=none (faces stay "
    "in their file), or a smaller --set train.global_batch"
)
_FREE_MEMORY = "close other programs, or use a machine with more memory"
_SMALLER_BATCH = "try a smaller --batch, --precision bf16, or --gpus 0 (the CPU)"
_FEWER_WORKERS = "try --workers 1, or a smaller --size"
#: command -> how to run it in less memory
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
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="print errors only")],
    "debug": Annotated[bool, typer.Option("--debug", help="print the traceback of an error")],
}


#: options at the end of the help
_LAST = ("workspace", "out", "overwrite")


@dataclass(frozen=True)
class Options:
    """Settings given on a command line.

    Attributes:
        stage: section of the recipe that they belong to.
        recipe_name: name or file of the recipe, if one is given.
        flags: values of the options made from the settings class, by field; None if not given.
        sets: "section.key=value" texts.
    """

    stage: str
    recipe_name: str | None
    flags: Mapping[str, Any]
    sets: tuple[str, ...]

    @property
    def recipe(self) -> recipes.Recipe:
        """Return the named recipe, or one without settings."""
        return recipes.load(self.recipe_name)

    def settings(self, recipe: recipes.Recipe | None = None) -> Any:
        """Return the stage's settings: defaults, recipe, options, `--set`, the later before the earlier.

        Raises:
            RecipeError: an unknown key or an invalid value.
        """
        return (recipe or self.recipe).settings(self.stage, self.flags, self.sets)


def command(
    name: str,
    panel: str,
    *,
    settings: str = "",
    flags: Sequence[str] = (),
    to: typer.Typer | None = None,
    choices: Mapping[str, str] | None = None,
    alone: bool = False,
) -> Callable[[Callable[..., dict[str, Any] | None]], Callable[..., Any]]:
    """Register a command. Its result is printed under --json; errors become two lines and an exit code.

    Args:
        name: of the command.
        panel: section of the help.
        settings: stage whose settings the command takes: the function's first argument is then `Options`, and
            `--recipe` and `--set` are among the options.
        flags: fields of those settings that have options of their own, see `options.flags_of`.
        to: the application; default: `app`.
        choices: names and explanations listed below the help.
        alone: it is what the group `to` does without a subcommand.
    """
    made = flags_of(STAGES[settings], flags) if settings else {}

    def register(function: Callable[..., dict[str, Any] | None]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*, json_output: bool = False, quiet: bool = False, debug: bool = False, **given: Any) -> None:
            from fertool import plugins
            from fertool.pool import stoppable

            console.configure(json_output=json_output, quiet=quiet)
            if alone and (context := given.pop("context")).invoked_subcommand:
                _refuse_options(context, name)
                return
            given = {key: _expanded(value) for key, value in given.items()}
            plugins.allow_mentioned(given.values())
            first = [_options(settings, made, given)] if settings else []
            try:
                with stoppable():
                    console.emit(function(*first, **given) or {})
            except KeyboardInterrupt:
                console.fail("stopped", None, 130)
                sys.exit(130)
            except Exception as error:
                _report(error, name, debug)

        parameters = _parameters(function, made, bool(settings))
        if alone:
            parameters.append(_keyword("context", typer.Context, inspect.Parameter.empty))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        if alone and to:
            to.callback(invoke_without_command=True)(run)
        else:
            (to or app).command(name, rich_help_panel=panel, epilog=listed(choices) if choices else None)(run)
        return function

    return register


def _refuse_options(context: typer.Context, name: str) -> None:
    """Refuse options before a subcommand, which would not get them."""
    subcommand = context.invoked_subcommand
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source and source.name == "COMMANDLINE":
            option = parameter.opts[0]
            console.fail(f"{option} stands before {subcommand}", f"write: fertool {name} {subcommand} ... {option}", 2)
            sys.exit(2)


def _parameters(
    function: Callable[..., Any], made: Mapping[str, tuple[str, Any]], has_settings: bool
) -> list[inspect.Parameter]:
    """Return arguments, the command's own options, those of its settings, and those of most commands."""
    own = list(inspect.signature(function).parameters.values())[has_settings:]
    last = [p for p in own if p.name in _LAST]
    first = sorted((p for p in own if p not in last), key=lambda p: not _is_argument(p))

    added = [_keyword(name, annotation) for name, (_, annotation) in made.items()]
    if has_settings:
        added += [_keyword("recipe_name", RecipeName), _keyword("sets", Sets)]
    common = [_keyword(name, annotation, False) for name, annotation in _COMMON.items()]
    before, after = ([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in group] for group in (first, last))
    return [*before, *added, *after, *common]


def _keyword(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(isinstance(m, typer.models.ArgumentInfo) for m in getattr(parameter.annotation, "__metadata__", ()))


def _options(stage: str, made: Mapping[str, tuple[str, Any]], given: dict[str, Any]) -> Options:
    """Take the settings out of what was given."""
    flags = {field: given.pop(name) for name, (field, _) in made.items()}
    flags = {field: (tuple(v) or None) if isinstance(v, list) else v for field, v in flags.items()}
    return Options(stage, given.pop("recipe_name"), flags, tuple(given.pop("sets") or ()))


def _expanded(value: Any) -> Any:
    """Expand ~ to the home folder, which a shell leaves as it is in --workspace=~/x."""
    if isinstance(value, list):
        return [_expanded(v) for v in value]
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith("~")):
        return type(value)(os.path.expanduser(value))
    return value


def _report(error: Exception, command: str, debug: bool) -> NoReturn:
    """Print an error and exit with its code."""
    if short := out_of_memory(error):
        error = OutOfMemoryError(short.message, short.hint or _LESS_MEMORY.get(command, _FREE_MEMORY))
    elif isinstance(error, OSError) and not isinstance(error, FertoolError):
        where = f"{error.filename}: " if error.filename else ""
        error = DataError(f"{where}{error.strerror or error}")
    if debug:
        traceback.print_exc()
    if isinstance(error, FertoolError):
        console.fail(error.message, error.hint, error.exit_code, error.facts)
        sys.exit(error.exit_code)
    message = " ".join(str(error).split()) or "no message"
    console.fail(f"{type(error).__name__}: {message}", "this is a bug; --debug shows where", 1)
    sys.exit(1)
