from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elbert.engine import Arrival, Departures, Engine, Scheduler
from elbert.engine.layer_zero import bag
from elbert.exits import make, replay
from elbert.words import WordModel
from elbert.words.fit import fit_words


@pytest.fixture(scope="module")
def words() -> WordModel:
    """Sure of texts that hold the tokens 4 or 5, which tell the two classes apart; of no other."""
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 900)
    random.shuffle(told := np.arange(900) % 2 == 0)
    texts = [
        [1, *map(int, random.integers(8, 40, 6)), *([4 + int(label)] if tells else [])]
        for label, tells in zip(targets, told, strict=True)
    ]
    return fit_words(texts, targets, 2)


@pytest.fixture(scope="module")
def engine(words: WordModel, tiny_model: Callable[..., Any]) -> Engine:
    torch.manual_seed(0)
    return Engine(tiny_model(num_labels=2).weights(), words=words)


def some_texts(seed: int, count: int) -> list[Arrival]:
    random = np.random.default_rng(seed)
    texts = []
    for index in range(count):
        ids = [1, *map(int, random.integers(8, 40, random.integers(1, 9)))]
        texts.append(Arrival(index, ids + [4 + index % 2] * int(random.integers(0, 2))))
    return texts


def by_index(departures: Iterable[Departures]) -> dict[int, tuple[int, list[float], str]]:
    told: dict[int, tuple[int, list[float], str]] = {}
    for group in departures:
        rows = (group.index.tolist(), group.exit_layer.tolist(), group.probs.tolist(), group.cause)
        for index, layer, probs, cause in zip(*rows, strict=True):
            assert index not in told
            told[index] = (layer, probs, cause)
    return told


@given(seed=st.integers(0, 99), batch_size=st.integers(1, 9), threshold=st.sampled_from([0.5, 0.8, 0.95, 1.0]))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_texts_leave_where_replay_says_with_what_their_words_said(
    engine: Engine, seed: int, batch_size: int, threshold: float
) -> None:
    texts = some_texts(seed, 25)
    policy = make("entropy", threshold=0.6, words=threshold)
    told = by_index(engine.run(texts, policy, batch_size=batch_size))
    recorded = engine.record(texts)
    wanted = replay(policy, recorded)
    assert [told[index][0] for index in range(25)] == wanted.tolist()
    np.testing.assert_allclose([told[index][1] for index in range(25)], recorded.at(wanted), atol=1e-5)


def test_layer_0_is_off_where_the_policy_or_the_model_has_none(engine: Engine, tiny_model: Callable[..., Any]) -> None:
    texts = some_texts(0, 20)
    assert min(layer for layer, *_ in by_index(engine.run(texts, make("entropy", threshold=0.6))).values()) >= 1
    torch.manual_seed(0)
    without = Engine(tiny_model(num_labels=2).weights())
    bold = make("entropy", threshold=0.6, words=0.5)
    assert min(layer for layer, *_ in by_index(without.run(texts, bold)).values()) >= 1
    assert without.record(texts).words is None


def test_each_row_has_its_own_threshold_and_one_that_leaves_waits_for_no_place(
    engine: Engine, words: WordModel
) -> None:
    scheduler = Scheduler(
        engine.weights, engine.backend, make("full"), batch_size=1, mode="latency", words=engine.words
    )
    slow = [Arrival(index, [1, 9, 10, 4]) for index in range(3)]
    for arrival in slow:
        scheduler.admit(arrival)
    scheduler.step()
    scheduler.admit(Arrival(7, [1, 9, 10, 4], policy=make("full", words=0.9)))
    departures = scheduler.step()
    assert departures is not None
    assert departures.index.tolist() == [7]
    assert departures.exit_layer.tolist() == [0]
    assert departures.cause == ("rule",)
    np.testing.assert_allclose(departures.logits, words.logits(*bag([Arrival(7, [1, 9, 10, 4])])), atol=1e-6)
    left: dict[int, int] = {}
    while scheduler.busy:
        departures = scheduler.step(draining=True)
        if departures is not None:
            left |= dict(zip(departures.index.tolist(), departures.exit_layer.tolist(), strict=True))
    assert left == dict.fromkeys(range(3), engine.weights.num_layers)


def test_texts_are_cancelled_and_hurried_before_anybody_looked_at_their_words(engine: Engine) -> None:
    policy = make("full", words=0.9)
    scheduler = Scheduler(engine.weights, engine.backend, policy, batch_size=4, words=engine.words)
    scheduler.admit(Arrival(0, [1, 9, 10, 4]))  # would leave at layer 0
    scheduler.admit(Arrival(1, [1, 9, 10]))
    scheduler.admit(Arrival(2, [1, 9, 11]))
    assert scheduler.cancel(0)
    assert not scheduler.cancel(0)
    assert scheduler.hurry(2)
    told: dict[int, tuple[int, list[float], str]] = {}
    while scheduler.busy:
        departures = scheduler.step(draining=True)
        told |= by_index([departures]) if departures is not None else {}
    assert {index: (layer, cause) for index, (layer, _, cause) in told.items()} == {
        1: (engine.weights.num_layers, "last_layer"),
        2: (1, "hurried"),
    }


def test_however_many_leave_at_once_the_scheduler_says_that_it_is_full(engine: Engine) -> None:
    scheduler = Scheduler(engine.weights, engine.backend, make("full", words=0.9), batch_size=2, words=engine.words)
    admitted = 0
    while not scheduler.full:
        scheduler.admit(Arrival(admitted, [1, 9, 10, 4]))
        admitted += 1
    assert admitted <= 20
    departures = scheduler.step()
    assert departures is not None
    assert sorted(departures.index.tolist()) == list(range(admitted))
    assert not scheduler.busy
