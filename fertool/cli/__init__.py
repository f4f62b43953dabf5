"""The command line: one thin function per command. Heavy libraries are imported inside them, when they are needed."""

from fertool.cli import prepare, runs, tools  # noqa: F401  (importing them registers their commands)
from fertool.cli.frame import app


def main() -> None:
    """Entry point of the `fertool` command."""
    app()
