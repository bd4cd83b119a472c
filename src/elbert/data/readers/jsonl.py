"""Reads JSON lines: one object a line, blank lines skipped. The first good row's keys are the columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

from elbert.data.lines import read_lines
from elbert.data.table import BrokenRowError, Record, Row, Table, Where, number_rows, shorten
from elbert.data.values import WrittenFloat
from elbert.errors import DataError


def read_jsonl(name: str, stream: BinaryIO) -> Table:
    """Read the first object for its keys, then rows as they are asked for.

    Raises:
        DataError: no line is one JSON object.
    """
    rows = number_rows(name, _records(stream))
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if row.problem is None:
            return Table(name, tuple(row.cells), chain(held, rows))
    if held:
        raise DataError(f"{Where(name, held[0].number, held[0].line)}: {held[0].problem}")
    return Table(name, (), rows)


def _records(stream: BinaryIO) -> Iterator[Record]:
    for number, line in enumerate(read_lines(stream), start=1):
        if not line.strip():
            continue
        yield number, _read_record(line, number)


def _read_record(line: str, number: int) -> dict[str, Any] | BrokenRowError:
    """Return the object a line holds, or what is wrong with it."""
    try:
        record = json.loads(line, object_pairs_hook=_unique_keys, parse_float=WrittenFloat)
    except BrokenRowError as error:
        return BrokenRowError(number, str(error))
    except (ValueError, RecursionError) as error:
        return BrokenRowError(number, f"not valid JSON ({error}); write one object a line")
    if not isinstance(record, dict):
        return BrokenRowError(number, f"{shorten(record)} is not a JSON object; write one object a line")
    return record


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BrokenRowError(None, f"key {twice!r} occurs twice in one object; rename or drop one")
    return cells
