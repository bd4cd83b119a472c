"""Bodies: how large they may be, and how long they may take to come."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from elbert.serving.answers import refused_response
from elbert.serving.refusals import Refusal, too_large


class Bodies:
    """Reads a body whole before anything else is done for its request, so that a slow client holds no place.

    Args:
        app: what comes next.
        limit: bytes.
        timeout: seconds it may take to come.
        streamed: paths whose bodies are left to their routes.
    """

    def __init__(self, app: ASGIApp, limit: int, timeout: float, streamed: frozenset[str] = frozenset()) -> None:
        self._app, self._limit, self._timeout, self._streamed = app, limit, timeout, streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in self._streamed or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
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

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body; None where the client has gone."""
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared) > self._limit:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._timeout):
                parts, size = [], 0
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._limit:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            line = f"the body took more than {self._timeout:g} seconds to come; send it faster, or less of it"
            raise Refusal(408, "Timeout", line) from None

    def _too_large(self) -> Refusal:
        return too_large(f"the body has more than {self._limit} bytes; allowed: at most that many: send fewer texts")
