"""Commands that list, remove and rename runs."""

import sys
from typing import Annotated, Any, Literal

import typer

from fertool import console
from fertool.cli import complete
from fertool.cli.app import RESULTS, app
from fertool.cli.command import command
from fertool.cli.options import Space
from fertool.errors import UsageError
from fertool.workspace import Workspace

runs_app = typer.Typer(help="List, remove or rename runs.", rich_markup_mode=None)
app.add_typer(runs_app, name="runs", rich_help_panel=RESULTS)

Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]


@command("runs", RESULTS, to=runs_app, alone=True)
def runs(
    data: Annotated[str | None, typer.Option(help="only runs of this dataset", autocompletion=complete.data)] = None,
    network: Annotated[
        str | None, typer.Option(help="only runs of this network", autocompletion=complete.networks)
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="only runs of this variant; the network's name: those without")
    ] = None,
    sweep: Annotated[str | None, typer.Option(help="only runs of this sweep")] = None,
    finished: Annotated[
        bool | None, typer.Option("--finished/--unfinished", help="only runs that are, or are not")
    ] = None,
    sort: Annotated[
        Literal["date", "name", "network", "epochs", "accuracy", "size"],
        typer.Option(help="order: the newest, largest or most accurate first"),
    ] = "date",
    reverse: Annotated[bool, typer.Option("--reverse", help="the other way round")] = False,
    workspace: Space = None,
) -> dict[str, Any]:
    """List runs with their settings, accuracy and size; remove or rename them."""
    from fertool.stages import runs as stage

    facts = stage.summary(
        Workspace(workspace),
        data=data,
        network=network,
        variant=variant,
        sweep=sweep,
        finished=finished,
        sort=sort,
        reverse=reverse,
    )
    stage.report(facts)
    return facts


@command("rm", RESULTS, to=runs_app)
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="runs", autocompletion=complete.runs)],
    yes: Yes = False,
    workspace: Space = None,
) -> dict[str, Any]:
    """Remove runs with their predictions, figures and reports, after telling what else depends on them."""
    from fertool.stages.runs import changes

    facts = changes.remove(Workspace(workspace), names, lambda question: yes or _ask(question))
    console.say(f"removed {', '.join(facts['removed'])}")
    return facts


@command("mv", RESULTS, to=runs_app)
def rename(
    old: Annotated[str, typer.Argument(help="run", autocompletion=complete.runs)],
    new: Annotated[str, typer.Argument(help="new name: NAME, or DATA/NAME to take it out of its sweep")],
    yes: Yes = False,
    workspace: Space = None,
) -> dict[str, Any]:
    """Rename a run, after telling what names it as it is now."""
    from fertool.stages.runs import changes

    facts = changes.rename(Workspace(workspace), old, new, lambda question: yes or _ask(question))
    console.say(f"{facts['was']} is now {facts['name']} ({facts['run']})")
    return facts


def _ask(question: str) -> bool:
    """Ask on the terminal.

    Raises:
        UsageError: nobody is there to answer.
    """
    if console.is_json() or not _is_terminal():
        raise UsageError(f"{question} nobody is there to answer", "add --yes")
    return typer.confirm(question, err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()
