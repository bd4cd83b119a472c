"""What waits for a worker: messages from any thread, rows in line, and when they have to be answered."""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from elbert.serving.rows import Row

_Message = TypeVar("_Message")


class Inbox(Generic[_Message]):
    """A queue that is emptied as a whole, and an event that wakes whoever waits for it.

    Attributes:
        closed: nothing is taken in any more.
    """

    def __init__(self) -> None:
        self._messages: list[_Message] = []
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self.closed = False

    def put(self, *messages: _Message) -> bool:
        """Leave messages and wake the owner; False where it has closed its inbox, and will never read them."""
        with self._lock:
            if self.closed:
                return False
            self._messages.extend(messages)
            self._filled.set()
            return True

    def close(self) -> list[_Message]:
        """Take nothing in any more, and return what was not read yet."""
        with self._lock:
            self.closed = True
            left, self._messages = self._messages, []
            return left

    def take(self, *, wait: bool) -> list[_Message]:
        """Return all messages in the order they came; with `wait` there is at least one."""
        if not self._messages and not wait:
            return []  # nobody asks twice for what comes a moment later
        self._filled.wait()
        with self._lock:
            taken, self._messages = self._messages, []
            self._filled.clear()
        return taken


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
