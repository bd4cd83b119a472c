"""Reads JSON lines: one object a line, blank lines skipped. The first row's keys are the columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

from elbert.data.lines import read_lines
from elbert.data.table import BrokenRowError, Table, number_rows, shorten


def read_jsonl(name: str, stream: BinaryIO) -> Table:
    """Read the first object for its keys, then rows as they are asked for.

    Raises:
        DataError: a line that is not one JSON object, or whose object has a key twice.
    """
    rows = number_rows(name, _records(stream))
    first = next(rows, None)
    if first is None:
        return Table(name, (), rows)
    return Table(name, tuple(first.cells), chain([first], rows))


def _records(stream: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(read_lines(stream), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_unique_keys)
        except BrokenRowError as error:
            raise BrokenRowError(number, str(error)) from None
        except (ValueError, RecursionError) as error:
            raise BrokenRowError(number, f"not valid JSON ({error}); write one object a line") from None
        if not isinstance(record, dict):
            raise BrokenRowError(number, f"{shorten(record)} is not a JSON object; write one object a line")
        yield number, record


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BrokenRowError(None, f"key {twice!r} occurs twice in one object; rename or drop one")
    return cells
