"""Ray Serve: the server's app in replicas on any machine of a cluster, as many as the texts in flight ask for.

A replica is a server of its own: it has its own queue, limits and metrics. Ray's proxies spread requests over them,
starts another in the place of one that died, and lets one that is taken away answer what it has begun.
"""

from __future__ import annotations

import asyncio
import math
import signal
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from elbert.errors import UsageError
from elbert.lazy import from_extra
from elbert.scaleout.ray_actors import connect

if TYPE_CHECKING:
    from fastapi import FastAPI

    from elbert.cascade import Cascade
    from elbert.classifier import Classifier
    from elbert.serving.settings import ServeSettings

NAME = "elbert"

# Seconds between two looks of Ray at a replica: so long a dead one may be asked.
_HEALTH = 2.0

_ROWS = "rows_in_flight"

# Seconds between two looks at whether a new replica is warm.
_LOOK = 0.05


class RowsInFlight:
    """How many replicas there should be: so many that the texts under way fill the places of each just once.

    Ray counts requests, but a request may hold one text or many; it smooths what this says, and keeps it within bounds.

    Args:
        places: texts that a replica steps together.
    """

    def __init__(self, places: int) -> None:
        self._places = places

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Return the number of replicas, and nothing to remember; `context` is Ray's AutoscalingContext."""
        rows = sum((context.aggregated_metrics or {}).get(_ROWS, {}).values()) + (context.total_queued_requests or 0)
        return max(math.ceil(rows / self._places), 1), {}


class Replica:
    """One server of the deployment.

    Attributes:
        app: what Ray built in this process.
    """

    app: FastAPI

    async def check_health(self) -> None:
        """Wait until the models are warm: nobody is sent here before.

        Raises:
            RuntimeError: a model's worker is dead, so that Ray starts another replica in this one's place.
        """
        models = self.app.state.models
        while not all(served.warm for served in models):
            await asyncio.sleep(_LOOK)
        if not models.healthy:
            raise RuntimeError("a model's worker has ended; its log says why")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what `RowsInFlight` reads."""
        return {_ROWS: float(sum(served.rows for served in self.app.state.models))}


def application(
    loaders: Mapping[str, Callable[[], Classifier | Cascade]], settings: ServeSettings, *, replicas: int, cores: int = 1
) -> Any:
    """Return the Ray Serve application, for `serve.run`.

    Args:
        loaders: by name, what loads each model, on whatever machine; picklable.
        settings: of every replica.
        replicas: at most.
        cores: of each replica, which are also its threads.

    Raises:
        MissingExtraError: Ray Serve is not installed.
        UsageError: policies were to keep what they learn, which several processes cannot do in one folder.
    """
    serve = _ray_serve()
    if settings.policy_state is not None:
        raise UsageError("--policy-state keeps what one process learns; leave it out where there may be replicas")

    def build() -> FastAPI:
        import torch

        from elbert.serving.app import make_app
        from elbert.serving.metrics import Metrics
        from elbert.serving.models import Models

        torch.set_num_threads(cores)
        metrics = Metrics()
        return make_app(Models(loaders, settings, metrics), settings, metrics)

    scaling = {
        "min_replicas": 1,
        "max_replicas": replicas,
        "policy": {"policy_function": RowsInFlight, "policy_kwargs": {"places": settings.max_batch_requests}},
    }
    deployment = serve.deployment(
        name=NAME,
        ray_actor_options={"num_cpus": cores},
        max_ongoing_requests=settings.max_concurrent_requests,
        max_queued_requests=settings.max_concurrent_requests,
        autoscaling_config=scaling,
        graceful_shutdown_timeout_s=settings.drain_timeout,
        health_check_period_s=_HEALTH,
    )
    return deployment(serve.ingress(build)(Replica)).bind()


def serve_on_ray(
    loaders: Mapping[str, Callable[[], Classifier | Cascade]],
    settings: ServeSettings,
    *,
    address: str | None,
    replicas: int,
) -> None:
    """Deploy the app on a cluster, and take it down again at SIGTERM or Ctrl-C; requests under way are answered first.

    Args:
        loaders: as `application` takes them.
        settings: likewise; its address is that of Ray's proxies.
        address: of the cluster, as `connect` takes it.
        replicas: at most.

    Raises:
        MissingExtraError: Ray Serve is not installed.
        UsageError: there is no cluster at the address, or as `application`.
    """
    app = application(loaders, settings, replicas=replicas)
    connect(address)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())  # connecting has left Ray's own, which abort
    serve = _ray_serve()
    serve.start(http_options={"host": settings.hostname, "port": settings.port})
    serve.run(app, name=NAME, route_prefix="/")
    stopped.wait()
    serve.delete(NAME)


def _ray_serve() -> Any:
    return from_extra("ray", "ray.serve")
