"""The HTTP app: routes, what stands before them, and how every error becomes one line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from elbert import __version__
from elbert.serving.answers import refused_response
from elbert.serving.bodies import validation_line
from elbert.serving.guards import Bodies, Concurrency, Headers, Keys
from elbert.serving.metrics import Metrics
from elbert.serving.models import Models
from elbert.serving.refusals import Refusal, invalid
from elbert.serving.room import Room
from elbert.serving.routes import classify, docs, page, predict, status, stream, trace
from elbert.serving.settings import ServeSettings

_log = logging.getLogger("elbert.serving")


def make_app(
    models: Models,
    settings: ServeSettings,
    metrics: Metrics,
    *,
    on_start: Callable[[asyncio.AbstractEventLoop], object] | None = None,
) -> FastAPI:
    """Return the app, ready for uvicorn.

    Args:
        models: what is served; closed with the app.
        settings: limits and keys.
        metrics: what `/metrics` shows.
        on_start: called with the event loop once it runs, for signals.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        if on_start is not None:
            on_start(loop)
        models.delays.watch(loop)
        warming = asyncio.create_task(_warm_up(models))
        try:
            yield
        finally:
            warming.cancel()
            await models.close()

    app = FastAPI(
        title="elbert",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=docs.OPENAPI,
        redirect_slashes=False,  # its Location would be made of whatever the client calls this host
        lifespan=lifespan,
    )
    app.state.models, app.state.settings, app.state.metrics = models, settings, metrics
    app.state.room = Room(settings.payload_limit)
    for part in (predict, stream, classify, trace, status, docs, page):
        app.include_router(part.router)
    handlers: dict[Any, Any] = {
        Refusal: _refused,
        RequestValidationError: _invalid,
        StarletteHTTPException: _http_error,
        Exception: _bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    # The last one added is passed first.
    streamed, room = frozenset({stream.PATH}), app.state.room
    app.add_middleware(Concurrency, most=settings.max_concurrent_requests, streamed=streamed)
    app.add_middleware(
        Bodies, limit=settings.payload_limit, timeout=settings.body_timeout, room=room, streamed=streamed
    )
    app.add_middleware(
        Keys, keys=settings.api_keys, everybodys=frozenset({"/health", docs.PATH, docs.OPENAPI, *page.FILES})
    )
    app.add_middleware(Headers, metrics=metrics)
    return app


async def _warm_up(models: Models) -> None:
    """Warm the models; where that fails, health says so and the log why."""
    try:
        await models.warm_up()
    except Exception:  # noqa: BLE001 - a server that is up says so itself
        _log.exception("a model did not warm up; health stays at 503")


async def _refused(request: Request, refusal: Refusal) -> Response:
    return refused_response(request.url.path, refusal)


async def _http_error(request: Request, error: StarletteHTTPException) -> Response:
    if error.status_code == 404:
        refusal = Refusal(404, "NotFound", "there is nothing at this address; /docs lists what there is")
    elif error.status_code == 405:
        refusal = Refusal(405, "Method", f"{request.method} is not answered at this address; see /docs")
    elif isinstance(error.__cause__, Refusal):  # FastAPI's word for whatever a body's reader raises
        refusal = error.__cause__
    else:  # a body that could not be parsed at all
        refusal = invalid("the body is no JSON of this server's; see /docs")
    response = refused_response(request.url.path, refusal)
    response.headers.update(error.headers or {})  # of a 405 the methods that are answered
    return response


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    """Say in one line what is wrong with a body, without repeating what it held."""
    return refused_response(request.url.path, invalid(validation_line(error.errors()[0])))


async def _bug(request: Request, error: Exception) -> Response:
    _log.error("a request failed by a bug", exc_info=error)
    return refused_response(request.url.path, Refusal(500, "Bug", f"this is a bug in elbert, {type(error).__name__}"))
