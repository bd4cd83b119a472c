"""A server's life: warming up, ending without losing anybody, new models, and faults in the middle of it."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import torch

from elbert.cascade import Cascade
from elbert.classifier import Classifier
from elbert.errors import ModelError, UsageError
from elbert.serving.served import ServedModel
from elbert.serving.server import serve
from elbert.serving.settings import ServeSettings
from tests.serving.conftest import Running, Start

GOOD = {"inputs": "good"}


def test_health_is_503_until_the_model_has_answered_once(start: Start, model_folder: Path) -> None:
    def shut() -> Classifier:
        classifier = Classifier.from_pretrained(model_folder)
        inner, backend = classifier.engine.backend.embed, classifier.engine.backend

        def embed(*given: Any) -> Any:
            held.wait(30)
            return inner(*given)

        backend.embed = embed  # type: ignore[method-assign]
        return classifier

    held = threading.Event()
    with start({"tiny": shut}, wait=False) as running:
        early = running.client.get("/health")
        assert (early.status_code, early.json()) == (503, {"models": {"tiny": "warming up"}})
        held.set()
        running.until(lambda: running.client.get("/health").status_code == 200)


def test_whoever_is_under_way_is_answered_when_the_server_is_told_to_end(start: Start) -> None:
    with start() as running, ThreadPoolExecutor(1) as pool:
        gate = running.gates["tiny"]
        gate.shut()
        under_way = pool.submit(running.client.post, "/predict", json={"inputs": ["good"] * 5})
        assert gate.reached.wait(30)
        running.server.should_exit = True
        while True:  # until the door is closed
            try:
                socket.create_connection(("127.0.0.1", running.port)).close()
            except OSError:
                break
            if not running.server.servers or not running.server.servers[0].is_serving():
                break
        gate.open()
        assert len(under_way.result().json()) == 5


def test_a_request_whose_client_has_gone_runs_no_further_layer(start: Start) -> None:
    with start() as running:
        gate = running.gates["tiny"]
        gate.shut()
        steps = gate.steps
        body = b'{"inputs": "good", "parameters": {"policy": "exact"}}'
        about = f"host: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        head = f"POST /predict HTTP/1.1\r\n{about}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", running.port)) as impatient:
            impatient.sendall(head.encode() + body)
            assert gate.reached.wait(30)
        running.until(lambda: running.in_flight() == 0)
        gate.open()
        assert running.client.post("/predict", json=GOOD).status_code == 200
        assert gate.steps == steps + 1 + 2  # the layer that ran when it went, and the next request's own


def test_a_reload_answers_by_the_new_model_and_loses_nobody(start: Start, model_folder: Path) -> None:
    loaded: list[Classifier] = []

    def load() -> Classifier:
        loaded.append(Classifier.from_pretrained(model_folder, policy=None if not loaded else "exact"))
        return loaded[-1]

    with start({"tiny": load}) as running, ThreadPoolExecutor(2) as pool:
        gate = running.gates["tiny"]
        gate.shut()
        under_way = pool.submit(running.client.post, "/predict", json=GOOD)
        assert gate.reached.wait(30)
        _reload(running)
        running.until(lambda: 'outcome="done"' in running.client.get("/metrics").text)
        assert _layer(running.client) == 4
        gate.open()
        assert under_way.result().json()[0]["exit_layer"] == 2
        assert len(loaded) == 2


def _members(running: Running) -> list[ServedModel]:
    [served] = running.server.config.app.state.models
    return getattr(served, "members", [served])


def _answered(running: Running) -> None:
    assert running.client.post("/predict", json=GOOD).status_code == 200
    assert running.client.post("/trace", json=GOOD).status_code in (200, 422)  # of a cascade there is none


def _refused(running: Running) -> None:
    for route in ("/predict", "/trace"):
        assert running.client.post(route, json={**GOOD, "parameters": {"policy": "none such"}}).status_code == 422
    assert running.client.post("/predict", json={"inputs": "good " * 999, "truncate": False}).status_code == 413


def _failed(running: Running) -> None:
    for error, status in ((RuntimeError, 422), (SystemExit, 503)):
        for each in _members(running):
            each.classifier.engine.backend.step = partial(_fails, error)
        for inputs in ("good", ["good", "bad"]):
            assert running.client.post("/predict", json={"inputs": inputs}).status_code == status
        assert b"error" in running.client.post("/predict/stream", content=b'"good"\n').content


def _fails(error: type[BaseException], *_: Any) -> Any:
    raise error("the device is gone")


def _left(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as impatient:
        body = json.dumps({"inputs": ["good " * 90_000] * 8}).encode()
        about = f"host: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        impatient.sendall(f"POST /predict HTTP/1.1\r\n{about}\r\n\r\n".encode() + body)
        running.until(lambda: bool(running.server.server_state.tasks))
    running.until(lambda: not running.server.server_state.tasks)


def _streamed(running: Running) -> None:
    content = b'"good"\n{"inputs": "good", "parameters": {"policy": "none such"}}\n'
    assert b"error" in running.client.post("/predict/stream", content=content).content


@pytest.mark.parametrize("used", [None, _answered, _refused, _failed, _left, _streamed])
@pytest.mark.parametrize("models", [1, 2], ids=["model", "cascade"])
def test_a_model_that_was_replaced_is_gone_at_once(
    start: Start, model_folder: Path, models: int, used: Callable[[Running], None] | None
) -> None:
    def load() -> Any:
        quick, exact = (Classifier.from_pretrained(model_folder, dtype=dtype) for dtype in ("bfloat16", "float32"))
        return exact if models == 1 else Cascade([quick, exact])

    with start({"tiny": load}, gated=False) as running:
        gc.collect()
        gc.disable()
        try:
            if used is not None:
                used(running)
            engines = [each.classifier.engine for each in _members(running)]
            old = [weakref.ref(part) for each in engines for part in (each, each.backend, each.weights.embedding.word)]
            del engines
            _reload(running)
            running.until(lambda: all(each() is None for each in old))
        finally:
            gc.enable()


def test_a_model_that_does_not_come_in_by_a_reload_is_gone_at_once(start: Start, model_folder: Path) -> None:
    loaded: list[weakref.ref[Any]] = []

    def load() -> Classifier:
        classifier = Classifier.from_pretrained(model_folder)
        if loaded:
            classifier.engine.backend.step = partial(_fails, RuntimeError)  # type: ignore[method-assign]
        loaded.append(weakref.ref(classifier.engine))
        return classifier

    with start({"tiny": load}, gated=False) as running:
        gc.collect()
        gc.disable()
        try:
            _reload(running)
            running.until(lambda: len(loaded) == 2 and loaded[1]() is None)
            assert loaded[0]() is not None
        finally:
            gc.enable()


def test_a_model_that_fails_to_load_leaves_the_old_one_serving(start: Start, model_folder: Path) -> None:
    def load() -> Classifier:
        nonlocal times
        times += 1
        if times > 1:
            raise ModelError("the disk is full")
        return Classifier.from_pretrained(model_folder)

    times = 0
    with start({"tiny": load}) as running:
        _reload(running)
        running.until(lambda: times == 2 and 'outcome="failed"' in running.client.get("/metrics").text)
        assert _layer(running.client) == 2
        assert running.client.get("/health").status_code == 200


def test_several_models_answer_by_name_and_the_first_where_none_is_named(start: Start, model_folder: Path) -> None:
    loaders = {
        "quick": lambda: Classifier.from_pretrained(model_folder),
        "slow": lambda: Classifier.from_pretrained(model_folder, policy="exact"),
    }
    with start(loaders) as running:
        assert _layer(running.client) == _layer(running.client, "quick") == 2
        assert _layer(running.client, "slow") == 4
        assert [each["id"] for each in running.client.get("/v1/models").json()["data"]] == ["quick", "slow"]
        info = running.client.get("/info").json()
        assert [each["name"] for each in info["models"][0]["levels"]] == ["exact", "quick"]


@pytest.mark.parametrize("fault", ["raises", "is not finite"])
def test_a_text_that_fails_fails_alone_in_its_place(start: Start, offline: Classifier, fault: str) -> None:
    poison = next(offline.arrivals(["so so"], {})).ids[1]
    with start() as running:
        backend: Any = running.gates["tiny"].classifier.engine.backend
        inner = backend.embed

        def embed(ids: Any, types: Any, layout: Any) -> Any:
            if fault == "raises" and poison in ids.tolist():
                raise RuntimeError("a fault of the device")
            hidden = inner(ids, types, layout)
            return torch.where((ids == poison)[:, None], torch.nan, hidden)

        backend.embed = embed
        said = running.client.post("/predict", json={"inputs": ["good", "so so", "bad"]})
        assert said.status_code == 200
        good, failed, bad = said.json()
        line = {
            "raises": "the text failed in the embedding: RuntimeError",
            "is not finite": "the exit output of the text",
        }
        assert failed["error"].startswith(line[fault])
        assert [good[0]["label"], bad[0]["label"]] == [each.label for each in offline.predict(["good", "bad"])]
        alone = running.client.post("/predict", json={"inputs": "so so"})
        assert (alone.status_code, alone.json()) == (422, failed)
        data = running.client.post("/v1/classify", json={"input": ["good", "so so"]}).json()["data"]
        assert data[1]["error"] == failed["error"]
        assert running.client.get("/health").status_code == 200


# `python -m elbert`, which tells at its end how many objects no collection looks at.
_COUNTED = """
import atexit, gc, runpy, sys
atexit.register(lambda: print("let lie", gc.get_freeze_count(), file=sys.stderr))
runpy.run_module("elbert", run_name="__main__")
"""


@pytest.fixture(scope="module")
def process(model_folder: Path) -> Iterator[Any]:
    """`elbert serve` as a process of its own, and where it listens."""
    words = [sys.executable, "-c", _COUNTED, "serve", f"mood={model_folder}", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "MAX_CLIENT_BATCH_SIZE": "3"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if found := re.search(r"listening on (http://\S+)", line):
                yield running, found[1]
                break
        running.kill()


def test_the_command_serves_reloads_on_sighup_and_drains_on_sigterm(process: Any) -> None:
    running, url = process
    with httpx.Client(base_url=url, timeout=30) as client:
        while client.get("/health").status_code != 200:
            assert running.poll() is None
        assert client.post("/predict", json={**GOOD, "model": "mood"}).status_code == 200
        assert client.post("/predict", json={"inputs": ["a"] * 4}).status_code == 413  # the variable was read
        running.send_signal(signal.SIGHUP)
        while 'elbert_reloads_total{model="mood",outcome="done"}' not in client.get("/metrics").text:
            assert running.poll() is None
        assert client.post("/predict", json=GOOD).status_code == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
        # The load's objects, or else a full collection would stop all requests for a tenth of a second.
        assert int(running.stderr.read().rpartition("let lie ")[2]) > 100_000


def test_a_reload_while_the_models_are_loaded_ends_nothing() -> None:
    def load() -> Classifier:
        signal.raise_signal(signal.SIGHUP)
        raise UsageError("it was loaded")

    before = signal.getsignal(signal.SIGHUP)
    try:
        with pytest.raises(UsageError, match="it was loaded"):
            serve({"tiny": load}, ServeSettings(port=0))
    finally:
        signal.signal(signal.SIGHUP, before)


def _reload(running: Any) -> None:
    asyncio.run_coroutine_threadsafe(running.server.config.app.state.models.reload(), running.loop)


def _layer(client: Any, model: str | None = None) -> int:
    return int(client.post("/predict", json={**GOOD, "model": model}).json()[0]["exit_layer"])
