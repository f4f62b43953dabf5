"""A user's own table of occlusion types."""

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

#: header of the tables that suggest-occlusion writes; `type` is left for a person to fill
SUGGESTED = ("id", "suggested", "confidence", "type")

_TYPES = (*OCCLUSIONS, "none")


@dataclass(frozen=True)
class OcclusionTable:
    """The table row by row: ids as written, types ("" for none), and the row of the faces each id means (-1);
    `unjudged` counts suggestions nobody has judged, which are not among them."""

    names: list[str]
    types: list[str]
    rows: np.ndarray
    parent: Parent
    unjudged: int = 0


def read_table(path: Path, ids: Ids, faces: Path) -> OcclusionTable:
    """Read a CSV with the header `id,type`, or a reviewed one of suggest-occlusion; an id may come several times.

    Types are those of `OCCLUSIONS` and "none", which says that a face was looked at and is not occluded. Suggestions
    whose type is empty have not been looked at, and are left out.

    Args:
        ids: of the faces. faces: their file, for messages.

    Raises:
        DataError: unreadable, without that header, with a row that is none (the message names the line), or about
            other faces.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        reader = csv.reader(content.decode("utf-8-sig").splitlines(), strict=True)
        header = [c.strip().lower() for c in next(reader, [])]
        if header != ["id", "type"] and header != [*SUGGESTED]:
            raise DataError(f"{path} does not begin with the header id,type", f"it begins: {','.join(header)[:60]}")
        filled = [_entry(path, reader.line_num, cells, header) for cells in reader if any(c.strip() for c in cells)]
        entries = [entry for entry in filled if entry]
    except OSError as e:
        raise DataError(f"cannot read the table {path}: {e.strerror}") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{path} is no CSV file: {e}", "write it as UTF-8 with the header id,type") from e
    names, types = [name for name, _ in entries], [kind for _, kind in entries]
    if filled and not entries:
        raise DataError(
            f"nobody has judged the suggestions in {path}: its column type is empty",
            f"fill it, with the page {path.with_suffix('.html').name} or by hand: {', '.join(_TYPES)}",
        )
    rows = ids.rows(names)
    if names and (rows < 0).all():
        raise DataError(
            f"no id in {path} is an id in {faces}: the table says {names[0]!r}, the faces {ids.example!r}",
            "give the table that belongs to these faces",
        )
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return OcclusionTable(
        names, types, rows, Parent("occlusion_table", "table", path.name, "", digest), len(filled) - len(entries)
    )


def _entry(path: Path, line: int, cells: list[str], header: list[str]) -> tuple[str, str] | None:
    """Id and type; None for a suggestion without a verdict."""
    if len(cells) != len(header) or not cells[0].strip():
        raise DataError(f"{path}, line {line}: {','.join(cells)[:60]!r} is not {','.join(header)}")
    kind = cells[-1].strip().lower()
    if not kind and len(header) > 2:
        return None
    if kind not in _TYPES:
        raise DataError(f"{path}, line {line}: {cells[-1]!r} is no type of occlusion", nearest(kind, _TYPES))
    return unescape_formula(cells[0].strip()), kind.removeprefix("none")
