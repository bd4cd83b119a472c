"""Runs the app under uvicorn until it is told to stop: drains on SIGTERM, loads the models anew on SIGHUP."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import uvicorn

from elbert.cascade import Cascade
from elbert.classifier import Classifier
from elbert.errors import ElbertError
from elbert.serving.app import make_app
from elbert.serving.connection import LOGGER, Connection
from elbert.serving.metrics import Metrics
from elbert.serving.models import Models
from elbert.serving.settings import ServeSettings

_log = logging.getLogger("elbert.serving")

# Seconds an idle connection is kept open for the next request.
_KEEP_ALIVE = 20

# Lines about the server go to stderr; no request is logged.
_LOG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "elbert.serving": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        LOGGER: {"level": "ERROR"},
    },
}


def make_server(
    loaders: Mapping[str, Callable[[], Classifier | Cascade]],
    settings: ServeSettings,
    *,
    on_warm: Callable[[], object] = lambda: None,
) -> uvicorn.Server:
    """Load the models and return a server that is ready to run.

    Args:
        loaders: by name, what loads each model.
        settings: limits, keys, the address.
        on_warm: called in the event loop once all models are warm, see `Models`.

    Raises:
        ElbertError: a model cannot be loaded.
    """
    metrics = Metrics()
    models = Models(loaders, settings, metrics, on_warm=on_warm)
    app = make_app(models, settings, metrics, on_start=lambda loop: _reload_on_hangup(loop, models))
    config = uvicorn.Config(
        app,
        host=settings.hostname,
        port=settings.port,
        log_config=_LOG,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=settings.drain_timeout,
        http=Connection,
        ws="none",
        proxy_headers=False,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for each in self.servers:
            host, port, *_ = each.sockets[0].getsockname()
            _log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)


def serve(loaders: Mapping[str, Callable[[], Classifier | Cascade]], settings: ServeSettings) -> None:
    """Serve models until SIGTERM or Ctrl-C, then answer what is under way and return.

    Raises:
        ElbertError: a model cannot be loaded, or the address cannot be listened on.
    """
    _ignore_hangup()
    server = make_server(loaders, settings, on_warm=_let_lie)
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal once more when all is done
        try:
            server.run()
        except SystemExit:
            raise ElbertError(
                f"{settings.hostname}:{settings.port} cannot be listened on, see above; give another --port or "
                "--hostname"
            ) from None


def _let_lie() -> None:
    """Look for the last time at what lives as long as the server: a full collection of it stops everybody for 0.1 s.

    A reload collects nothing: what is in no cycle goes by itself, and a model that was replaced is in none.
    """
    gc.collect()
    gc.freeze()


def _hears_hangup() -> bool:
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP")


def _ignore_hangup() -> None:
    """Let a reload be none while the models are being loaded anyway; unheard of, the signal would end the process."""
    if _hears_hangup():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _reload_on_hangup(loop: asyncio.AbstractEventLoop, models: Models) -> None:
    """Load the models anew whenever SIGHUP comes; only a process' main thread hears of signals."""
    if not _hears_hangup():
        return
    running: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.ensure_future(models.reload())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
