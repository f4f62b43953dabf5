"""Tables as text: CSV with any usual separator, in the encodings that spreadsheets write."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from fertool.errors import DataError

_START = 20_000  # bytes that surely hold the first row of a table

#: a cell that a spreadsheet would take for a formula, however often it is escaped already
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def text(path: Path) -> str:
    """Read a text file in UTF-8 or UTF-16, with or without BOM, line ends made one.

    Raises:
        DataError: it cannot be read, or is in another encoding.
    """
    try:
        found = _decode(path.read_bytes())
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not UTF-8 text", "save it as UTF-8") from e
    if "\0" in found:
        raise DataError(f"{path} is no text: it holds bytes of zero", "it may be damaged, or another kind of file")
    return found


def table(path: Path) -> list[list[str]]:
    """Return the rows of a table that are not empty, separated as its line `sep=;` says, or else its first row.

    Raises:
        DataError: see `text`; or quotes without end.
    """
    try:
        return [row for row in _reader(text(path)) if any(row)]
    except csv.Error as e:
        raise DataError(f"{path} is not a readable table: {e}") from e


def header(path: Path) -> list[str]:
    """Return the first row of a table, or of whatever file it is; empty if it cannot be read."""
    try:
        with open(path, "rb") as f:
            start = _decode(f.read(_START), errors="replace")
        return next(_reader(start), [])
    except (OSError, csv.Error):
        return []


def separator(line: str) -> str:
    """Return what separates the cells of a table's first line: comma, semicolon or tab."""
    return max(",;\t", key=line.count)


def escape_formula(cell: str) -> str:
    """Return a text with an apostrophe in front if a spreadsheet would take it for a formula.

    Formulas begin with =, +, -, @, a tab or a return. `unescape_formula` removes the apostrophe.
    """
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescape_formula(cell: str) -> str:
    """Return the text that `escape_formula` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _reader(content: str) -> Iterator[list[str]]:
    first, _, rest = content.partition("\n")
    if declared := re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE):  # written by spreadsheets
        return csv.reader(io.StringIO(rest), delimiter=declared[1], strict=True)
    return csv.reader(io.StringIO(content), delimiter=separator(first), strict=True)


def _decode(data: bytes, errors: str = "strict") -> str:
    encoding = "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in data[:2]:  # UTF-16 without a BOM
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    return data.decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")
