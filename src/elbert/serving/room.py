"""What the bodies that are here take of the memory, all together: when it is too much, the greatest one goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from elbert.serving.refusals import Refusal, overloaded

# Bodies of the greatest size that may be in memory at once, or as many bytes of smaller ones.
_BODIES = 64


class Held:
    """The bytes of one body that are here; see `Room.held`.

    Attributes:
        size: how many.
        waiting: the timeout of whoever waits for more of it; None where all of it is here.
        dropped: it had to make room for others.
    """

    def __init__(self) -> None:
        self.size = 0
        self.waiting: asyncio.Timeout | None = None
        self.dropped = False


def _comes(body: Held) -> bool:
    """Tell whether more of a body is waited for; one whose time is over, or that was told so, is as good as gone."""
    return body.waiting is not None and not body.dropped and not body.waiting.expired()


class Room:
    """Bounds the bytes of all bodies that are here. Lives in the event loop alone.

    A body that still comes makes room, the greatest first, so that many slow clients lock out nobody else.

    Args:
        limit: bytes that one body may have.
    """

    def __init__(self, limit: int) -> None:
        self._most = _BODIES * limit
        self._bodies: set[Held] = set()
        self._sum = 0

    @contextmanager
    def held(self) -> Iterator[Held]:
        """Hold a body until the block ends."""
        body = Held()
        self._bodies.add(body)
        try:
            yield body
        finally:
            self._bodies.discard(body)
            self._sum -= body.size

    def resize(self, body: Held, size: int) -> None:
        """Note how many bytes of a body are here now.

        Raises:
            Refusal: it is the one that has to make room.
        """
        self._sum += size - body.size
        body.size = size
        if self._sum <= self._most:
            return
        greatest = max(filter(_comes, self._bodies), key=lambda each: each.size, default=body)
        if greatest is body or greatest.waiting is None:
            raise self.refusal()
        self._sum -= greatest.size
        greatest.size, greatest.dropped = 0, True
        greatest.waiting.reschedule(0)  # whoever waits for more of it is told that its time is over

    def refusal(self) -> Refusal:
        """Return what the client of a body hears that had to make room."""
        return overloaded(f"the bodies that are here have more than {self._most} bytes; allowed: that many at once", 1)
