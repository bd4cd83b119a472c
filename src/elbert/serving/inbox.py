"""Messages from any thread to the one that owns a scheduler."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

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
