"""Faults put in on purpose: only what they touch fails, and the server is back by itself."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from elbert.classifier import Classifier
from elbert.serving import served
from elbert.serving.feedback import Feedback, expected_agreement
from elbert.serving.metrics import Metrics
from elbert.serving.worker import Worker
from tests.serving.conftest import Start

GOOD = {"inputs": "good"}


def model(running: Any) -> Any:
    return running.server.config.app.state.models.find(None)


def reload(running: Any, outcome: str) -> None:
    import asyncio

    asyncio.run_coroutine_threadsafe(running.server.config.app.state.models.reload(), running.loop)
    running.until(lambda: f'outcome="{outcome}"' in running.client.get("/metrics").text)


def test_a_killed_worker_is_replaced_and_those_it_had_are_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_LOOK", 0.05)
    with start() as running, ThreadPoolExecutor(1) as pool:
        gate, worker = running.gates["tiny"], model(running)._worker
        gate.shut()
        under_way = pool.submit(running.client.post, "/predict", json=GOOD)
        assert gate.reached.wait(30)

        def gone() -> Any:
            raise RuntimeError("the device is gone")

        monkeypatch.setattr(worker, "_new_scheduler", gone)  # so that this worker cannot go on
        worker._inbox.put(lambda: (_ for _ in ()).throw(SystemExit("killed")))
        gate.open()
        assert under_way.result().status_code in (200, 503)
        running.until(lambda: not worker._thread.is_alive())
        running.until(lambda: running.client.post("/predict", json=GOOD).status_code == 200)
        assert running.client.get("/health").status_code == 200
        assert model(running)._worker is not worker
        assert running.in_flight() == 0


def test_while_no_new_worker_can_be_made_health_says_so(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_LOOK", 0.05)
    tried = threading.Event()

    def none(self: Any) -> Worker:
        tried.set()
        raise RuntimeError("the device is gone")

    with start() as running:
        worker = model(running)._worker
        with monkeypatch.context() as broken:
            broken.setattr(served.ServedModel, "_new_worker", none)
            worker.stop()
            assert tried.wait(30)
            assert running.client.get("/health").json() == {"models": {"tiny": "dead"}}
            said = running.client.post("/predict", json=GOOD)
            assert (said.status_code, said.headers["retry-after"]) == (503, "1")
        running.until(lambda: running.client.get("/health").status_code == 200)
        assert running.client.post("/predict", json=GOOD).status_code == 200


class Panic(BaseException):
    """As a tokenizer written in Rust raises it."""


@pytest.mark.parametrize("error", [RuntimeError("bad"), Panic("worse")])
@pytest.mark.parametrize("text", ["so so", "so so " * 2000])  # short ones are read in the event loop
def test_a_tokenizer_error_is_its_requests_alone(
    start: Start, error: BaseException, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with start() as running:
        classifier = running.gates["tiny"].classifier
        inner, inner_reading = classifier.arrivals, classifier.reading

        def arrivals(texts: Any, truncated: Any) -> Any:
            if any("so so" in each for each in texts):
                raise error
            return inner(texts, truncated)

        def reading(asked: Any) -> Any:
            if "so so" in asked:
                raise error
            return inner_reading(asked)

        classifier.arrivals = arrivals  # type: ignore[method-assign]
        classifier.reading = reading  # type: ignore[method-assign]
        said = running.client.post("/predict", json={"inputs": text})
        assert (said.status_code, said.json()["error_type"]) == (422, "Validation")
        assert type(error).__name__ in said.json()["error"]
        traced = running.client.post("/trace", json={"inputs": text})
        assert (traced.status_code, traced.json()["error_type"]) == (422, "Validation")
        assert type(error).__name__ in traced.json()["error"]
        assert running.client.post("/trace", json=GOOD).status_code == 200
        assert running.client.post("/predict", json=GOOD).status_code == 200
        assert running.in_flight() == 0


@pytest.mark.parametrize("fault", ["not finite", "disk full"])
def test_a_broken_model_does_not_come_in_by_a_reload(start: Start, model_folder: Path, fault: str) -> None:
    loaded: list[Classifier] = []

    def load() -> Classifier:
        if loaded and fault == "disk full":
            raise OSError(28, "No space left on device")
        classifier = Classifier.from_pretrained(model_folder)
        if loaded:
            for each in vars(classifier.engine.weights).values():
                if isinstance(each, torch.Tensor) and each.is_floating_point():
                    each.fill_(torch.nan)
        loaded.append(classifier)
        return classifier

    with start({"tiny": load}) as running:
        before = running.client.post("/predict", json=GOOD).json()
        reload(running, "failed")
        assert running.client.post("/predict", json=GOOD).json() == before
        assert running.client.get("/health").status_code == 200


def test_a_text_that_layer_0_answers_waits_for_nobody(start: Start, good_words: Callable[[], Classifier]) -> None:
    with (
        start({"tiny": good_words}, max_batch_requests=1, max_queue_tokens=20) as running,
        ThreadPoolExecutor(2) as pool,
    ):
        gate = running.gates["tiny"]
        gate.shut()
        steps = gate.steps
        waiting = [pool.submit(running.client.post, "/predict", json={"inputs": ["so so"] * 2}) for _ in range(2)]
        assert gate.reached.wait(30)
        said = running.client.post("/predict", json=GOOD).json()[0]  # the gate is shut, the only place taken
        assert (said["label"], said["exit_layer"], said["cause"]) == ("pos", 0, "rule")
        assert gate.steps == steps
        gate.open()
        assert {each.result().status_code for each in waiting} <= {200, 429}
        both = running.client.post("/predict", json={"inputs": ["so so", "good", "bad"]}).json()
        assert [each[0]["exit_layer"] for each in both] == [4, 0, 4]
        assert running.in_flight() == 0


def test_agreement_below_what_calibration_measured_is_told_once_and_taken_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "elbert.serving")
    metrics = Metrics()
    feedback = Feedback("tiny", {"quick": {"agreement": 0.9}, "odd": {}}, metrics)

    def note(agree: int, of: int) -> Any:
        for place in range(of):
            feedback.note("quick", place % of < agree)
            feedback.note("odd", False)  # nothing was promised of it
        return metrics.registry.get_sample_value("elbert_drift", {"model": "tiny", "policy": "quick"})

    assert note(450, 500) == 0
    assert note(350, 500) == 1
    assert feedback.drifting == {"quick"}
    assert note(460, 500) == 0
    assert len(re.findall("of the early answers of quick", caplog.text)) == 1
    assert metrics.registry.get_sample_value("elbert_agreement", {"model": "tiny", "policy": "quick"}) == 0.92


def test_older_evidence_bounds_the_agreement_by_its_scores() -> None:
    evidence = {"metric": "accuracy", "full_depth_score": 0.9, "max_drop": 0.01}
    assert expected_agreement(evidence) == pytest.approx(0.79)
    assert expected_agreement({**evidence, "agreement": 0.97}) == 0.97
    assert expected_agreement({**evidence, "metric": "f1"}) is None
    assert expected_agreement({}) is None
