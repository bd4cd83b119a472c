"""How a route waits for the answer of its request, and stops computing where nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from elbert.data import Text
from elbert.errors import UsageError
from elbert.serving.choices import Wishes
from elbert.serving.connection import received_at
from elbert.serving.guards import key_of
from elbert.serving.refusals import Refusal, cancelled, invalid, too_large
from elbert.serving.rows import Asked
from elbert.serving.served_cascade import Served
from elbert.serving.tokeniser import is_long

_Found = TypeVar("_Found")


async def answered(request: Request, served: Served, texts: list[Text], wishes: Wishes) -> Asked:
    """Ask a model, and wait until every text has its outcome.

    Raises:
        Refusal: the request is refused as a whole; all its texts failed; or its client has gone.
    """
    most = request.app.state.settings.max_client_batch_size
    if len(texts) > most:
        raise too_large(f"{len(texts)} texts in one request; allowed: at most {most}: send them in several")
    if not texts:
        raise Refusal(422, "Empty", "there are no texts; give at least one")
    asking = served.ask(texts, wishes, key_of(request), received_at(request))
    try:
        asked = await (unless_gone(request, asking) if is_long(texts) else asking)
    except UsageError as error:
        raise invalid(str(error)) from None
    try:
        await while_there(request, asked.ticket.done)
    finally:
        if not asked.ticket.done.done():
            served.cancel(asked)
    if not asked.ticket.done.done():
        raise cancelled()
    failed = [outcome for outcome in asked.ticket.outcomes if isinstance(outcome, Refusal)]
    if len(failed) == len(texts):
        raise failed[0]
    return asked


async def unless_gone(request: Request, work: Coroutine[Any, Any, _Found]) -> _Found:
    """Return what comes of some work, which is given up where the client of its request goes meanwhile.

    Raises:
        Refusal: it has gone.
    """
    task = asyncio.create_task(work)
    try:
        await while_there(request, task)
        if not task.done():
            raise cancelled()
        return task.result()
    finally:
        task.cancel()  # it waits for others, and nobody waits for it
        del task  # it keeps what it raised, and that this frame


async def while_there(request: Request, answer: asyncio.Future[Any]) -> None:
    """Wait for an answer, but no longer than the client of its request does."""
    if answer.done():  # by layer 0
        return
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
