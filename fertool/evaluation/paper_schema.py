"""The keys of a file with published numbers, see `paper_results`."""

from collections.abc import Iterator, Mapping
from typing import Any

from fertool.errors import RecipeError, nearest

_TOP = ("paper", "title", "authors", "venue", "given", "data", "latency", "facts", "results", "confusions")
_MEMBER = ("variant", "recipe", "given")
_ROW = (
    *("table", "dataset", "system", "subset", "metric", "value", "sd", "n_correct", "n_total", "own", "note"),
    *("aggregation", "why", "members", "trained_on", "data", "fold", "unreachable", *_MEMBER),
)
_DATA = ("train", "test", "classes", "subsets", "subset_source", "tolerance", "train_tolerance")
_CONFUSION = (*_ROW, "about", "classes", "rows", "support", "macro_accuracy")


def checked(raw: Any, where: str) -> dict[str, Any]:
    """Return the content of a file if it holds a paper's numbers.

    Raises:
        RecipeError: it does not; with the first problem.
    """
    for problem, hint in _problems(raw):
        raise RecipeError(f"{where}: {problem}", hint or "fertool/papers/ran.yaml shows how it is written")
    return raw


def _problems(raw: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(raw, dict):
        yield "holds no published numbers", ""
        return
    yield from _keys(raw, "", _TOP, ("paper", "title", "authors", "venue", "results"))
    for key in ("paper", "title", "authors", "venue"):
        if not isinstance(raw[key], str):
            yield f"{key} is no text", ""
    for name, data in _entries(raw, "data"):
        yield from _keys(data, f"data {name}", _DATA)
    for name, matrix in _entries(raw, "confusions"):
        yield from _keys(matrix, f"confusion {name}", _CONFUSION, ("dataset", "classes", "rows"))
        yield from _matrix(matrix, f"confusion {name}")
    if not isinstance(raw["results"], list):
        yield "results is no list of groups", ""
    for number, group in enumerate(raw["results"], 1):
        yield from _keys(group, f"group {number} of the results", (*_ROW, "about", "rows"), ("rows",))
        for entry in group["rows"] if isinstance(group["rows"], list) else [group["rows"]]:
            yield from _row(group, entry, f"group {number} of the results")


def _row(group: Mapping[str, Any], entry: Any, where: str) -> Iterator[tuple[str, str]]:
    yield from _keys(entry, f"a row of {where}", _ROW)
    row = {**group, **entry}
    yield from _keys(row, f"a row of {where}", (*_ROW, "about", "rows"), ("table", "dataset", "system", "value"))
    if isinstance(row["value"], bool) or not isinstance(row["value"], int | float):
        yield f"{where}: the value of {row['system']} is no number, but {row['value']!r}", ""
    for member in row.get("members", ()):
        yield from _keys(member, f"a member of {where}", _MEMBER, ("variant",))


def _matrix(matrix: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    classes, rows, support = matrix["classes"], matrix["rows"], matrix.get("support")
    if not isinstance(classes, list) or len(set(map(str, classes))) < len(classes):
        yield f"{where}: classes is no list of different names", ""
        return
    n = len(classes)
    if not isinstance(rows, list) or len(rows) != n:
        yield f"{where}: rows are not {n}, one of each class", ""
        return
    for name, row in zip(classes, rows, strict=True):
        if row is not None and not _numbers(row, n, 100):
            yield f"{where}: the row of {name} is not {n} percentages", "null, if it is not known"
    if support is not None and not (_numbers(support, n) and all(isinstance(s, int) for s in support)):
        yield f"{where}: support is not {n} counts of faces", ""
    if support is not None and not any(support):
        yield f"{where}: support counts no faces", ""


def _numbers(values: Any, n: int, high: float = float("inf")) -> bool:
    """Return whether these are n numbers from 0 to `high`."""
    if not isinstance(values, list) or len(values) != n:
        return False
    return all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= high for v in values)


def _entries(raw: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    return list(raw[key].items()) if isinstance(raw.get(key), dict) else []


def _keys(
    mapping: Any, where: str, known: tuple[str, ...], required: tuple[str, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the keys of a mapping; reading on makes sense only if nothing is."""
    if not isinstance(mapping, dict):
        yield f"{where} holds no keys and values", ""
        return
    of = f" of {where}" if where else ""
    for key in mapping:
        if key not in known:
            yield f"unknown key {str(key)!r}{of}", nearest(str(key), known)
    for key in required:
        if key not in mapping:
            yield f"there is no {key}{of}", ""
