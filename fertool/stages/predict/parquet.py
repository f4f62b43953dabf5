"""The table of predictions as a Parquet file, with types and without what spreadsheets need."""

from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fertool import files
from fertool.errors import DeviceError
from fertool.outputs import MARK, Inode
from fertool.stages.predict.output import Columns

_GROUP = 10_000  # rows that are written at once


def require_pyarrow() -> None:
    """Check that Parquet files can be written.

    Raises:
        DeviceError: pyarrow is missing.
    """
    if not find_spec("pyarrow"):
        raise DeviceError("Parquet needs pyarrow", "run: pip install 'fertool[parquet]'; or leave out --parquet")


class ParquetTable:
    """Rows as a Parquet file, which has its name when it is whole."""

    NAME = "predictions.parquet"

    def __init__(self, out: Path, columns: Columns, sources: set[Inode]):
        import pyarrow

        self.path = out / self.NAME
        kinds = {name: pyarrow.int32() for name in Columns.whole} | {name: pyarrow.string() for name in Columns.words}
        fields = [(name, kinds.get(name, pyarrow.float64())) for name in columns.names]
        self._schema = pyarrow.schema(fields)
        self._columns, self._sources = columns, sources
        self._rows: list[list] = []
        self._held = ExitStack()

    def __enter__(self) -> "ParquetTable":
        from pyarrow.parquet import ParquetWriter

        part = self._held.enter_context(files.replacing(self.path, sources=self._sources))
        # without a copy of the schema, the mark lies at the end of the file, where it is looked for
        self._file: Any = self._held.enter_context(ParquetWriter(part, self._schema, store_schema=False))
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self._flush()
            self._file.add_key_value_metadata({"generator": MARK})
        self._held.__exit__(*error)

    def write(self, rows: list[dict]) -> None:
        """Write the rows of an image or frame.

        Raises:
            DataError: there is no room for them.
        """
        self._rows += map(self._columns.cells, rows)
        if len(self._rows) >= _GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        columns = zip(*self._rows, strict=True) if self._rows else ([] for _ in self._schema)
        arrays = [pyarrow.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        with files.writing(self.path):
            self._file.write_table(pyarrow.table(arrays, schema=self._schema))
        self._rows = []
