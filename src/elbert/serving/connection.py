"""A connection's HTTP: uvicorn's, with a bound on the head of a request in bytes and in time, which it has not."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Bytes of request line and headers; more are refused before they fill the memory. A first read is not counted: it may
# hold the body before it too.
_MOST_HEAD = 65_536

# Seconds a connection may be open until a head is whole, so that slow or silent clients hold no socket for ever.
_HEAD_TIMEOUT = 30.0

# Where a request's state says that its connection was lost, and when all of it was there.
_GONE, _RECEIVED = "elbert.gone", "elbert.received"


def is_gone(request: Request) -> bool:
    """Tell whether a request's client has gone, without reading on in its body."""
    return bool(request.scope.get("state", {}).get(_GONE))


def received_at(request: Request) -> float | None:
    """Return when a request was there whole, by the monotonic clock; None where another server received it."""
    seconds: float | None = request.scope.get("state", {}).get(_RECEIVED)
    return seconds


class Connection(HttpToolsProtocol):
    """One connection; see uvicorn for what it is made of."""

    _timer: asyncio.TimerHandle | None = None
    _in_head = True
    _first_read = True
    _fed = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_HEAD_TIMEOUT, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock, and tell whoever works on a request that nobody waits."""
        self._head_is_whole()
        if self.scope is not None:
            self.scope["state"][_GONE] = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head is too long."""
        super().data_received(data)
        if not self._in_head:
            return
        self._fed += 0 if self._first_read else len(data)
        self._first_read = False
        if self._fed > _MOST_HEAD and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        if self._timer is None:
            self._timer = self.loop.call_later(_HEAD_TIMEOUT, self._too_slow)
        self._in_head, self._first_read, self._fed = True, True, 0

    def on_headers_complete(self) -> None:
        """Let the request be answered."""
        self._head_is_whole()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note when the request was there whole; it may wait for others of its connection from now on."""
        self.scope["state"][_RECEIVED] = time.monotonic()
        super().on_message_complete()

    def _head_is_whole(self) -> None:
        self._in_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        self._head_is_whole()
        self.transport.write(b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.close()
