"""The command line: one thin function per command. Heavy libraries are imported inside them, when they are needed."""

import re
import sys
from typing import Any

from fertool import console, streams
from fertool.cli import adopt, experiments, prepare, results, runs, tools  # noqa: F401  (importing them registers their commands)
from fertool.cli.app import app
from fertool.errors import FertoolError


def main() -> None:
    """Run the `fertool` command. A malformed command line is an error like any other."""
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
        message = " ".join(e.format_message().split()).removesuffix(".").replace(": Value error, ", ": ")
        console.fail(message, _hint(message, context), 2)
        sys.exit(2)


def _hint(message: str, context: Any) -> str:
    """Return the way out of a malformed command line."""
    command = context.command_path if context else "fertool"
    if setting := re.search(r"unexpected extra argument.* \(([a-z_.]+)=([^ )]+)", message):
        key, value = setting.groups()
        section = command.rpartition(" ")[2]
        return f"settings are given as: --set {key if '.' in key else f'{section}.{key}'}={value}"
    return f"see: {command} --help"
