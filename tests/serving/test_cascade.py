"""A cascade over HTTP: its answers are the library's, and what is asked of a request holds over all its models."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from elbert.cascade import Cascade
from elbert.errors import UsageError
from elbert.exits import make
from elbert.modeling.files.load import load_model
from elbert.serving.refusals import overloaded
from tests.serving.conftest import TEXTS, Running, Start


@pytest.fixture(scope="module")
def folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that leaves after 2 of 4 layers, then one of 4 layers with its classes the other way round."""
    parent = tmp_path_factory.mktemp("cascade")
    torch.manual_seed(5)
    model, tokenizer, elbert = load_model("random-tiny", labels=["pos", "neg"], texts=TEXTS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(parent / "late", tokenizer=tokenizer, elbert=elbert)
    chain = Cascade.of([model_folder, parent / "late"])
    middle = float(chain.record(TEXTS).probs[:, 0].amax(-1).median())  # half of the texts are surer than that
    chain.policy = make("max_prob", threshold=middle)
    chain.save_pretrained(parent / "both")
    return parent / "both"


@pytest.fixture(scope="module")
def offline(folder: Path) -> Cascade:
    return Cascade.from_pretrained(folder)


@pytest.fixture(scope="module")
def running(start: Start, folder: Path) -> Iterator[Running]:
    with start({"both": lambda: Cascade.from_pretrained(folder)}) as server:
        yield server


def members(running: Running) -> list[Any]:
    return list(next(iter(running.server.config.app.state.models)).members)


def test_answers_are_those_of_the_library_on_every_route(running: Running, offline: Cascade) -> None:
    wanted = offline.predict(TEXTS)
    assert {each.member for each in wanted} == {1, 2}
    found = [each[0] for each in running.client.post("/predict", json={"inputs": TEXTS}).json()]
    streamed = running.client.post("/predict/stream", content="\n".join(map(json.dumps, TEXTS))).text
    for each, line, one in zip(found, streamed.splitlines(), wanted, strict=True):
        assert each["label"] == one.label
        assert each["score"] == pytest.approx(one.score, abs=1e-5)
        facts = {name: each[name] for name in ("exit_layer", "layers", "member", "cost", "truncated")}
        assert facts == {name: getattr(one, name) for name in facts}
        assert (each["policy"], each["cause"]) == ("cascade", "rule" if one.member == 1 else "last_layer")
        assert json.loads(line)[0] == pytest.approx(each)
    data = running.client.post("/v1/classify", json={"input": TEXTS}).json()["data"]
    for each, row in zip(data, offline.predict_proba(TEXTS).tolist(), strict=True):
        assert each["probs"] == pytest.approx(row, abs=1e-5)
    alone = running.client.post("/predict", json={"inputs": TEXTS, "parameters": {"policy": "full"}}).json()
    assert {(each[0]["exit_layer"], each[0]["member"]) for each in alone} == {(4, 2)}


def test_a_ceiling_of_layers_holds_over_all_models(running: Running) -> None:
    for most, wanted in ((1, {(1, 1)}), (2, {(2, 1)}), (3, {(2, 1), (3, 2)}), (9, {(2, 1), (6, 2)})):
        found = running.client.post("/predict", json={"inputs": TEXTS, "parameters": {"max_layers": most}}).json()
        assert {(each[0]["exit_layer"], each[0]["member"]) for each in found} == wanted
        causes = {each[0]["cause"] for each in found if each[0]["exit_layer"] == most}
        assert causes <= ({"rule", "budget"} if most == 2 else {"budget"})


def test_a_later_model_without_room_refuses_its_text_unless_there_is_a_deadline(
    running: Running, offline: Cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*args: Any, **more: Any) -> Any:
        raise overloaded("4 tokens are waiting; allowed: 4", 1)

    monkeypatch.setattr(members(running)[1], "ask", full)
    first = [each.member == 1 for each in offline.predict(TEXTS)]
    found = running.client.post("/predict", json={"inputs": TEXTS}).json()
    assert [isinstance(each, list) for each in found] == first
    assert {each["error_type"] for each in found if isinstance(each, dict)} == {"Overloaded"}
    parameters = {"max_latency_ms": 60_000}
    found = running.client.post("/predict", json={"inputs": TEXTS, "parameters": parameters}).json()
    assert [each[0]["cause"] for each in found] == ["rule" if here else "hurried" for here in first]
    assert {each[0]["member"] for each in found} == {1}


def test_a_bug_between_the_models_costs_the_text_and_nobody_waits_for_ever(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: Any, **more: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(members(running)[1], "ask", broken)
    found = running.client.post("/predict", json={"inputs": TEXTS}).json()
    assert {each["error_type"] for each in found if isinstance(each, dict)} == {"Bug"}
    assert any(isinstance(each, list) for each in found)


def test_what_belongs_to_one_model_is_refused_or_told_of_each(running: Running, start: Start, folder: Path) -> None:
    refused = running.client.post("/trace", json={"inputs": "good"})
    assert (refused.status_code, "is a cascade of models" in refused.json()["error"]) == (422, True)
    refused = running.client.post("/predict", json={"inputs": "good", "parameters": {"policy": "elbert"}})
    assert (refused.status_code, "follows one network" in refused.json()["error"]) == (422, True)
    info = running.client.get("/info").json()
    assert (info["layers"], [each["name"] for each in info["levels"]]) == (8, ["cascade"])
    assert 'elbert_exit_layer_count{model="both/2"}' in running.client.get("/metrics").text
    loaders = {"both": lambda: Cascade.from_pretrained(folder)}
    with pytest.raises(UsageError, match="there is no speed level 'quick'"), start(loaders, fastest_level="quick"):
        pass


def test_a_request_whose_client_has_gone_is_stopped_at_the_model_it_has_come_to(start: Start, folder: Path) -> None:
    with start({"both": lambda: Cascade.from_pretrained(folder, policy=make("max_prob", threshold=1.0))}) as running:
        gate = running.gates["both/2"]
        gate.shut()
        body = b'{"inputs": "good"}'
        about = f"host: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        with socket.create_connection(("127.0.0.1", running.port)) as impatient:
            impatient.sendall(f"POST /predict HTTP/1.1\r\n{about}\r\n\r\n".encode() + body)
            assert gate.reached.wait(30)
            steps = gate.steps
        running.until(lambda: running.in_flight() == 0)
        gate.open()
        assert running.client.post("/predict", json={"inputs": "good"}).json()[0]["exit_layer"] == 6
        assert gate.steps == steps + 1 + 4  # the layer that ran when it went, and the next request's own


def test_a_reload_and_the_end_lose_no_text_between_the_models(start: Start, folder: Path, offline: Cascade) -> None:
    with start({"both": lambda: Cascade.from_pretrained(folder)}) as running, ThreadPoolExecutor(1) as pool:
        gate = running.gates["both/2"]
        gate.shut()
        waiting = pool.submit(running.client.post, "/predict", json={"inputs": TEXTS})
        assert gate.reached.wait(30)
        models = running.server.config.app.state.models
        reloaded = asyncio.run_coroutine_threadsafe(models.reload(), running.loop)
        running.until(lambda: 'outcome="done"' in running.client.get("/metrics").text)
        gate.open()
        reloaded.result(30)
        labels = [each[0]["label"] for each in waiting.result(30).json()]
        assert labels == [each.label for each in offline.predict(TEXTS)]
