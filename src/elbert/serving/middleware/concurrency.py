"""How many requests are worked on at once."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from elbert.serving.answers import refused_response
from elbert.serving.refusals import overloaded


class Concurrency:
    """Refuses the request that is one too many, at once, instead of letting it wait.

    Args:
        app: what comes next.
        most: requests that may ask for answers at the same time.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most, self._now = app, most, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; those that only read (a probe, the metrics) are never refused."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self._now >= self._most:
            refusal = overloaded(f"{self._now} requests are being answered; allowed: {self._most} at once", 1)
            await refused_response(scope["path"], refusal)(scope, receive, send)
            return
        self._now += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._now -= 1
