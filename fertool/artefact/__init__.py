"""The HDF5 artefacts that stages hand to one another: format, reader, writers, provenance.

Format (schema 1 of every kind). The root carries the attributes

    fertool_kind     str   faces, masks, regions, subsets, run, predictions, figures, landmarks
    fertool_schema   int   version of the kind's layout
    uid              str   random, one per file
    complete         bool  false until the last step of the stage that writes it
    digest           str   BLAKE2 of kind, schema, settings, parents, classes and all data but that of
                           `UNHASHED` columns: equal for equal work
    params           JSON  the settings of the stage
    inputs           JSON  [{role, kind, name, uid, digest}] of the files it was made from
    classes          JSON  ordered class names, or null
    info             JSON  versions, command line, seed, time: what must not enter the digest

Tables hold one dataset per column at the root, all with the same first axis and stored contiguously, so that a
column can be mapped into memory by any number of processes and rows can be written without touching HDF5's own
structures. Other arrays live in groups of any depth.

Files with external links, virtual datasets or external storage are refused: nothing a file says makes fertool open
another one, and nothing is ever unpickled.

History: 1, first release.
"""

from fertool.artefact.layout import KINDS, PENDING, SCHEMA, UNHASHED, Column, Parent, one_line, partial_path, text
from fertool.artefact.provenance import differences, flatten, make_info, up_to_date
from fertool.artefact.reading import Artefact, find, peek, read
from fertool.artefact.writing import Writer, begin, note, save

__all__ = [
    "KINDS", "PENDING", "SCHEMA", "UNHASHED", "Artefact", "Column", "Parent", "Writer", "begin", "differences", "find",
    "flatten", "make_info", "note", "one_line", "partial_path", "peek", "read", "save", "text", "up_to_date",
]  # fmt: skip
