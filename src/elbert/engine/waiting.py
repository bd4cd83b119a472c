"""Texts that wait to be embedded: by priority, first come first served within one, and nobody for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from elbert.engine.requests import Arrival

# Texts of other priorities taken, as a multiple of the rows in flight, after which one of this priority is taken.
_OVERTAKEN = 64


class Waiting:
    """A queue per priority. Of every 64 x `batch_size` places at least one goes to each priority that waits.

    Args:
        batch_size: rows in flight.
    """

    def __init__(self, batch_size: int) -> None:
        self._most = _OVERTAKEN * batch_size
        self._hurried: deque[Arrival] = deque()
        self._queues: dict[int, deque[Arrival]] = {}
        self._overtaken: dict[int, int] = {}  # texts of other priorities taken since one of this was

    def __len__(self) -> int:
        return len(self._hurried) + sum(map(len, self._queues.values()))

    def add(self, arrival: Arrival) -> None:
        """Put a text behind those of its priority."""
        self._queues.setdefault(arrival.priority, deque()).append(arrival)

    def take(self, rows: int, tokens: int) -> list[Arrival]:
        """Take the next texts: at most `rows` of at most `tokens` tokens together, but one however long it is."""
        taken: list[Arrival] = []
        while len(taken) < rows and (queue := self._next()) is not None:
            tokens -= len(queue[0].ids)
            if tokens < 0 and taken:
                break
            arrival = queue.popleft()
            taken.append(arrival)
            if len(self._queues) > 1 or not queue:
                self._count(arrival.priority)
        return taken

    def restore(self, taken: Sequence[Arrival]) -> None:
        """Put texts that were taken last back where they were."""
        for arrival in reversed(taken):
            self._queues.setdefault(arrival.priority, deque()).appendleft(arrival)

    def remove(self, index: int) -> bool:
        """Forget the text of this index; False where it does not wait."""
        for queue in self._all():
            for place, arrival in enumerate(queue):
                if arrival.index == index:
                    del queue[place]
                    self._count(arrival.priority)
                    return True
        return False

    def hurry(self, index: int) -> None:
        """Let the text of this index, if it waits, go before all others."""
        for queue in self._queues.values():
            for place, arrival in enumerate(queue):
                if arrival.index == index:
                    del queue[place]
                    self._hurried.append(arrival)
                    return

    def _all(self) -> Iterator[deque[Arrival]]:
        yield self._hurried
        yield from self._queues.values()

    def _next(self) -> deque[Arrival] | None:
        """Return the queue to take from: the highest priority's, but for one that was overtaken too often."""
        if self._hurried:
            return self._hurried
        waiting = [priority for priority, queue in self._queues.items() if queue]
        if not waiting:
            return None
        late = [priority for priority in waiting if self._overtaken.get(priority, 0) >= self._most]
        return self._queues[min(late, default=max(waiting))]

    def _count(self, taken: int) -> None:
        """Note that a text of this priority was taken, and forget priorities nobody waits with."""
        self._queues = {priority: queue for priority, queue in self._queues.items() if queue}
        self._overtaken = {p: 0 if p == taken else self._overtaken.get(p, 0) + 1 for p in self._queues}
