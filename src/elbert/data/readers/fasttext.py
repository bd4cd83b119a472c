"""Reads fastText's files: a line is one text with its labels, words that begin with `__label__`, anywhere in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from elbert.data.lines import read_lines
from elbert.data.table import SKIP, BrokenRowError, Record, Table, number_rows
from elbert.data.values import LABEL_PREFIX, SEPARATOR

_LABEL = re.compile(rf"(?<!\S){LABEL_PREFIX}(\S*)\s*")


def read_fasttext(name: str, stream: BinaryIO) -> Table:
    """Yield a `text` and a `label` cell a line, several labels with `;` between them; blank lines are skipped.

    Raises:
        DataError: later, at a line that is not UTF-8, holds a NUL byte, or names a label with `;` in it.
    """
    return Table(name, ("text", "label"), number_rows(name, _records(stream)))


def _records(stream: BinaryIO) -> Iterator[Record]:
    for number, line in enumerate(read_lines(stream), start=1):
        if not line.strip():
            continue
        labels = _LABEL.findall(line)
        odd = next((label for label in labels if SEPARATOR in label), None)
        if odd is not None:
            problem = f"label {odd!r} holds {SEPARATOR!r}, which stands between labels; rename it; {SKIP}"
            yield number, BrokenRowError(number, problem)
        else:
            yield number, {"text": _LABEL.sub("", line).strip(), "label": SEPARATOR.join(labels)}
