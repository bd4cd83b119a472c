"""The rows that wait for a place in the scheduler, first come first served, and when they have to be answered."""

from __future__ import annotations

import heapq
from collections import OrderedDict

from elbert.serving.rows import Row


class Line:
    """Rows that wait; any of them can be taken out, or sent to the front."""

    def __init__(self) -> None:
        self._rows: OrderedDict[int, Row] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def join(self, row: Row) -> None:
        """Put a row at the end."""
        self._rows[row.index] = row

    def next(self) -> Row:
        """Take the first row out; there must be one."""
        return self._rows.popitem(last=False)[1]

    def leave(self, index: int) -> Row | None:
        """Take the row of this index out; None where it isn't here."""
        return self._rows.pop(index, None)


class Deadlines:
    """Indices of rows by the time they have to be answered."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, row: Row) -> None:
        """Note a row's deadline, where it has one."""
        if row.deadline is not None:
            heapq.heappush(self._heap, (row.deadline, row.index))

    def due(self, until: float) -> list[int]:
        """Take out the indices whose time has come by `until`, the earliest first; some may have left already."""
        found = []
        while self._heap and self._heap[0][0] <= until:
            found.append(heapq.heappop(self._heap)[1])
        return found
