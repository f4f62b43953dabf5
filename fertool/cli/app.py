"""The typer application: help with one panel per group of commands, `--version`, shell completion."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fertool import __version__

#: panels of `fertool --help`, in this order
PREPARE, EXPERIMENTS, RESULTS, TOOLS = "Prepare data", "Train and evaluate", "Use results", "Tools"


class PanelGroup(TyperGroup):
    """A group whose plain help lists commands by panel. Rich help has panels too, and takes twice as long to appear."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per panel."""
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in (PREPARE, EXPERIMENTS, RESULTS, TOOLS)}
        width = max(map(len, self.commands), default=0)
        limit = formatter.width - 6 - width
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                rows = panels.setdefault(panel if isinstance(panel, str) else "Commands", [])
                rows.append((name.ljust(width), command.get_short_help_str(limit)))
        for panel, rows in panels.items():
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)


app = typer.Typer(
    name="fertool",
    cls=PanelGroup,
    help="Rerun, compare and extend attention-based facial expression recognition.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def listed(choices: Mapping[str, str]) -> str:
    """Return names and explanations as lines below a command's help."""
    width = max(map(len, choices), default=0)
    return "\b\n" + "\n".join(f"  {name:<{width}}  {about}" for name, about in choices.items())


def _print_version(requested: bool) -> None:
    if requested:
        print(f"fertool {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass
