"""The load that benchmarks send: drawn as a Poisson process, every answer counted once and with what it answers."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elbert.classifier import Classifier
from tests.serving.conftest import TEXTS, Running, Start

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from open_loop import Load, poisson, request_of, send


def requests(**parameters: Any) -> list[bytes]:
    return [request_of("/predict", {"inputs": text, "parameters": parameters}) for text in TEXTS]


def test_requests_come_as_often_as_asked_and_as_they_please() -> None:
    load = poisson([(100.0, 50.0), (100.0, 10.0)], 4, 0)
    early = load.due[load.due < 100]
    assert len(early) == pytest.approx(5000, rel=0.05)
    assert len(load.due) - len(early) == pytest.approx(1000, rel=0.1)
    gaps = np.diff(early)
    assert gaps.min() >= 0
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # exponential
    assert set(load.which) == {0, 1, 2, 3}
    assert (poisson([(100.0, 50.0), (100.0, 10.0)], 4, 0).due == load.due).all()


def test_every_answer_belongs_to_its_request(running: Running, offline: Classifier) -> None:
    load = send(poisson([(0.2, 500.0)], len(TEXTS), 0), requests(level=0), running.port, 8)
    expected = offline.predict(TEXTS, policy="exact")
    assert set(load.status) == {200}
    assert (load.done >= load.due).all()
    for which, answer in zip(load.which, load.answers(), strict=True):
        assert answer[0]["label"] == expected[which].label
        assert answer[0]["score"] == pytest.approx(expected[which].score, abs=1e-5)
    assert 0 < load.percentile(50) <= load.percentile(99)


def test_refusals_are_counted_and_what_was_lost_is_no_good_percentile(start: Start) -> None:
    with start(max_concurrent_requests=1) as running:
        load = send(poisson([(0.1, 1000.0)], len(TEXTS), 0), requests(level=0), running.port, 64)
    assert set(load.shares()) == {"200", "429"}
    assert sum(load.shares().values()) == pytest.approx(1)
    lost = Load(np.array([0.0, 1.0]), np.array([0, 0]))
    lost.status[0], lost.done[0] = 200, 0.01
    assert lost.percentile(50) == float("inf")


def test_a_server_that_closes_its_connections_gets_new_ones() -> None:
    """It says 408 on what is idle, answers what is asked, and closes after either."""

    def serve(server: socket.socket, connections: list[threading.Thread]) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connections.append(threading.Thread(target=answer, args=(connection, len(connections) == 0), daemon=True))
            connections[-1].start()

    def answer(connection: socket.socket, idle: bool) -> None:
        with connection:
            if idle or connection.recv(4096):
                head = b"HTTP/1.1 408 Timeout" if idle else b"HTTP/1.1 200 OK"
                connection.sendall(head + b"\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server, []), daemon=True).start()
        load = send(poisson([(0.2, 200.0)], 1, 0), [request_of("/predict", {})], server.getsockname()[1], 4)
        server.shutdown(socket.SHUT_RDWR)
    assert load.shares() == {"200": 1.0}
