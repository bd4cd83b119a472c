"""Reads plain text: every line is one text, an empty line is an empty text, so row and line numbers agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from elbert.data.lines import read_lines
from elbert.data.table import Table, number_rows


def read_txt(name: str, stream: BinaryIO) -> Table:
    """Yield one `text` cell a line.

    Raises:
        DataError: later, at a line that is not UTF-8 or holds a NUL byte.
    """
    return Table(name, ("text",), number_rows(name, _records(stream)))


def _records(stream: BinaryIO) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(read_lines(stream), start=1):
        yield number, {"text": line.removesuffix("\n").removesuffix("\r")}
