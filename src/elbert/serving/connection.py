"""A connection's HTTP: uvicorn's, with bounds in bytes and in time on all that no route reads, which it has not.

That is the head of a request, its trailers, a body that was answered before it was whole, and what comes in between.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from elbert.serving.refusals import Refusal, refused

# Bytes of request line and headers, or of trailers; more are refused before they fill the memory. The read where they
# begin is not counted: it may hold a body before them too.
_MOST_HEAD = 65_536

# Seconds until a head is whole, and from an answer until the rest of its request and a new head have come, so that slow
# or silent clients hold no socket for ever.
_HEAD_TIMEOUT = 30.0

# Of single connections only what is a fault of the server is logged: whoever likes can send what is no HTTP.
LOGGER = "uvicorn.error.connection"

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
    _running: RequestResponseCycle | None = None  # uvicorn's `cycle` is the newest one's, which may wait behind it
    _refusal: Refusal | None = None
    _in_head = True
    _first_read = True
    _fed = 0

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.logger = logging.getLogger(LOGGER)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock, and tell whoever works on a request that nobody waits."""
        self._stop_clock()
        if self._running is not None:
            self._running.scope["state"][_GONE] = True
            self._running.disconnected = not self._running.response_complete
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless there is too much that is no body, or nothing more is to be answered."""
        if self._refusal is not None:
            return
        super().data_received(data)
        self._fed = 0 if self._first_read else self._fed + len(data)
        self._first_read = False
        if self._fed > _MOST_HEAD and not self.transport.is_closing():
            self._refuse(Refusal(431, "Validation", f"a head has more than {_MOST_HEAD} bytes; send fewer headers"))

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        del msg  # uvicorn's, which is plain text
        self._refuse(Refusal(400, "Validation", "this is no HTTP request; send HTTP/1.1, and its body as announced"))

    def on_message_begin(self) -> None:
        """Begin a head; behind others it has its time from their answers on, for until then it may lie unread."""
        super().on_message_begin()
        if not self._answering:
            self._start_clock()
        self._in_head, self._first_read = True, True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer is none, for it comes after the request was let in, and nobody reads it."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the request be answered, unless its address is none: then its head is still what is refused."""
        super().on_headers_complete()
        if not self._answering:
            self._running = self.cycle
        self._stop_clock()
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on to who reads it, and bounds it."""
        self._first_read = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note when the request was there whole; it may wait for others of its connection from now on."""
        self._first_read = True
        self.scope["state"][_RECEIVED] = time.monotonic()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the rest of what was answered, and for the next head.

        uvicorn's own clock of an idle connection ends with the first byte, whatever that is.
        """
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()
        if self._answering or self.transport.is_closing():
            return
        if self._refusal is not None:
            self._end()
        elif self._timer is None:
            self._start_clock()

    @property
    def _answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _start_clock(self) -> None:
        self._stop_clock()
        self._timer = self.loop.call_later(_HEAD_TIMEOUT, self._give_up)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._refuse(Refusal(408, "Timeout", f"no head was whole within {_HEAD_TIMEOUT:g} s; send it at once"))

    def _refuse(self, refusal: Refusal) -> None:
        """Read no further, and refuse what cannot be read once all that came before it has its answer."""
        self._stop_clock()
        self._refusal = refusal
        if not self._in_head and not self.pipeline:  # the body of the request that is being answered, or was
            if self._running is not None and self._running.response_started:
                self.transport.close()
            else:
                self._end()
            return
        if not self._in_head:  # the body of one that waits
            self.pipeline.popleft()
        if not self._answering:
            self._end()

    def _end(self) -> None:
        """Say why nothing more is read, and close the connection."""
        assert self._refusal is not None
        body = json.dumps(refused(self._refusal))
        first = f"HTTP/1.1 {self._refusal.status} {HTTPStatus(self._refusal.status).phrase}\r\n"
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write((first + head + body).encode())
        self.transport.close()
