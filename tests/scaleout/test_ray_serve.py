"""The server's app on Ray Serve, on a cluster of this machine."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elbert.classifier import Classifier
from elbert.errors import UsageError

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'elbert[ray]'")
serve = pytest.importorskip("ray.serve", reason="Ray Serve is not installed: pip install 'elbert[ray]'")
pytest.importorskip("fastapi", reason="the server is not installed: pip install 'elbert[serve]'")

from elbert.scaleout.ray_serve import NAME, RowsInFlight, application  # noqa: E402
from elbert.serving.settings import ServeSettings  # noqa: E402

TEXTS = ["a good film", "a bad film", "so so"]

# Seconds until Ray has noticed that a replica is dead, and another one is warm.
PATIENCE = 120.0


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where the deployed app is asked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    loaders = {"tiny": partial(Classifier.from_pretrained, str(folder))}
    serve.run(application(loaders, ServeSettings(max_client_batch_size=8), replicas=1), name=NAME)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def ask(address: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{address}/predict", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as said:
            return said.status, json.load(said)
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def wanted(folder: Path) -> list[Any]:
    return [(each.label, each.exit_layer) for each in Classifier.from_pretrained(folder).predict(TEXTS)]


def found(answer: Any) -> list[Any]:
    return [(each[0]["label"], each[0]["exit_layer"]) for each in answer]


@pytest.mark.parametrize(
    ("rows", "queued", "replicas"),
    [([], None, 1), ([3.0], 0, 1), ([4.0, 4.0], 0, 2), ([4.0, 5.0], 0, 3), ([4.0], 9, 4)],
)
def test_there_are_as_many_replicas_as_the_texts_in_flight_fill(
    rows: list[float], queued: int | None, replicas: int
) -> None:
    metrics = {"rows_in_flight": dict(enumerate(rows))} if rows else {}
    context = SimpleNamespace(aggregated_metrics=metrics, total_queued_requests=queued)
    assert RowsInFlight(places=4)(context) == (replicas, {})


def test_what_several_replicas_cannot_keep_in_one_folder_is_refused() -> None:
    with pytest.raises(UsageError, match="--policy-state keeps what one process learns"):
        application({}, ServeSettings(policy_state="anywhere"), replicas=2)


def test_a_replica_answers_as_the_library_does_and_refuses_as_the_server_does(address: str, folder: Path) -> None:
    status, answer = ask(address, {"inputs": TEXTS, "parameters": {"max_latency_ms": 60_000}})
    assert status == 200
    assert found(answer) == wanted(folder)
    assert ask(address, {"inputs": ["a"] * 9})[0] == 413
    assert ask(address, {"inputs": 3})[0] == 422


def test_a_replica_that_dies_is_replaced(address: str, folder: Path) -> None:
    [name] = [
        each["name"]
        for each in ray.util.list_named_actors(all_namespaces=True)
        if each["name"].startswith("SERVE_REPLICA")
    ]
    ray.kill(ray.get_actor(name, namespace="serve"))
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        status, answer = ask(address, {"inputs": TEXTS})
        if status == 200:
            break
    assert status == 200
    assert found(answer) == wanted(folder)
