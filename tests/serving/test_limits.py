"""What is too much, or from nobody known, is refused at once and in one line; nothing else is."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbert.serving.refusals import Refusal
from elbert.serving.room import Room
from tests.serving.conftest import Running, Start

HEADERS = {"content-type": "application/json"}


def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_its_length(start: Start) -> None:
    with start(payload_limit=300) as running:
        said = running.client.post("/predict", json={"inputs": "good " * 100})
        assert (said.status_code, said.json()["error_type"]) == (413, "Validation")
        chunked = running.client.post(
            "/predict", content=iter([b'{"inputs": "', *[b"good " * 20] * 9, b'"}']), headers=HEADERS
        )
        assert chunked.status_code == 413
        assert "300 bytes" in chunked.json()["error"]
        assert running.client.post("/predict", json={"inputs": "good"}).status_code == 200


def test_of_the_bodies_of_slow_clients_the_greatest_make_room_and_others_are_answered(start: Start) -> None:
    with start(payload_limit=300) as running, ExitStack() as clients:
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 300\r\n\r\n"
        slow = [clients.enter_context(socket.create_connection(("127.0.0.1", running.port))) for _ in range(65)]
        for each in slow:
            each.sendall(head + b"x" * 299)
        [refused], _, _ = select.select(slow, [], [], 30)  # one of them was one too many
        said = refused.recv(1000)
        assert said.startswith(b"HTTP/1.1 429")
        assert b"retry-after" in said
        good = {"inputs": "good " * 20}
        assert running.client.post("/predict", json=good).status_code == 200
        slow.remove(refused)
        [other], _, _ = select.select(slow, [], [], 30)
        assert other.recv(1000).startswith(b"HTTP/1.1 429")


def test_room_is_there_again_when_bodies_have_gone_and_one_that_is_whole_makes_none() -> None:
    async def whole_ones_stay() -> None:
        room = Room(1)
        with ExitStack() as bodies:
            for _ in range(64):
                room.resize(bodies.enter_context(room.held()), 1)  # nobody waits for more of it
            with room.held() as one_more, pytest.raises(Refusal, match="allowed"):
                room.resize(one_more, 1)
        with room.held() as later:
            room.resize(later, 64)

    asyncio.run(whole_ones_stay())


def test_streams_leave_half_of_the_places_to_others(start: Start) -> None:
    with start(max_concurrent_requests=2) as running:
        head = b"POST /predict/stream HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        with socket.create_connection(("127.0.0.1", running.port)) as stream:
            stream.sendall(head + b'7\r\n"good"\n\r\n')
            assert b"200" in stream.recv(1000)
            said = running.client.post("/predict/stream", content=b'"good"')
            assert (said.status_code, said.json()["error"][:9]) == (429, "1 streams")
            assert running.client.post("/predict", json={"inputs": "good"}).status_code == 200


def test_blank_lines_keep_no_stream_alive(start: Start) -> None:
    with start(body_timeout=1.0) as running:
        head = b"POST /predict/stream HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        with socket.create_connection(("127.0.0.1", running.port)) as stream:
            stream.sendall(head)
            said = b""
            while b"the stream ends here" not in said:
                stream.sendall(b"1\r\n\n\r\n")
                if select.select([stream], [], [], 0.1)[0]:
                    said += stream.recv(1000)


def test_more_texts_than_allowed_are_refused(start: Start) -> None:
    with start(max_client_batch_size=2) as running:
        assert running.client.post("/predict", json={"inputs": ["a"] * 2}).status_code == 200
        said = running.client.post("/v1/classify", json={"input": ["a"] * 3})
        assert said.status_code == 413
        assert "3 texts in one request; allowed: at most 2" in said.json()["error"]["message"]


def test_one_request_too_many_is_refused_with_the_time_to_come_again(start: Start) -> None:
    with start(max_concurrent_requests=1) as running, ThreadPoolExecutor(1) as pool:
        gate = running.gates["tiny"]
        gate.shut()
        first = pool.submit(running.client.post, "/predict", json={"inputs": "good"})
        assert gate.reached.wait(30)
        said = running.client.post("/predict", json={"inputs": "good"})
        assert (said.status_code, said.headers["retry-after"]) == (429, "1")
        assert said.json()["error_type"] == "Overloaded"
        assert running.client.get("/health").status_code == 200  # a probe is never one too many
        gate.open()
        assert first.result().status_code == 200
        assert running.client.post("/predict", json={"inputs": "good"}).status_code == 200


def test_more_tokens_than_the_queue_holds_are_refused_until_there_is_room(start: Start) -> None:
    with start(max_queue_tokens=8) as running, ThreadPoolExecutor(1) as pool:
        gate = running.gates["tiny"]
        gate.shut()
        first = pool.submit(running.client.post, "/predict", json={"inputs": "a very good film"})
        assert gate.reached.wait(30)
        said = running.client.post("/predict", json={"inputs": "a very good film"})
        assert said.status_code == 429
        assert int(said.headers["retry-after"]) >= 1
        gate.open()
        assert first.result().status_code == 200
        assert running.client.post("/predict", json={"inputs": "a very good film"}).status_code == 200
        assert running.in_flight() == 0


def test_a_server_wide_ceiling_of_layers_holds_whatever_a_request_asks_for(start: Start) -> None:
    with start(max_layers=2) as running:
        body = {"inputs": "good", "parameters": {"policy": "exact", "max_layers": 4}}
        found = running.client.post("/predict", json=body).json()[0]
        assert (found["exit_layer"], found["cause"]) == (2, "budget")


def test_keys(start: Start) -> None:
    with start(api_keys=("first-key", "second-key")) as running:

        def ask(header: str | None, path: str = "/info") -> int:
            headers = {"authorization": header} if header is not None else {"authorization": ""}
            return int(running.client.get(path, headers=headers).status_code)

        assert ask("Bearer first-key") == ask("bearer second-key") == 200
        for wrong in (None, "first-key", "Basic first-key", "Bearer first-ke", "Bearer first-key2", "Bearer"):
            assert ask(wrong) == 401
        assert ask(None, "/metrics") == 401
        assert ask(None, "/health") == ask(None, "/docs") == 200
        refused = running.client.post("/v1/classify", json={"input": "good"}, headers={"authorization": "Bearer no"})
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["code"] == 401


NESTED = '{"name": "any", "policies": [' * 150 + '{"name": "full"}' + ', {"name": "full"}]}' * 150


def test_a_policy_that_a_request_brings_warns_nobody(client: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for patience in (98, 99):  # ever other words, which would be kept for ever
            asked = {"inputs": "good", "parameters": {"policy": {"name": "patience", "patience": patience}}}
            assert client.post("/predict", json=asked).status_code == 200
    assert not caught


@pytest.mark.parametrize(
    "policy",
    [
        f'{{"name": "entropy", "threshold": 1{"0" * 400}}}',
        '{"name": "full", "tokens": {"3": 0.5, "03": "half"}}',
        NESTED,
        f'{{"name": "entropy", "threshold": {"[" * 800 + "]" * 800}}}',
        json.dumps({"name": "any", "policies": [{"name": "patience"}] * 3000}),
        json.dumps({"name": "certainty", "bounds": [1] * 9000}),
        json.dumps({"name": "n" * 5000}),
        json.dumps({"name": "full", "n" * 5000: 1}),
        json.dumps("n" * 100_000),
    ],
    ids=["digits", "layer twice", "nested", "lists", "rules", "numbers", "name", "parameter", "word"],
)
@pytest.mark.parametrize("path", ["/predict", "/trace"])
def test_a_policy_beyond_measure_is_refused_in_a_short_line(client: Any, path: str, policy: str) -> None:
    body = f'{{"inputs": "good", "parameters": {{"policy": {policy}}}}}'
    said = client.post(path, content=body, headers={"content-type": "application/json"})
    assert (said.status_code, said.json()["error_type"]) == (422, "Validation")
    assert len(said.text) < 600


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": "good", "model": "n" * 100_000},
        {"inputs": "good", "n" * 9000: 1},
        {"inputs": {"text": "a", "n" * 9000: 1}},
    ],
    ids=["model", "field", "key"],
)
def test_a_name_beyond_measure_is_not_repeated(client: Any, body: Any) -> None:
    said = client.post("/predict", json=body)
    assert said.status_code in (404, 422)
    assert len(said.text) < 600


def test_head_is_answered_as_get_and_a_method_that_is_not_is_told_which_are(client: Any) -> None:
    head, get = client.head("/info"), client.get("/info")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", get.headers["content-length"])
    for method, path, allowed in (("PUT", "/health", "GET"), ("GET", "/predict", "POST"), ("HEAD", "/trace", "POST")):
        said = client.request(method, path)
        assert (said.status_code, said.headers["allow"]) == (405, allowed)


def test_every_answer_carries_the_security_headers_and_no_other_site_may_read_it(client: Any) -> None:
    for path in ("/health", "/docs", "/nothing", "/page.css"):
        headers = client.get(path, headers={"origin": "http://example.org"}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_a_body_that_stops_half_way_is_given_up_and_holds_no_place(start: Start) -> None:
    head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"
    with (
        start(body_timeout=1.0, max_concurrent_requests=1) as running,
        socket.create_connection(("127.0.0.1", running.port)) as slow,
    ):
        slow.sendall(head.encode())
        assert running.client.post("/predict", json={"inputs": "good"}).status_code == 200  # meanwhile
        assert b" 408 " in slow.recv(100)


def test_no_text_and_no_key_is_logged(start: Start, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with start(api_keys=("a-secret",)) as running:
        running.client.post("/predict", json={"inputs": "a private matter"})
        running.client.post("/predict", json={"inputs": ["a private matter", 3]})
        metrics = running.client.get("/metrics").text
    out, err = capfd.readouterr()
    for word in ("private", "a-secret"):
        assert word not in caplog.text + out + err + metrics


def test_metrics_count_requests_by_route_and_texts_by_what_became_of_them(start: Start) -> None:
    with start() as running:
        before = _values(running)
        running.client.post("/predict", json={"inputs": ["good", "bad"], "parameters": {"level": 0}})
        running.client.post("/predict", json={"inputs": 3})
        running.client.get("/a/b/c")
        after = _values(running)

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    assert grown('elbert_texts_total{cause="last_layer",model="tiny",policy="exact"}') == 2
    assert grown('elbert_layers_run_total{model="tiny"}') == 8
    assert grown('elbert_requests_total{route="/predict",status="422"}') == 1
    assert grown('elbert_requests_total{route="none",status="404"}') == 1
    assert after['elbert_rows_in_flight{model="tiny"}'] == 0
    assert grown('elbert_stage_seconds_count{model="tiny",stage="queue"}') == 2


def _values(running: Running) -> dict[str, float]:
    lines = [line for line in running.client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["good", "tiny"])
JSON = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "text_pair", "name", "layer", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = ("top_k", "function_to_apply", "policy", "level", "max_layers", "max_latency_ms", "other")
PARAMETERS = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, JSON))
BODIES = st.fixed_dictionaries(
    {}, optional={"inputs": JSON, "input": JSON, "parameters": PARAMETERS | JSON, "model": JSON, "truncate": JSON}
)


# Ten thousand in the ten rounds of `make fuzz`.
JSONS, BYTES = (80, 40) if settings.default.derandomize else (800, 250)


@settings(max_examples=JSONS, deadline=None)
@given(body=BODIES | JSON, path=st.sampled_from(["/predict", "/v1/classify"]))
def test_no_json_brings_the_server_down(running: Running, body: Any, path: str) -> None:
    said = running.client.post(path, content=json.dumps(body), headers=HEADERS)
    assert said.status_code in (200, 404, 413, 422)
    assert said.headers["content-type"] == "application/json"
    json.loads(said.text)


@settings(max_examples=BYTES, deadline=None)
@given(body=st.binary(max_size=60), kind=st.sampled_from(["application/json", "text/plain", ""]))
def test_no_bytes_bring_the_server_down(running: Running, body: bytes, kind: str) -> None:
    said = running.client.post("/predict", content=body, headers={"content-type": kind})
    assert said.status_code == 422
    assert "\n" not in said.json()["error"]
