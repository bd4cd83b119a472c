"""Reads rows held in a list (texts, `(text, text_pair)` tuples, or dicts of named cells), or columns held in a dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from elbert.data.table import BrokenRowError, Record, Table, check_columns, number_rows, shorten
from elbert.errors import UsageError

ALLOWED = "a text, a (text, text_pair) tuple, or a dict such as {'text': …, 'label': …}"


def read_rows(items: Sequence[Any]) -> Table:
    """Give a list's items column names; the first item says which.

    An item of another kind than the first is a broken row.
    """
    first = items[0] if items else {}
    if isinstance(first, Mapping):
        columns: tuple[str, ...] = tuple(map(str, first))
    else:
        columns = ("text", "text_pair") if isinstance(first, (tuple, list)) else ("text",)
    return Table("list", columns, number_rows("list", _records(items, columns)))


def _records(items: Sequence[Any], columns: tuple[str, ...]) -> Iterator[Record]:
    kind = Mapping if isinstance(items[0] if items else {}, Mapping) else None
    for item in items:
        if kind and isinstance(item, Mapping):
            yield None, item
        elif not kind and isinstance(item, (tuple, list)) and len(item) == len(columns) == 2:
            yield None, dict(zip(columns, item, strict=True))
        elif not kind and len(columns) == 1 and not isinstance(item, (tuple, list, Mapping)):
            yield None, {"text": item}
        else:
            problem = f"{shorten(item)} is not like the first item; give every item as {ALLOWED}"
            yield None, BrokenRowError(None, problem)


def read_columns(columns: Mapping[Any, Any]) -> Table:
    """Read a dict of columns: `{"text": [...], "label": [...]}`, of lists, arrays, Series or tensors.

    Raises:
        UsageError: something in it is no column, or the columns are of different lengths.
        DataError: two columns of one name.
    """
    names = [str(name) for name in columns]
    check_columns("dict", names)
    cells: list[list[Any]] = []
    for name, column in zip(names, columns.values(), strict=True):
        if isinstance(column, (str, bytes, Mapping)) or not hasattr(column, "__len__") or hasattr(column, "columns"):
            kind = type(column).__name__
            raise UsageError(f"dict: {name!r} is of type {kind}, not a column; give a list for each, or a list of rows")
        cells.append(list(column))
    lengths = {name: len(column) for name, column in zip(names, cells, strict=True)}
    if len({*lengths.values()}) > 1:
        told = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise UsageError(f"dict: columns are of different lengths ({told}); give every row a cell in each")
    rows = (dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True))
    return Table("dict", tuple(names), number_rows("dict", ((None, row) for row in rows)))
