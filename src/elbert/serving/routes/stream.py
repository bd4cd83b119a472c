"""`POST /predict/stream`: a text a line in, an answer a line out, in order and with bounded memory."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from elbert.errors import UsageError
from elbert.serving.answers import predicted
from elbert.serving.bodies import PredictRequest, texts_of, validation_line
from elbert.serving.connection import is_gone
from elbert.serving.guards import key_of
from elbert.serving.reading import BodyRoute, read_json
from elbert.serving.refusals import Refusal, invalid, refused, too_large
from elbert.serving.rows import Asked
from elbert.serving.served_cascade import Served

PATH = "/predict/stream"

router = APIRouter(tags=["classify"], route_class=BodyRoute)


@router.post(
    PATH, responses={200: {"description": "A line of each line sent.", "content": {"application/x-ndjson": {}}}}
)
async def stream(request: Request) -> Response:
    """Classify any number of texts: each line a string, or the body of /predict with one text.

    Answers come as lines in the same order, while lines are still sent: read them meanwhile. A line that is wrong is
    answered with `{"error", "error_type"}` in its place.
    """
    return _Lines(request)


class _Lines(Response):
    """Sends answers while the body still comes; starlette's own streams would read the body away beneath it."""

    media_type = "application/x-ndjson"

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del scope, receive  # the request reads
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        seconds = self._request.app.state.settings.body_timeout
        async for found in _answers(self._request):
            async with asyncio.timeout(seconds):  # a client that sends and never reads holds no memory for ever
                await send({"type": "http.response.body", "body": _line(found), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _line(found: Any) -> bytes:
    return json.dumps(found, allow_nan=False).encode() + b"\n"


class _Pending:
    """A line on its way."""

    def __init__(self, body: PredictRequest, served: Served, asked: Asked) -> None:
        self._how = body.squash, body.parameters.top_k  # the text is not kept
        self.served, self.asked = served, asked

    async def found(self) -> Any:
        await self.asked.ticket.done
        return predicted(self.served, self.asked, *self._how)[0]


async def _answers(request: Request) -> AsyncIterator[Any]:
    """Yield the answers of a request's lines, with no more of them under way than a batch may have."""
    window: deque[_Pending | Refusal] = deque()
    most = request.app.state.settings.max_client_batch_size
    lines, more = _lines(request), True
    coming: asyncio.Task[bytes | Refusal | None] | None = None
    try:
        while more or window:
            if not more or len(window) >= most or _ready(window):
                yield await _found(window)
                continue
            coming = coming or asyncio.create_task(_next(lines))
            # Whoever sends a line only when the one before was answered must not be waited for.
            awaited: set[asyncio.Future[Any]] = {coming}
            if window and isinstance(window[0], _Pending):
                awaited.add(window[0].asked.ticket.done)
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                continue
            line, coming = coming.result(), None
            if is_gone(request):
                return
            if line is None:
                more = False
            else:
                window.append(line if isinstance(line, Refusal) else await _asked(request, line))
    except ClientDisconnect:
        return
    finally:
        if coming is not None:
            coming.cancel()
        for each in window:
            if isinstance(each, _Pending):
                each.served.cancel(each.asked)


async def _next(lines: AsyncIterator[bytes | Refusal]) -> bytes | Refusal | None:
    return await anext(lines, None)


def _ready(window: deque[_Pending | Refusal]) -> bool:
    return bool(window) and (isinstance(window[0], Refusal) or window[0].asked.ticket.done.done())


async def _found(window: deque[_Pending | Refusal]) -> Any:
    first = window[0]
    found = refused(first) if isinstance(first, Refusal) else await first.found()
    window.popleft()
    return found


async def _asked(request: Request, line: bytes) -> _Pending | Refusal:
    """Send one line on its way, or say why not."""
    try:
        given = read_json(line)
        if not isinstance(given, (str, dict)):
            return invalid("the line is neither a string nor an object; allowed: a text, or a body of /predict")
        body = PredictRequest.model_validate({"inputs": given} if isinstance(given, str) else given)
        if isinstance(body.inputs, list):
            return invalid("inputs is a list; allowed: one text a line")
        served = request.app.state.models.find(body.model)
        wishes = body.parameters.wishes(truncate=body.truncate)
        return _Pending(body, served, await served.ask(texts_of(body.inputs), wishes, key_of(request)))
    except ValidationError as error:
        return invalid(validation_line(error.errors()[0]))
    except json.JSONDecodeError:
        return invalid("the line is no JSON")
    except UsageError as error:
        return invalid(str(error))
    except Refusal as refusal:
        return refusal


async def _lines(request: Request) -> AsyncIterator[bytes | Refusal]:
    """Yield the lines of a body that are not blank; one that is too long, or is long in coming, ends it."""
    settings, room = request.app.state.settings, request.app.state.room
    chunks, rest = request.stream().__aiter__(), b""
    with room.held() as held:
        while True:
            lines: list[bytes] = []
            try:
                async with asyncio.timeout(settings.body_timeout) as held.waiting:
                    while not any(line.strip() for line in lines):  # blank ones are no reason to wait longer
                        *lines, rest = (rest + await anext(chunks)).split(b"\n")
                        if len(rest) > settings.payload_limit:
                            break
                        room.resize(held, len(rest))
            except StopAsyncIteration:
                break
            except TimeoutError:
                late = f"no line came in {settings.body_timeout:g} seconds; the stream ends here"
                yield room.refusal() if held.dropped else Refusal(408, "Timeout", late)
                return
            except Refusal as refusal:
                yield refusal
                return
            finally:
                held.waiting = None
            for line in lines:
                if line.strip():
                    yield line
            if len(rest) > settings.payload_limit:
                yield too_large(f"a line has more than {settings.payload_limit} bytes; the stream ends here")
                return
        if rest.strip():
            yield rest
