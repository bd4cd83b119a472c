"""Reads rows held in a list: texts, `(text, text_pair)` tuples, or dicts of named cells (with labels)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from elbert.data.table import BrokenRowError, Table, number_rows, shorten

ALLOWED = "a text, a (text, text_pair) tuple, or a dict such as {'text': …, 'label': …}"


def read_rows(items: Sequence[Any]) -> Table:
    """Give a list's items column names; the first item says which.

    Raises:
        DataError: later, at an item of another kind than the first.
    """
    first = items[0] if items else {}
    if isinstance(first, Mapping):
        columns: tuple[str, ...] = tuple(first)
    else:
        columns = ("text", "text_pair") if isinstance(first, (tuple, list)) else ("text",)
    return Table("list", columns, number_rows("list", _records(items, columns)))


def _records(items: Sequence[Any], columns: tuple[str, ...]) -> Iterator[tuple[None, Mapping[str, Any]]]:
    kind = Mapping if isinstance(items[0] if items else {}, Mapping) else None
    for item in items:
        if kind and isinstance(item, Mapping):
            yield None, item
        elif not kind and isinstance(item, (tuple, list)) and len(item) == len(columns) == 2:
            yield None, dict(zip(columns, item, strict=True))
        elif not kind and len(columns) == 1 and not isinstance(item, (tuple, list, Mapping)):
            yield None, {"text": item}
        else:
            raise BrokenRowError(None, f"{shorten(item)} is not like the first item; give every item as {ALLOWED}")
