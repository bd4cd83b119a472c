"""What every request passes before its route: keys, places, bodies, headers; plain ASGI, so that bodies can stream."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from elbert.serving.answers import refused_response
from elbert.serving.metrics import Metrics
from elbert.serving.refusals import Refusal, overloaded, too_large
from elbert.serving.room import Held, Room

# No answer is ever part of another site's page, runs what it did not bring, or is kept by what stands between.
SECURITY = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Headers:
    """Adds the headers, and counts the request by its route and status.

    Args:
        app: what comes next.
        metrics: of the server.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # the answer to GET, whose body uvicorn leaves out
            scope = {**scope, "method": "GET"}
        begun, status = time.perf_counter(), 499

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(SECURITY)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "none")  # what was asked for may be anything: no label
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - begun)


class Concurrency:
    """Refuses the request that is one too many, at once, instead of letting it wait.

    A stream may last as long as its client likes, so streams have no more than half of the places.

    Args:
        app: what comes next.
        most: requests that may ask for answers at the same time.
        streamed: paths of streams.
    """

    def __init__(self, app: ASGIApp, most: int, streamed: frozenset[str] = frozenset()) -> None:
        self._app, self._most, self._now = app, most, 0
        self._streamed, self._streams = streamed, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; those that only read (a probe, the metrics) are never refused."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        streams = scope["path"] in self._streamed
        now, most = (self._streams, (self._most + 1) // 2) if streams else (self._now, self._most)
        if now >= most or self._now >= self._most:
            what = "streams" if streams else "requests"
            refusal = overloaded(f"{now} {what} are being answered; allowed: {most} at once", 1)
            await refused_response(scope["path"], refusal)(scope, receive, send)
            return
        self._now += 1
        self._streams += streams
        try:
            await self._app(scope, receive, send)
        finally:
            self._now -= 1
            self._streams -= streams


class Bodies:
    """Reads a body whole before anything else is done for its request, so that a slow client holds no place.

    Args:
        app: what comes next.
        limit: bytes.
        timeout: seconds it may take to come.
        room: of all bodies together, until their requests are answered.
        streamed: paths whose bodies are left to their routes.
    """

    def __init__(
        self, app: ASGIApp, limit: int, timeout: float, room: Room, streamed: frozenset[str] = frozenset()
    ) -> None:
        self._app, self._limit, self._timeout, self._room, self._streamed = app, limit, timeout, room, streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in self._streamed or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        with self._room.held() as held:
            try:
                body = await self._read(scope, receive, held)
            except Refusal as refusal:
                await refused_response(scope["path"], refusal)(scope, receive, send)
                return
            if body is None:
                return
            told = False

            async def replay() -> Message:
                nonlocal told
                if told:
                    return await receive()
                told = True
                return {"type": "http.request", "body": body, "more_body": False}

            await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive, held: Held) -> bytes | None:
        """Return the body; None where the client has gone."""
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared) > self._limit:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._timeout) as held.waiting:
                parts, size = [], 0
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._limit:
                        raise self._too_large()
                    self._room.resize(held, size)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            if held.dropped:
                raise self._room.refusal() from None
            line = f"the body took more than {self._timeout:g} seconds to come; send it faster, or less of it"
            raise Refusal(408, "Timeout", line) from None
        finally:
            held.waiting = None

    def _too_large(self) -> Refusal:
        return too_large(f"the body has more than {self._limit} bytes; allowed: at most that many: send fewer texts")


# Where a request's scope holds the number of its key.
_NUMBER = "elbert.key"


class Keys:
    """Lets a request through where it brings one of the keys, compared in constant time.

    Args:
        app: what comes next.
        keys: none for an open server.
        everybodys: paths that need none: a probe has no key, and a browser that opens a page sends none.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], everybodys: frozenset[str]) -> None:
        self._app, self._everybodys = app, everybodys
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        number = self._number(scope) if scope["type"] == "http" and self._digests else None
        if scope["type"] != "http" or not self._digests or scope["path"] in self._everybodys or number is not None:
            scope[_NUMBER] = number or 0
            await self._app(scope, receive, send)
            return
        line = "the request brings no key of this server; send the header Authorization: Bearer KEY"
        response = refused_response(scope["path"], Refusal(401, "Unauthorized", line))
        response.headers["www-authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _number(self, scope: Scope) -> int | None:
        """Return which of the keys a request brings; None for none."""
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = given.partition(b" ")
        digest = _digest(key.strip())
        found = [hmac.compare_digest(digest, each) for each in self._digests]  # all, whichever it is
        return found.index(True) if scheme.lower() == b"bearer" and any(found) else None


def key_of(request: HTTPConnection) -> int:
    """Return the number of the key that a request came with; 0 at an open server."""
    return int(request.scope[_NUMBER])


def _digest(key: bytes) -> bytes:
    """Return as many bytes for every key, so that its length cannot be told by the time a comparison takes."""
    return hashlib.sha256(key).digest()
