"""What the user sees: tables, progress and notes on stderr; with --json one object on stdout and nothing else."""

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from fertool.launch import is_first_process
from fertool.progress import Advance, Lines

for _size in ("COLUMNS", "LINES"):  # which rich reads, and stumbles over what looks like a digit and is none
    if not os.environ.get(_size, "").isascii():
        del os.environ[_size]

#: escape sequences begin with one of these; line breaks and tabs stay
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_stderr = Console(stderr=True, highlight=False, soft_wrap=True)
_settings = {"json": False, "quiet": False}

#: version of the JSON objects on stdout; a key that is renamed or changes its meaning raises it
JSON_SCHEMA = 2


def configure(*, json_output: bool = False, quiet: bool = False) -> None:
    """Set once by the command line."""
    _settings.update(json=json_output, quiet=quiet)


def state() -> dict[str, bool]:
    """Return what `configure` was told, for processes that this one starts."""
    return {"json_output": _settings["json"], "quiet": _settings["quiet"]}


def is_json() -> bool:
    """Return whether stdout belongs to a JSON object."""
    return _settings["json"]


def _silent() -> bool:
    return _settings["quiet"] or _settings["json"] or not is_first_process()


def say(message: str) -> None:
    """Print a line on stderr. Markup is off: names from data are printed as they are, control characters escaped."""
    if not _silent():
        _stderr.print(visible(message), markup=False)


def visible(text: str) -> str:
    """Return a text whose control characters, which steer a terminal or turn its line around, are written as \\x1b."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def show(table: Table) -> None:
    """Print a table, at least as wide as its longest words: a narrow terminal breaks lines, and loses none."""
    if not _silent():
        wide = Console(stderr=True, highlight=False, width=10_000)
        width = max(_stderr.width, Measurement.get(wide, wide.options, table).minimum)
        Console(stderr=True, highlight=False, soft_wrap=True, width=width).print(table)


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """Return a plain table; columns of text are left-aligned, columns with numbers right-aligned."""
    made = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    cells: list[list[Any]] = [list(row) for row in rows]
    for i, column in enumerate(columns):
        is_text = i == 0 or all(isinstance(row[i], str) and not row[i][:1].isdigit() for row in cells)
        made.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in cells:
        made.add_row(*(_cell(c) for c in row))
    return made


def _cell(value: object) -> str:
    from rich.markup import escape

    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else escape(visible(str(value)))


def emit(result: dict) -> None:
    """Print a command's result under --json: one JSON object on stdout."""
    if _settings["json"] and is_first_process():
        print(json.dumps(_plain({"schema": JSON_SCHEMA, "ok": True, **result}), allow_nan=False), flush=True)


def fail(message: str, hint: str | None, code: int, facts: dict | None = None) -> None:
    """Print an error: two lines on stderr, and the same with its facts as JSON on stdout under --json."""
    print(f"error: {visible(message)}", file=sys.stderr)
    if hint:
        print(f"hint: {visible(hint)}", file=sys.stderr)
    if _settings["json"] and is_first_process():
        told = {"schema": JSON_SCHEMA, **(facts or {}), "ok": False, "error": message, "hint": hint, "code": code}
        print(json.dumps(_plain(told), allow_nan=False), flush=True)


def _plain(value: object) -> object:
    """Return what JSON knows: arrays as lists, None for what is no number, text for the rest."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


@contextmanager
def progress(what: str, total: int | None, unit: str = "it") -> Iterator[Advance]:
    """Show rate and time left: as a bar on a terminal, elsewhere as a line once a minute.

    Args:
        total: number of items; None if nobody knows it.

    Yields:
        A function `advance(n=1, note="")`.
    """
    if _silent():
        yield lambda n=1, note="": None
    elif _stderr.is_interactive and _stderr.file.isatty():  # rich takes FORCE_COLOR for a terminal
        with _bar(what, total, unit) as advance:
            yield advance
    else:
        yield Lines(what, total, unit, say).advance


@contextmanager
def _bar(what: str, total: int | None, unit: str) -> Iterator[Advance]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=_stderr,
    )
    with bar:
        task = bar.add_task(what, total=total, rate="", note="")

        def advance(n: int = 1, note: str = "") -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=n, note=visible(note), rate=f"{speed:.1f} {unit}/s" if speed else "")

        yield advance
