"""The command line: one thin function per command. Heavy libraries are imported inside them, when they are needed."""

import sys

from fertool import console, streams
from fertool.cli import prepare, runs, show, tools  # noqa: F401  (importing them registers their commands)
from fertool.cli.common import app
from fertool.errors import FertoolError


def main() -> None:
    """Entry point of the `fertool` command. A command line that cannot be meant is an error like any other."""
    streams.prepare()
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code)
    except FertoolError as e:  # of stdout itself: those of commands end in them
        console.fail(e.message, e.hint, e.exit_code)
        sys.exit(e.exit_code)
    except Exception as e:  # the parser's errors belong to typer or to click, depending on typer's version
        if not hasattr(e, "format_message"):
            raise
        context = getattr(e, "ctx", None)
        console.configure(json_output="--json" in sys.argv)
        said = " ".join(e.format_message().split()).removesuffix(".").replace(": Value error, ", ": ")
        console.fail(said, f"see: {context.command_path if context else 'fertool'} --help", 2)
        sys.exit(2)
