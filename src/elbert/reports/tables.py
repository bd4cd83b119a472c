"""Tables on the terminal: rich lays them out; anywhere else the same columns as plain text, as wide as they are."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Wider than any table, so that plain text is never wrapped.
_UNBOUNDED = 10_000


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = (), *, words: int = 1, prose: bool = False) -> Table:
    """Return a table.

    Args:
        rows: cells, plain text.
        head: names of the columns; none where it has no head.
        words: columns from the left that hold words; the others hold numbers and stand to the right.
        prose: the last column holds sentences, which a narrow terminal may wrap.
    """
    listed = [list(row) for row in rows]
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=bool(head), header_style="bold")
    for place, column in enumerate(zip(*([head] if head else []), *listed, strict=True)):
        wraps = prose and place == len(head or listed[0]) - 1
        left = place < words or wraps
        width = None if wraps else max(map(len, column))
        made.add_column(Text(head[place] if head else ""), justify="left" if left else "right", min_width=width)
    for row in listed:
        made.add_row(*map(Text, row))
    return made


def plain(made: Table) -> str:
    """Return the table as text, without colours, its lines as long as they are."""
    stream = io.StringIO()
    Console(file=stream, width=_UNBOUNDED, color_system=None).print(made)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def show(made: Table, *, err: bool) -> None:
    """Write the table on a terminal: sentences are wrapped to its width, numbers never."""
    console = Console(stderr=err, highlight=False)
    narrowest = console.measure(made).minimum
    console.print(made, width=max(console.width, narrowest), no_wrap=False, crop=False)
