"""How a server says no: a status, one line, and a word for programs."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):  # noqa: N818 - it is an answer, seldom a fault
    """A request that is answered with an error status.

    Args:
        status: of HTTP.
        kind: for programs, in text-embeddings-inference's words where it has one: Validation, Overloaded, …
        line: what was given, what is allowed, how to mend it.
        retry_after: seconds after which to come again; None where that would not help.
    """

    def __init__(self, status: int, kind: str, line: str, *, retry_after: int | None = None) -> None:
        super().__init__(line)
        self.status, self.kind, self.line, self.retry_after = status, kind, line, retry_after


def refused(refusal: Refusal) -> dict[str, Any]:
    """Return an error as text-embeddings-inference writes it."""
    return {"error": refusal.line, "error_type": refusal.kind}


def invalid(line: str) -> Refusal:
    """Return the refusal of a request that is wrong in itself."""
    return Refusal(422, "Validation", line)


def too_large(line: str) -> Refusal:
    """Return the refusal of a request that holds more than is allowed."""
    return Refusal(413, "Validation", line)


def overloaded(line: str, retry_after: int) -> Refusal:
    """Return the refusal of a request that comes while there is no room for it."""
    return Refusal(429, "Overloaded", line, retry_after=retry_after)


def unavailable(line: str) -> Refusal:
    """Return the refusal of a request that the server lost, or cannot take now."""
    return Refusal(503, "Unhealthy", line, retry_after=1)


def cancelled() -> Refusal:
    """Return what becomes of a text whose client has gone."""
    return Refusal(499, "Cancelled", "the client went away before the answer was there")
