"""Reads fastText's files: a line is one text with its labels, words that begin with `__label__`, anywhere in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from elbert.data.lines import read_lines
from elbert.data.table import BrokenRowError, Record, Table, number_rows
from elbert.data.values import LABEL_PREFIX, SEPARATOR

_LABEL = re.compile(rf"(?<!\S){LABEL_PREFIX}(\S*)\s*")


def read_fasttext(name: str, stream: BinaryIO) -> Table:
    """Yield a `text` and a `label` cell a line, several labels with `;` between them; blank lines are skipped.

    fastText passes over a line without a label, in training and testing, and over one that holds nothing else. The
    first has no label here, which matters to whoever needs one; the second is a broken row.

    Raises:
        DataError: later, at a line that is not UTF-8 or holds a NUL byte.
    """
    return Table(name, ("text", "label"), number_rows(name, _records(stream)), marks_labels=True)


def _records(stream: BinaryIO) -> Iterator[Record]:
    for number, line in enumerate(read_lines(stream), start=1):
        if not line.strip():
            continue
        labels, text = _LABEL.findall(line), _LABEL.sub("", line).strip()
        problem = _problem(labels, text)
        if problem is not None:
            yield number, BrokenRowError(number, problem)
        else:
            yield number, {"text": text, "label": SEPARATOR.join(labels) or None}


def _problem(labels: list[str], text: str) -> str | None:
    """Return what is wrong with a line, or None."""
    if not text:
        return f"the line holds labels and no text; write one behind {LABEL_PREFIX}{labels[-1]}, or drop the line"
    if "" in labels:
        return f"{LABEL_PREFIX} stands alone; write the label's name right behind it"
    odd = next((label for label in labels if SEPARATOR in label), None)
    return odd and f"label {odd!r} holds {SEPARATOR!r}, which stands between labels; rename it"
