"""The unit of rates in JSON and CSV: fractions from 0 to 1."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

#: keys and columns that hold a rate, a difference of two, or the end of an interval
RATE = re.compile(r"accuracy|recall|precision|^f1$|^auc$|^low$|^high$|difference|confusion_|^sd|^chance$|^paper")


def beyond_one(facts: object, where: str = "", is_rate: bool = False) -> Iterator[str]:
    """Yield the numbers below keys of rates that are above 1 (or below -1), each with its place."""
    if isinstance(facts, dict):
        for key, value in facts.items():
            inherits = is_rate and not isinstance(value, dict)
            yield from beyond_one(value, f"{where}.{key}", inherits or bool(RATE.search(str(key))))
    elif isinstance(facts, list):
        for value in facts:
            yield from beyond_one(value, where, is_rate)
    elif is_rate and isinstance(facts, int | float) and abs(facts) > 1:
        yield f"{where}: {facts}"


def rows_beyond_one(path: Path) -> list[str]:
    """Return the same of a CSV file."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert any(RATE.search(column) or column.startswith("p_") for column in rows[0]), f"{path} has no rates"
    return [problem for row in rows for problem in beyond_one({k: _number(v) for k, v in row.items()})]


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell
