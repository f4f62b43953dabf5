"""Read a user's table of occlusion types."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fertool.artefact import Parent
from fertool.datasets.tabular import unescape_formula
from fertool.errors import DataError, nearest
from fertool.subsets import OCCLUSIONS
from fertool.subsets.names import Ids

#: header of the tables that suggest-occlusion writes; reviewers fill `type`
SUGGESTED = ("id", "suggested", "confidence", "type")

_TYPES = (*OCCLUSIONS, "none")


@dataclass(frozen=True)
class OcclusionTable:
    """The rows of a table.

    Attributes:
        names: ids as written.
        types: occlusion types, "" for none.
        rows: row of the faces for each id, or -1.
        parent: name and digest of the table.
        unreviewed: number of suggestions without a type, which are not among the rows.
    """

    names: list[str]
    types: list[str]
    rows: np.ndarray
    parent: Parent
    unreviewed: int = 0


def read_table(path: Path, ids: Ids, faces: Path) -> OcclusionTable:
    """Read a CSV with the header `id,type`, or a reviewed one of suggest-occlusion; ids may repeat.

    Types are those of `OCCLUSIONS` and "none" (reviewed, not occluded). Suggestions with an empty type are left out.

    Args:
        path: the table.
        ids: ids of the faces.
        faces: path of the faces file, for messages.

    Raises:
        DataError: unreadable, another header, a malformed row (with its line), or ids of other faces.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        reader = csv.reader(content.decode("utf-8-sig").splitlines(), strict=True)
        header = [c.strip().lower() for c in next(reader, [])]
        if header not in (["id", "type"], [*SUGGESTED]):
            raise DataError(f"{path} does not begin with the header id,type", f"it begins: {','.join(header)[:60]}")
        filled = [_entry(path, reader.line_num, cells, header) for cells in reader if any(c.strip() for c in cells)]
        entries = [entry for entry in filled if entry]
    except OSError as e:
        raise DataError(f"cannot read the table {path}: {e.strerror}") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{path} is not a CSV file: {e}", "write it as UTF-8 with the header id,type") from e
    names, types = [name for name, _ in entries], [kind for _, kind in entries]
    if filled and not entries:
        raise DataError(
            f"{path} is not reviewed: its column type is empty",
            f"fill it, with the page {path.with_suffix('.html').name} or by hand: {', '.join(_TYPES)}",
        )
    rows = ids.rows(names)
    if names and (rows < 0).all():
        raise DataError(
            f"no id of {path} is an id of {faces}: e.g. {names[0]!r} against {ids.example!r}",
            "use the table of these faces",
        )
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return OcclusionTable(
        names, types, rows, Parent("occlusion_table", "table", path.name, "", digest), len(filled) - len(entries)
    )


def _entry(path: Path, line: int, cells: list[str], header: list[str]) -> tuple[str, str] | None:
    """Return id and type; None for a suggestion that is not reviewed."""
    if len(cells) != len(header) or not cells[0].strip():
        raise DataError(f"{path}, line {line}: {','.join(cells)[:60]!r} is not {','.join(header)}")
    kind = cells[-1].strip().lower()
    if not kind and len(header) > 2:
        return None
    if kind not in _TYPES:
        raise DataError(f"{path}, line {line}: {cells[-1]!r} is not an occlusion type", nearest(kind, _TYPES))
    return unescape_formula(cells[0].strip()), kind.removeprefix("none")
