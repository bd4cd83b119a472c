"""Reads a pandas DataFrame row by row; missing cells of every kind (NaN, NA, None) become None."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from elbert.data.table import Table, check_columns, number_rows


def is_frame(source: object) -> bool:
    """Say whether `source` is a DataFrame, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(source, pandas.DataFrame)


def read_frame(frame: Any) -> Table:
    """Turn a DataFrame into a table; its index is ignored.

    Raises:
        DataError: two columns of one name.
    """
    columns = [str(column) for column in frame.columns]
    check_columns("DataFrame", columns)
    return Table("DataFrame", tuple(columns), number_rows("DataFrame", _records(frame, columns)))


def _records(frame: Any, columns: list[str]) -> Iterator[tuple[None, dict[str, Any]]]:
    objects = frame.astype(object)
    for cells in objects.where(objects.notna(), None).itertuples(index=False, name=None):
        yield None, dict(zip(columns, cells, strict=True))
