"""Streams of lines, traces, and the level that follows the queue."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from elbert.classifier import Classifier
from elbert.serving.ladder import Pressure
from tests.serving.conftest import TEXTS, Running, Start


def test_a_stream_answers_every_line_in_order_and_a_wrong_one_in_its_place(client: Any, offline: Classifier) -> None:
    texts = TEXTS * 20  # more than may be under way at once
    lines = [json.dumps(text) for text in texts]
    lines[3] = "{no json"
    lines[5] = json.dumps({"inputs": "so so", "parameters": {"level": 0, "top_k": 1}})
    lines[7] = json.dumps({"inputs": ["a", "b"]})
    body = ("\n".join(lines[:4]) + "\n\n" + "\n".join(lines[4:])).encode()
    said = client.post("/predict/stream", content=iter([body[:50], body[50:51], body[51:]]))
    assert said.headers["content-type"] == "application/x-ndjson"
    found = [json.loads(line) for line in said.text.splitlines()]
    assert len(found) == len(texts)
    assert found[3]["error"] == "the line is no JSON"
    assert found[7]["error"] == "inputs is a list; allowed: one text a line"
    assert [each["exit_layer"] for each in found[5]] == [4]
    expected = offline.predict(texts)
    assert all(found[n][0]["label"] == expected[n].label for n in range(len(texts)) if n not in (3, 5, 7))


def received(patient: socket.socket) -> bytes:
    """Return what comes next; the server must not close the connection."""
    data = patient.recv(65_536)
    assert data
    return data


def test_a_line_is_answered_before_the_next_one_comes(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), 30) as patient:
        patient.sendall(b"POST /predict/stream HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        found = b""
        for number, line in enumerate([b'"good"\n', b"7\n", b'"so so"\n'], start=1):
            patient.sendall(b"%x\r\n%b\r\n" % (len(line), line))
            while found.count(b"\n{") + found.count(b"\n[{") < number:
                found += received(patient)
        patient.sendall(b"0\r\n\r\n")
        while not found.endswith(b"0\r\n\r\n"):
            found += received(patient)
    assert b"the line is neither a string nor an object" in found


def test_a_line_that_is_too_long_ends_a_stream_with_a_word(start: Start) -> None:
    with start(payload_limit=100) as running:
        said = running.client.post("/predict/stream", content=iter([b'"good"\n"', *[b"long " * 10] * 9]))
        good, refused = (json.loads(line) for line in said.text.splitlines())
        assert good[0]["exit_layer"] == 2
        assert "more than 100 bytes" in refused["error"]
        assert running.in_flight() == 0


def test_a_trace_is_the_librarys(client: Any, offline: Classifier) -> None:
    found = client.post("/trace", json={"inputs": "a good film", "parameters": {"level": 1}}).json()
    expected = offline.trace("a good film", policy="quick").to_dict()
    for name in ("tokens", "exit_layer", "reasons", "policy", "labels"):
        assert found[name] == expected[name]
    refused = client.post("/trace", json={"inputs": ["a", "b"]})
    assert refused.status_code == 422
    assert client.post("/trace", json={"inputs": "a", "parameters": {"policy": "none"}}).status_code == 422


def test_a_trace_answers_as_predict_does_also_by_layer_0(start: Start, good_words: Callable[[], Classifier]) -> None:
    with start({"tiny": good_words}) as running:
        for text, layer in (("a good film", 0), ("so so", 4)):
            trace = running.client.post("/trace", json={"inputs": text}).json()
            [[first]] = running.client.post("/predict", json={"inputs": [text], "parameters": {"top_k": 1}}).json()
            assert (trace["label"], trace["exit_layer"]) == (first["label"], first["exit_layer"])
            assert trace["exit_layer"] == layer
            assert trace["score"] == pytest.approx(first["score"], abs=1e-5)


def test_a_text_that_takes_long_to_be_tokenised_for_a_trace_holds_nobody_up(start: Start, model_folder: Path) -> None:
    begun, ended = threading.Event(), threading.Event()

    def load() -> Classifier:
        classifier = Classifier.from_pretrained(model_folder)
        reading = classifier.reading

        def slow(text: Any) -> Any:
            begun.set()
            assert ended.wait(30)
            return reading(text)

        classifier.reading = slow  # type: ignore[method-assign]
        return classifier

    with start({"tiny": load}) as running, ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(running.client.post, "/trace", json={"inputs": "good " * 1000})
        assert begun.wait(30)
        assert running.client.post("/predict", json={"inputs": "good"}).status_code == 200
        ended.set()
        assert under_way.result().json()["truncated"]


def test_the_level_steps_up_as_the_queue_grows_down_when_it_is_gone_and_never_past_the_fastest() -> None:
    now = 0.0
    pressure = Pressure(1, 3, 4, lambda: now)

    def after(seconds: float, rows: int) -> int:
        nonlocal now
        now += seconds
        return pressure.level(rows)

    assert after(5.0, 12) == 1  # two wait for each place: not yet crowded
    assert [after(0.125, 13) for _ in range(4)] == [2, 3, 3, 3]
    assert after(9.0, 8) == 3  # neither crowded nor calm: it stays
    assert after(0.0, 0) == 2
    assert [after(0.5, 0) for _ in range(4)] == [2, 1, 1, 1]
    assert Pressure(1, 0, 4, lambda: now).level(99) == 1


def test_waiting_requests_get_the_faster_level_and_are_told_so(start: Start, model_folder: Path) -> None:
    def load() -> Classifier:
        return Classifier.from_pretrained(model_folder, policy="exact")

    with start({"tiny": load}, max_batch_requests=1, fastest_level="quick") as running, ThreadPoolExecutor(2) as pool:
        gate = running.gates["tiny"]
        gate.shut()
        many = pool.submit(running.client.post, "/predict", json={"inputs": ["good"] * 8})
        assert gate.reached.wait(30)
        late = pool.submit(running.client.post, "/predict", json={"inputs": "good"})
        chosen = {"inputs": "good", "parameters": {"level": 0}}
        running.until(lambda: running.in_flight() == 9)
        gate.open()
        assert {each[0]["level"] for each in many.result().json()} == {0}
        assert (late.result().json()[0]["level"], late.result().json()[0]["exit_layer"]) == (1, 2)
        assert running.client.post("/predict", json=chosen).json()[0]["level"] == 0


def test_early_answers_are_compared_with_full_depth_after_they_were_sent(start: Start, offline: Classifier) -> None:
    with start(feedback_share=1.0) as running:

        def counted() -> dict[str, int]:
            lines = running.client.get("/metrics").text.splitlines()
            found = [line.partition("} ") for line in lines if line.startswith("elbert_feedback_total{")]
            return {name.partition('agrees="')[2].partition('"')[0]: int(float(value)) for name, _, value in found}

        said = running.client.post("/predict", json={"inputs": TEXTS})
        assert {each[0]["exit_layer"] for each in said.json()} == {2}
        running.until(lambda: sum(counted().values()) == len(TEXTS))
        early, late = offline.predict(TEXTS, policy="quick"), offline.predict(TEXTS, policy="exact")
        same = sum(one.label == other.label for one, other in zip(early, late, strict=True))
        assert counted().get("yes", 0) == same
        assert running.in_flight() == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"inputs": "a", "inputs": "b"}', "the key 'inputs' stands twice"),
        ('{"inputs": "a", "parameters": {"top_k": 1, "top_k": 2}}', "the key 'top_k' stands twice"),
        ('{"inputs": "a", "raw_scores": true, "parameters": {"function_to_apply": "sigmoid"}}', "were both given"),
        ('{"inputs": ' + "9" * 5000 + "}", "a number of thousands of digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"inputs": "caf\u00e9"}'.encode("latin-1"), "not UTF-8 (byte offset"),
    ],
)
def test_what_json_could_pass_over_is_refused_in_a_body_and_in_a_line(client: Any, body: Any, said: str) -> None:
    header = {"content-type": "application/json"}
    refused = client.post("/predict", content=body, headers=header)
    assert (refused.status_code, said in refused.json()["error"]) == (422, True)
    line = (body.encode() if isinstance(body, str) else body) + b'\n"good"\n'
    first, second = client.post("/predict/stream", content=line).text.splitlines()
    assert said in json.loads(first)["error"]
    assert json.loads(second)[0]["label"] in ("neg", "pos")


@pytest.mark.parametrize("path", ["/predict", "/v1/classify", "/trace", "/predict/stream"])
@pytest.mark.parametrize(
    ("address", "headers", "status", "said"),
    [
        ("?top_k=1", {}, 422, "'top_k' stands in the address, where nothing is read"),
        ("", {"content-encoding": "gzip"}, 415, "content-encoding 'gzip' is not read"),
        ("", {"content-type": "application/json; charset=latin-1"}, 415, "charset 'latin-1' is not read"),
    ],
)
def test_a_wish_that_nobody_would_hear_is_refused(
    client: Any, path: str, address: str, headers: dict[str, str], status: int, said: str
) -> None:
    body = json.dumps({"input" if path == "/v1/classify" else "inputs": "good"})
    headers = {"content-type": "application/json; charset=UTF-8", **headers}
    refused = client.post(path + address, content=body, headers=headers)
    assert (refused.status_code, said in refused.text) == (status, True)


@pytest.mark.parametrize(
    ("path", "unread"),
    [
        ("/trace", ["top_k", "function_to_apply", "max_layers", "max_latency_ms"]),
        ("/v1/classify", ["top_k", "function_to_apply"]),
    ],
)
def test_a_parameter_that_an_address_does_not_read_is_refused_there(client: Any, path: str, unread: list[str]) -> None:
    for name in unread:
        value: object = "none" if name == "function_to_apply" else 1
        body = {"input" if path == "/v1/classify" else "inputs": "good", "parameters": {name: value}}
        refused = client.post(path, json=body)
        assert (refused.status_code, f"there is no field 'parameters.{name}'" in refused.text) == (422, True)
