"""Long texts are tokenised beside the event loop: nobody is lost there, held up by it, or waited for in vain."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from elbert.classifier import Classifier
from tests.serving.conftest import Start

LONG = {"inputs": "good " * 1000}


class Slow:
    """Loads a model whose tokenizer waits at long texts until it is told to go on.

    Attributes:
        begun: it waits.
        go: it need not wait any more.
        read: long texts it has read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.begun, self.go = threading.Event(), threading.Event()
        self.read = 0

    def __call__(self) -> Classifier:
        classifier = Classifier.from_pretrained(self._folder)
        arrivals = classifier.arrivals

        def slow(texts: Any, truncated: Any) -> Any:
            if len(texts[0]) > 4096:
                self.read += 1
                self.begun.set()
                assert self.go.wait(30)
            return arrivals(texts, truncated)

        classifier.arrivals = slow  # type: ignore[method-assign]
        return classifier


@pytest.fixture
def slow(model_folder: Path) -> Slow:
    """A slow model."""
    return Slow(model_folder)


def test_a_reload_waits_for_a_text_that_is_being_tokenised_and_holds_nobody_up(start: Start, slow: Slow) -> None:
    with start({"tiny": slow}) as running, ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(running.client.post, "/predict", json=LONG)
        assert slow.begun.wait(30)
        models = running.server.config.app.state.models
        reloading = asyncio.run_coroutine_threadsafe(models.reload(), running.loop)
        loaded = 'elbert_reloads_total{model="tiny",outcome="done"}'
        running.until(lambda: loaded in running.client.get("/metrics").text)
        assert running.client.post("/predict", json={"inputs": "good"}).status_code == 200
        slow.go.set()
        assert under_way.result().status_code == 200
        reloading.result(30)


def test_a_text_whose_client_goes_while_it_waits_is_never_tokenised(start: Start, slow: Slow) -> None:
    with start({"tiny": slow}) as running, ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.client.post, "/predict", json=LONG)
        assert slow.begun.wait(30)
        body = b'{"inputs": "%s"}' % (b"bad " * 2000)
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        with socket.create_connection(("127.0.0.1", running.port)) as impatient:
            impatient.sendall(head % len(body) + body)
            running.until(lambda: waiting(running) > len(LONG["inputs"]))
        running.until(lambda: waiting(running) == len(LONG["inputs"]))
        slow.go.set()
        assert first.result().status_code == 200
        assert running.client.post("/predict", json=LONG).status_code == 200
        assert slow.read == 2


def test_a_text_that_would_be_late_is_refused_while_others_are_tokenised(start: Start, slow: Slow) -> None:
    with start({"tiny": slow}) as running, ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.client.post, "/predict", json=LONG)
        assert slow.begun.wait(30)
        said = running.client.post("/predict", json={**LONG, "parameters": {"max_latency_ms": 20}})
        assert (said.status_code, said.headers["retry-after"]) == (429, "1")
        assert "max_latency_ms" in said.json()["error"]
        slow.go.set()
        assert first.result().status_code == 200
        assert slow.read == 1


def test_no_more_characters_wait_than_some_bodies_have(start: Start, slow: Slow) -> None:
    with start({"tiny": slow}, payload_limit=6000) as running, ThreadPoolExecutor(4) as pool:
        crowd = [pool.submit(running.client.post, "/predict", json=LONG) for _ in range(4)]
        running.until(lambda: waiting(running) == 20_000)
        said = running.client.post("/predict", json=LONG)
        assert (said.status_code, said.headers["retry-after"]) == (429, "1")
        assert "20000 characters wait" in said.json()["error"]
        slow.go.set()
        assert [each.result().status_code for each in crowd] == [200] * 4


def waiting(running: Any) -> int:
    """Return the characters that wait to be tokenised or are."""
    return int(next(iter(running.server.config.app.state.models))._tokeniser._waiting)
