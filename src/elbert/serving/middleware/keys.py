"""Bearer keys: who may ask at all."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from elbert.serving.answers import refused_response
from elbert.serving.refusals import Refusal

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
