"""Keys whose texts go too deep: what they may cost is bounded, others notice nothing, the operator is told."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from elbert.serving.budgets import Budgets, KeyBudget
from elbert.serving.metrics import Metrics
from elbert.serving.refusals import Refusal
from elbert.serving.settings import ServeSettings
from tests.serving.conftest import Start

DEEP = {"inputs": "good", "parameters": {"level": 0}}
HEADERS = [{"authorization": f"Bearer {key}"} for key in ("first", "second")]


def run(budget: KeyBudget, wants: int, texts: int) -> list[int]:
    """Return what texts ran that would go to layer `wants`, one after the other."""
    found = []
    for _ in range(texts):
        found.append(min(wants, budget.ceiling(12)))
        budget.spend(found[-1])
    return found


def test_a_stream_of_deep_texts_comes_down_to_the_mean_and_a_shallow_one_is_never_cut() -> None:
    deep = run(KeyBudget(12, 2.5, None, lambda: 0.0), 12, 1000)
    assert deep[:8] == [12] * 8  # what was saved up
    assert sum(deep) <= 2.5 * 1000 + 8 * 12
    assert set(deep[-100:]) == {2, 3}
    assert run(KeyBudget(12, 2.5, None, lambda: 0.0), 2, 1000) == [2] * 1000


def test_texts_under_way_at_once_overdraw_a_budget_and_later_ones_make_up_for_it() -> None:
    budget = KeyBudget(12, 2.0, None, lambda: 0.0)
    ceilings = [budget.ceiling(12) for _ in range(40)]
    assert ceilings == [12] * 40
    for _ in ceilings:
        budget.spend(12)
    assert sum(run(budget, 12, 1000)) + 40 * 12 <= 2.0 * 1040 + 8 * 12


def test_layers_of_a_second_are_refused_when_spent_and_come_back() -> None:
    now = 0.0
    budget = KeyBudget(12, None, 6.0, lambda: now)
    for _ in range(5):  # ten seconds' worth were saved up
        budget.check()
        budget.spend(12)
    budget.spend(12)  # a text that was let in before
    with pytest.raises(Refusal, match="allowed: 6 a second") as refused:
        budget.check()
    assert (refused.value.status, refused.value.retry_after) == (429, 3)
    now = 3.0
    budget.check()


def test_a_key_whose_texts_go_deep_is_called_abnormal_once_and_until_they_do_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "elbert.serving")
    metrics = Metrics()
    budgets = Budgets("tiny", 12, ServeSettings(api_keys=("a", "b")), metrics, lambda: 0.0)

    def seen(name: str, key: str) -> Any:
        return metrics.registry.get_sample_value(f"elbert_{name}", {"model": "tiny", "key": key})

    for _ in range(200):
        budgets.left(0, 3, "budget", 2.0)  # it would have gone on, maybe to layer 12
        budgets.left(1, 2, "rule", 2.0)
        budgets.left(1, 12, "rule", None)  # a policy without evidence is nobody's measure
    assert (seen("key_abnormal", "0"), seen("key_depth", "0")) == (1, pytest.approx(6.0))
    assert (seen("key_abnormal", "1"), seen("key_depth", "1")) == (None, pytest.approx(1.0))
    assert [each.getMessage().partition(":")[0] for each in caplog.records] == ["model tiny"]
    assert "key 0 go 6.0 times as deep" in caplog.text
    for _ in range(600):
        budgets.left(0, 2, "rule", 2.0)
    assert seen("key_abnormal", "0") == 0


def test_a_key_that_has_spent_its_layers_gets_fewer_and_another_all(start: Start) -> None:
    with start(api_keys=("first", "second"), key_layers_per_text=1.0) as running:

        def depths(key: int, count: int) -> list[int]:
            said = [running.client.post("/predict", json=DEEP, headers=HEADERS[key]).json()[0] for _ in range(count)]
            assert {each["cause"] for each in said if each["exit_layer"] < 4} <= {"budget"}
            return [each["exit_layer"] for each in said]

        spent = depths(0, 14)
        assert (spent[0], spent[-1]) == (4, 1)
        assert depths(1, 3) == [4, 4, 4]


def test_a_key_over_its_layers_a_second_is_refused_by_every_route(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(key_layers_per_second=1.0) as running:
        model = running.server.config.app.state.models.find(None)
        monkeypatch.setattr(
            model.books.budgets.of(0), "_clock", lambda: model.books.budgets.of(0)._filled
        )  # time stands still
        assert [running.client.post("/trace", json={"inputs": "good"}).status_code for _ in range(3)] == [200] * 3
        for path in ("/predict", "/trace"):
            said = running.client.post(path, json={"inputs": "good"})
            assert (said.status_code, said.headers["retry-after"]) == (429, "3")
        assert running.client.post("/v1/classify", json={"input": "good"}).status_code == 429
        assert "spent its layers" in running.client.post("/predict/stream", content=b'"good"\n').json()["error"]
