"""Who is in the middle of something, for whoever has to wait until nobody is."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Present:
    """Counts those who are inside; `with present:` is one of them. Lives in the event loop alone."""

    def __init__(self) -> None:
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def __enter__(self) -> None:
        self._inside += 1
        self._empty.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside -= 1
        if not self._inside:
            self._empty.set()

    async def gone(self) -> None:
        """Wait until nobody is inside."""
        await self._empty.wait()
