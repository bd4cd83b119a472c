"""Clients that behave badly: the server answers the others, holds nothing for ever, and never says 500."""

from __future__ import annotations

import json
import logging
import re
import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

import pytest

from elbert.serving import connection
from tests.serving.conftest import Running, Start

BODY = b'{"inputs": "good"}'
HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"


def raw(running: Running) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", running.port), 30)
    made.settimeout(30)
    return made


def everything(made: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    found = b""
    try:
        while data := made.recv(65_536):
            found += data
    except ConnectionResetError:  # it closed before all that was sent was read
        pass
    return found


def refusal(made: socket.socket) -> tuple[int, str]:
    """Return the status and the kind of the one answer that comes, which is JSON as all errors are."""
    answer = HTTPResponse(made)
    answer.begin()
    content = json.loads(answer.read())
    assert answer.getheader("content-type") == "application/json"
    assert (content["error"], everything(made)) != ("", b""), "and then the connection is closed"
    return answer.status, content["error_type"]


def is_well(running: Running) -> bool:
    return running.client.post("/predict", json={"inputs": "good"}).status_code == 200


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Let this process open so many files, or skip."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this system allows {hard} open files, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_connections_are_in_nobodys_way(running: Running) -> None:
    with many_files(3000):
        idle = [raw(running) for _ in range(1000)]
        assert is_well(running)
        for each in idle:
            each.close()
        assert is_well(running)


def test_a_head_without_an_end_is_refused_before_it_fills_the_memory(running: Running) -> None:
    with raw(running) as endless:
        try:
            endless.sendall(b"GET /health HTTP/1.1\r\nx: ")
            for _ in range(400):
                endless.sendall(b"a" * 10_000)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had enough
        else:
            assert refusal(endless) == (431, "Validation")
    assert is_well(running)


@pytest.mark.parametrize("head", [b"GET /health", b"POST /predict", b"POST /predict/stream"])
@pytest.mark.parametrize("endless", [b"x-%06d: v\r\n" % 1 * 600, b"a" * 10_000], ids=["many", "one"])
def test_trailers_without_an_end_are_refused_before_they_fill_the_memory(
    running: Running, head: bytes, endless: bytes
) -> None:
    with raw(running) as sending:
        sending.sendall(b"%b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y" % head)
        if endless.startswith(b"x"):
            sending.sendall(b"\r\n")
        try:
            for _ in range(400):
                sending.sendall(endless)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had enough
        else:
            everything(sending)
    assert is_well(running)


def test_trailers_are_no_headers_of_the_request(running: Running) -> None:
    with raw(running) as sending:
        sending.sendall(
            b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
            b"content-type: application/json\r\nconnection: close\r\n\r\n"
            b"%x\r\n%b\r\n0\r\ncontent-encoding: gzip\r\n\r\n" % (len(BODY), BODY)
        )
        assert everything(sending).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        (b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n"),
        (b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n", b"a"),
        (b"HEAD /health HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        (b"GET /health HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", b"0\r\nx: y\r\n"),
        (b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\n", b"a"),
    ],
    ids=["blank-line", "body-of-get", "body-of-head", "trailers", "too-large"],
)
def test_who_sends_a_little_after_the_answer_is_let_go_too(
    start: Start, monkeypatch: pytest.MonkeyPatch, asked: bytes, more: bytes
) -> None:
    monkeypatch.setattr(connection, "_HEAD_TIMEOUT", 0.2)
    with start() as running, raw(running) as idle:
        idle.sendall(asked)
        assert idle.recv(65_536).startswith((b"HTTP/1.1 200", b"HTTP/1.1 413"))
        idle.sendall(more)
        assert b"HTTP/1.1" not in everything(idle)  # to whom nothing is owed nothing is said


def answers(made: socket.socket) -> list[int]:
    """Return the statuses of all answers that come until the server closes the connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", everything(made))]


def test_a_head_that_is_slow_while_another_is_answered_has_its_time_from_that_answer_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_HEAD_TIMEOUT", 0.2)
    with start() as running, raw(running) as both, raw(running) as after:
        running.gates["tiny"].shut()
        both.sendall(HEAD % len(BODY) + b"\r\n" + BODY + b"GET /health HT")
        assert refusal(after) == (408, "Timeout")  # so the time of the other would be over too
        running.gates["tiny"].open()
        assert answers(both) == [200, 408]


@pytest.mark.parametrize(
    "said",
    [
        b"GET\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n",
    ],
    ids=["no-http", "upgrade"],
)
def test_what_a_client_gets_wrong_is_not_logged(running: Running, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    lines: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lines.append)
    monkeypatch.setattr(logging.getLogger("uvicorn"), "handlers", [handler])
    with raw(running) as odd:
        odd.sendall(said)
        assert everything(odd).startswith(b"HTTP/1.1 ")
    assert is_well(running)
    assert lines == []


@pytest.mark.parametrize(
    "said",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        HEAD.replace(b"%d", b"-5") + b"\r\n{}",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET http:// HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=["no-http", "tls", "length", "chunk", "no-address", "no-ascii", "connect"],
)
def test_what_is_no_http_is_refused_in_json_as_all_else_is(running: Running, said: bytes) -> None:
    with raw(running) as odd:
        odd.sendall(said)
        assert refusal(odd) == (400, "Validation")
    assert is_well(running)


def test_an_address_that_is_none_is_refused_behind_another_request_too(running: Running) -> None:
    with raw(running) as odd:
        odd.sendall(HEAD % len(BODY) + b"\r\n" + BODY)
        assert odd.recv(65_536).startswith(b"HTTP/1.1 200")
        odd.sendall(b"GET http:// HTTP/1.1\r\nhost: x\r\n\r\n")
        assert refusal(odd) == (400, "Validation")


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET http:// HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /health HTTP/1.1\r\nx: " + b"a" * 200_000, 431),
    ],
    ids=["no-http", "tls", "no-address", "chunk", "endless"],
)
@pytest.mark.parametrize("before", [1, 2])
def test_what_cannot_be_read_is_refused_behind_the_answers_of_the_requests_before_it(
    start: Start, before: int, last: bytes, status: int
) -> None:
    with start() as running, raw(running) as several:
        running.gates["tiny"].shut()
        several.sendall((HEAD % len(BODY) + b"\r\n" + BODY) * before + last)
        running.until(lambda: running.gates["tiny"].reached.is_set())
        several.sendall(HEAD % len(BODY) + b"\r\n" + BODY)  # which nobody reads any more
        running.gates["tiny"].open()
        assert answers(several) == [200] * before + [status]
        assert is_well(running)


def test_what_cannot_be_read_behind_a_request_that_is_the_last_one_is_passed_over(start: Start) -> None:
    with start() as running, raw(running) as both:
        running.gates["tiny"].shut()
        both.sendall(HEAD % len(BODY) + b"connection: close\r\n\r\n" + BODY + b"GET\r\n\r\n")
        running.until(lambda: running.gates["tiny"].reached.is_set())
        running.gates["tiny"].open()
        assert answers(both) == [200]


def test_who_goes_with_several_requests_under_way_leaves_nothing_running(start: Start) -> None:
    with start() as running:
        running.gates["tiny"].shut()
        with raw(running) as both:
            both.sendall((HEAD % len(BODY) + b"\r\n" + BODY) * 2)
            running.until(lambda: running.in_flight() == 1)
        running.until(lambda: running.in_flight() == 0)


def test_a_slash_too_many_is_nothing_here_and_sends_nobody_elsewhere(running: Running) -> None:
    said = running.client.post("/predict/", json={"inputs": "good"}, headers={"host": "elsewhere.example"})
    assert (said.status_code, said.json()["error_type"]) == (404, "NotFound")
    assert "location" not in said.headers


def test_large_heads_and_bodies_that_are_allowed_are_read(running: Running) -> None:
    headers = {f"x-{place}": "a" * 1000 for place in range(30)}
    body = {"inputs": ["good " * 20_000] * 3}
    assert running.client.post("/predict", json=body, headers=headers).status_code == 200


def test_who_sends_no_head_in_time_is_let_go(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_HEAD_TIMEOUT", 0.2)
    with start() as running:
        with raw(running) as silent, raw(running) as slow:
            slow.sendall(HEAD[:30])
            assert refusal(silent) == refusal(slow) == (408, "Timeout")
        with raw(running) as kept:  # a head in time, and what comes after it has its own time
            kept.sendall(HEAD % len(BODY) + b"\r\n" + BODY)
            assert kept.recv(4096).startswith(b"HTTP/1.1 200")
        assert is_well(running)


def test_a_client_that_closes_its_half_holds_nothing(running: Running) -> None:
    with raw(running) as half:
        half.sendall(HEAD % len(BODY) + b"\r\n" + BODY)
        half.shutdown(socket.SHUT_WR)
        everything(half)
    running.until(lambda: running.in_flight() == 0)
    assert is_well(running)


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,  # TLS
        b"GET\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /%00%ff/../../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nzz\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\nconnection: close\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\nconnection: close\r\n\r\n{}",
        b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ],
)
def test_what_is_no_http_or_hardly_any_is_answered_with_no_500(running: Running, said: bytes) -> None:
    with raw(running) as odd:
        odd.sendall(said)
        odd.shutdown(socket.SHUT_WR)
        assert not everything(odd).startswith(b"HTTP/1.1 5")
    assert is_well(running)


def test_requests_given_up_by_the_hundred_leave_nothing_behind(running: Running) -> None:
    deep = json.dumps({"inputs": ["good"] * 8, "parameters": {"level": 0}}).encode()

    def give_up(_: int) -> None:
        with raw(running) as impatient:
            impatient.sendall(HEAD % len(deep) + b"\r\n" + deep)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(give_up, range(200)))
    running.until(lambda: running.in_flight() == 0)
    assert is_well(running)


def test_who_streams_and_reads_nothing_holds_no_more_than_a_window(running: Running) -> None:
    lines = b'"good"\n' * 200
    with raw(running) as deaf:
        deaf.settimeout(0.5)
        deaf.sendall(b"POST /predict/stream HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        sent = 0
        try:
            for _ in range(5000):
                deaf.sendall(b"%x\r\n%b\r\n" % (len(lines), lines))
                sent += 200
        except TimeoutError:
            pass  # the server reads no further
        assert sent < 5000 * 200
        assert is_well(running)
    gate = running.gates["tiny"]
    running.until(lambda: not running.server.server_state.tasks and running.in_flight() == 0)
    [served] = running.server.config.app.state.models
    served._worker.call(lambda: None).result(30)  # behind the step that ran while its rows were cancelled
    steps = gate.steps
    assert is_well(running)
    assert gate.steps == steps + 2  # the lines that were read and not answered are not computed


def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    bodies = [b'{"inputs": "good", "parameters": {"max_layers": %d}}' % layers for layers in (1, 2, 1, 2)]
    with raw(running) as eager:
        eager.sendall(b"".join(HEAD % len(body) + b"\r\n" + body for body in bodies))
        found: Any = b""
        while found.count(b'"exit_layer"') < 8:
            found += eager.recv(65_536)
    assert [int(each[:1]) for each in found.split(b'"exit_layer": ')[1::2]] == [1, 2, 1, 2]
