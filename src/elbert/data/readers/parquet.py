"""Reads Parquet files a thousand rows at a time, through pyarrow."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from elbert.data.table import BrokenRowError, Table, check_columns, number_rows
from elbert.errors import DataError
from elbert.lazy import from_extra

ROWS_AT_ONCE = 1000


def read_parquet(name: str, stream: BinaryIO) -> Table:
    """Read the schema, then rows as they are asked for.

    Raises:
        DataError: not a Parquet file, a damaged one, or one that names a column twice.
        MissingExtraError: pyarrow is not installed.
    """
    pa, pq = from_extra("train", "pyarrow"), from_extra("train", "pyarrow.parquet")
    try:
        plain_file = isinstance(stream, io.BufferedReader) and stream.seekable()
        file = pq.ParquetFile(stream if plain_file else io.BytesIO(stream.read()))
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: not a readable Parquet file ({_line(error)}); write or fetch it again") from None
    columns = file.schema_arrow.names
    check_columns(name, columns)
    return Table(name, tuple(columns), number_rows(name, _records(file)))


def _records(file: Any) -> Iterator[tuple[None, dict[str, Any]]]:
    import pyarrow as pa

    try:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            for position in range(batch.num_rows):
                yield None, batch.slice(position, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        raise BrokenRowError(
            None, f"a text is not UTF-8 (byte offset {error.start} of it); write it as UTF-8"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise BrokenRowError(None, f"damaged Parquet data ({_line(error)}); write or fetch the file again") from None


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
