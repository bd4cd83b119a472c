"""The scheduler under simulated traffic: texts come, are cancelled and leave at drawn times; the model is a puppet."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from elbert.engine.requests import Arrival
from elbert.engine.rows.packed import Layout
from elbert.engine.scheduler import Mode, Scheduler
from elbert.errors import NotFiniteError, UsageError
from elbert.exits import make
from elbert.modeling.model import MultiExitModel
from elbert.modeling.weights import EncoderWeights

LAYERS = 6
MODES: tuple[Mode, ...] = ("throughput", "latency")


class Puppet:
    """A backend whose hidden state counts the layers run, and whose exits are sure from the layer a text's id names."""

    name = "puppet"
    dtype = torch.float32
    device = torch.device("cpu")
    shared_heads = True

    def __init__(self) -> None:
        self.steps: list[list[int]] = []  # first token of every row of every step
        self.tokens: list[int] = []
        self.embedded = 0

    def embed(self, ids: Tensor, token_types: Tensor | None, layout: Layout) -> Tensor:
        self.embedded += layout.rows
        return torch.stack((ids.float(), torch.zeros(layout.size)), 1)

    def step(self, hidden: Tensor, layout: Layout, depth: int) -> tuple[Tensor, Layout]:
        self.steps.append(hidden[layout.starts, 0].int().tolist())
        self.tokens.append(layout.tokens)
        return hidden + torch.tensor([0.0, 1.0]), layout

    def head(self, cls: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        sure = cls[:, 1] >= cls[:, 0] % 10
        return torch.where(sure[:, None], torch.tensor([9.0, -9.0]), torch.zeros(2)), cls


@cache
def weights(shared: bool) -> EncoderWeights:
    """Return a small model whose layers are one, or all different."""
    sizes = {"vocab_size": 30_000, "hidden_size": 4, "num_attention_heads": 1, "intermediate_size": 4, "num_labels": 2}
    depth = {"num_hidden_layers": LAYERS}
    if shared:
        config = AlbertConfig(embedding_size=4, **sizes, **depth)
        return MultiExitModel(AlbertForSequenceClassification(config)).weights()
    return MultiExitModel(BertForSequenceClassification(BertConfig(**sizes, **depth))).weights()


@dataclass
class Traffic:
    """What one simulated run did.

    Attributes:
        admitted: numbers of the texts in the order they were admitted.
        cancelled: numbers cancelled while they were here.
        exit_layer, length, came: what was drawn for each text: where it leaves, its tokens, the moment it came.
        left: the layer each departed text left at, by number.
        moments: the moment of each of the puppet's steps.
        most: texts that were in flight at once, at most.
    """

    admitted: list[int] = field(default_factory=list)
    cancelled: set[int] = field(default_factory=set)
    left: dict[int, int] = field(default_factory=dict)
    moments: list[int] = field(default_factory=list)
    most: int = 0
    came: dict[int, int] = field(default_factory=dict)
    exit_layer: dict[int, int] = field(default_factory=dict)
    length: dict[int, int] = field(default_factory=dict)


def simulate(
    seed: int,
    *,
    mode: Mode,
    shared: bool = True,
    texts: int = 60,
    batch_size: int = 4,
    max_tokens: int = 40,
    rate: float = 0.7,
    cancelling: float = 0.0,
) -> tuple[Traffic, Puppet]:
    """Let `texts` texts come at random moments, `rate` a step in the mean, and run until all have left."""
    chance = random.Random(seed)
    puppet, traffic = Puppet(), Traffic()
    scheduler = Scheduler(
        weights(shared),
        puppet,
        make("max_prob", threshold=0.9),
        batch_size=batch_size,
        max_tokens=max_tokens,
        mode=mode,
    )
    following, step = 0, 0
    while following < texts or scheduler.busy:
        while following < texts and chance.random() < rate and not scheduler.full:
            exit_layer, length = chance.randint(1, LAYERS), chance.choice((1, 2, 5, 12, 60))
            scheduler.admit(Arrival(following, [following * 10 + exit_layer] * length))
            traffic.admitted.append(following)
            traffic.came[following] = step
            traffic.exit_layer[following], traffic.length[following] = exit_layer, length
            following += 1
        if cancelling and chance.random() < cancelling and traffic.admitted:
            victim = chance.choice(traffic.admitted)
            stands = victim not in traffic.left and victim not in traffic.cancelled
            assert scheduler.cancel(victim) is stands
            traffic.cancelled |= {victim} if stands else set()
        departures = scheduler.step(draining=following == texts)
        if departures is not None:
            for index, layer in zip(departures.index.tolist(), departures.exit_layer.tolist(), strict=True):
                assert index not in traffic.left, "a text left twice"
                traffic.left[index] = layer
        here = len(traffic.admitted) - len(traffic.left) - len(traffic.cancelled)
        traffic.most = max(traffic.most, here)
        traffic.moments += [step] * (len(puppet.steps) - len(traffic.moments))
        step += 1
        assert step < 100 * texts, "somebody never leaves"
    return traffic, puppet


seeds = st.integers(0, 10_000)
simulated = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("mode", MODES)
@given(seed=seeds, cancelling=st.sampled_from([0.0, 0.3]))
@simulated
def test_every_text_leaves_once_at_its_own_layer_or_was_cancelled(
    mode: Mode, shared: bool, seed: int, cancelling: float
) -> None:
    traffic, _ = simulate(seed, mode=mode, shared=shared, cancelling=cancelling)

    assert set(traffic.left) | traffic.cancelled == set(traffic.admitted)
    assert not set(traffic.left) & traffic.cancelled
    assert all(layer == traffic.exit_layer[index] for index, layer in traffic.left.items())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("mode", MODES)
@given(seed=seeds)
@simulated
def test_first_come_is_first_served(mode: Mode, shared: bool, seed: int) -> None:
    _, puppet = simulate(seed, mode=mode, shared=shared)

    first_seen: list[int] = []
    for rows in puppet.steps:
        first_seen += [row // 10 for row in rows if row // 10 not in first_seen]
    assert first_seen == sorted(first_seen)


@given(seed=seeds)
@simulated
def test_with_shared_layers_nobody_pauses_and_nobody_waits_beside_a_free_place(seed: int) -> None:
    traffic, puppet = simulate(seed, mode="latency", batch_size=4, max_tokens=40)

    steps_of: dict[int, list[int]] = {index: [] for index in traffic.admitted}
    for number, rows in enumerate(puppet.steps):
        for row in rows:
            steps_of[row // 10].append(number)
    for index, steps in steps_of.items():
        assert steps == list(range(steps[0], steps[0] + traffic.exit_layer[index]))
    for number, rows in enumerate(puppet.steps):
        here = {index for index in traffic.admitted if traffic.came[index] <= traffic.moments[number]}
        waiting = [index for index in sorted(here) if steps_of[index][0] > number]
        if waiting:
            full = puppet.tokens[number] + traffic.length[waiting[0]] > 40
            assert full or len(rows) == 4, "a text waits beside a free place"


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("mode", MODES)
@given(seed=seeds)
@simulated
def test_steps_and_memory_are_bounded(mode: Mode, shared: bool, seed: int) -> None:
    traffic, puppet = simulate(seed, mode=mode, shared=shared, texts=80, batch_size=4, max_tokens=40, rate=0.95)

    assert max(map(len, puppet.steps)) <= 4
    assert all(tokens <= 40 or len(rows) == 1 for tokens, rows in zip(puppet.tokens, puppet.steps, strict=True))
    assert traffic.most <= ((2 * LAYERS + 2) * 4 if not shared else 3 * 4)


@given(seed=seeds)
@simulated
def test_for_latency_distinct_layers_serve_whoever_came_first(seed: int) -> None:
    traffic, puppet = simulate(seed, mode="latency", shared=False)

    still_here = set(traffic.admitted)
    runs = dict.fromkeys(traffic.admitted, 0)
    for rows in puppet.steps:
        here = [row // 10 for row in rows]
        assert min(still_here) in here, "a later text was stepped while an earlier one stood"
        for index in here:
            runs[index] += 1
            if runs[index] == traffic.exit_layer[index]:
                still_here.remove(index)


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_text_frees_its_place_for_the_next_step(mode: Mode) -> None:
    puppet = Puppet()
    scheduler = Scheduler(weights(True), puppet, make("full"), batch_size=2, mode=mode)
    for index in range(3):
        scheduler.admit(Arrival(index, [index * 10]))
    scheduler.step()
    assert scheduler.cancel(0)
    scheduler.step()

    assert [row // 10 for row in puppet.steps[0]] == [0, 1]
    assert [row // 10 for row in puppet.steps[1]] == [1, 2]


@pytest.mark.parametrize("mode", MODES)
def test_cancelling_the_only_text_leaves_nothing_to_do(mode: Mode) -> None:
    scheduler = Scheduler(weights(False), Puppet(), make("full"), mode=mode)
    scheduler.admit(Arrival(7, [1]))
    scheduler.step(draining=True)

    assert scheduler.cancel(7)
    assert not scheduler.cancel(7)
    assert not scheduler.busy
    assert scheduler.step(draining=True) is None


def test_for_latency_no_text_is_embedded_before_the_step_that_runs_it() -> None:
    puppet = Puppet()
    scheduler = Scheduler(weights(True), puppet, make("full"), batch_size=2, mode="latency")
    for index in range(5):
        scheduler.admit(Arrival(index, [index]))
    scheduler.step()

    assert puppet.embedded == 2
    assert list(map(len, puppet.steps)) == [2]


@pytest.mark.parametrize("shared", [True, False])
def test_a_hard_text_among_easy_ones_without_end_leaves_all_the_same(shared: bool) -> None:
    scheduler = Scheduler(weights(shared), Puppet(), make("max_prob", threshold=0.9), batch_size=4)
    scheduler.admit(Arrival(0, [LAYERS]))
    for index in range(1, 2000):
        while scheduler.full:
            departures = scheduler.step()
            if departures is not None and 0 in departures.index:
                assert index <= 64 * 4 + LAYERS * 4 + 8  # its patience, and the steps of everybody else meanwhile
                return
        scheduler.admit(Arrival(index, [index * 10 + 1]))
    pytest.fail("the first text never left")


class Tripping(Puppet):
    """A puppet that is interrupted once in the method named, at its `calls`-th call."""

    def __init__(self, method: str, calls: int) -> None:
        super().__init__()
        plain, made = getattr(self, method), 0

        def tripping(*given: Any) -> Any:
            nonlocal made
            made += 1
            if made == calls:
                raise KeyboardInterrupt
            return plain(*given)

        setattr(self, method, tripping)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["embed", "step", "head"])
@pytest.mark.parametrize("calls", [1, 3])
def test_a_step_that_is_interrupted_loses_nobody(shared: bool, mode: Mode, method: str, calls: int) -> None:
    scheduler = Scheduler(
        weights(shared), Tripping(method, calls), make("max_prob", threshold=0.9), batch_size=4, mode=mode
    )
    for index in range(9):
        scheduler.admit(Arrival(index, [index * 10 + 1 + index % LAYERS]))
    left: dict[int, int] = {}
    interrupts = 0
    while scheduler.busy:
        try:
            departures = scheduler.step(draining=True)
        except KeyboardInterrupt:
            interrupts += 1
            continue
        if departures is not None:
            assert not set(departures.index.tolist()) & set(left), "a text left twice"
            assert departures.failed == ()
            left |= dict(zip(departures.index.tolist(), departures.exit_layer.tolist(), strict=True))

    assert interrupts == 1
    assert left == {index: 1 + index % LAYERS for index in range(9)}


class Choking(Puppet):
    """A puppet that raises in the method named as long as one text is among the rows."""

    def __init__(self, method: str, text: int) -> None:
        super().__init__()
        plain = getattr(self, method)

        def choking(given: Tensor, *rest: Any) -> Any:
            numbers = given if given.dim() == 1 else given[:, 0]
            if (numbers.int() // 10 == text).any():
                raise MemoryError("too large")
            return plain(given, *rest)

        setattr(self, method, choking)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("method", "where"), [("embed", "the embedding"), ("step", "layer 1"), ("head", "layer 1")], ids=lambda each: each
)
def test_a_row_that_the_backend_raises_for_fails_alone(shared: bool, mode: Mode, method: str, where: str) -> None:
    policy = make("max_prob", threshold=0.9)
    scheduler = Scheduler(weights(shared), Choking(method, 5), policy, batch_size=4, mode=mode)
    for index in range(9):
        scheduler.admit(Arrival(index, [index * 10 + 1 + index % LAYERS]))
    left: dict[int, int] = {}
    failed: list[tuple[int, str]] = []
    while scheduler.busy:
        departures = scheduler.step(draining=True)
        if departures is not None:
            left |= dict(zip(departures.index.tolist(), departures.exit_layer.tolist(), strict=True))
            failed += [(each.index, each.reason) for each in departures.failed]

    assert failed == [(5, f"text 6 failed in {where}: MemoryError: too large")]
    assert left == {index: 1 + index % LAYERS for index in range(9) if index != 5}


@pytest.mark.parametrize("shared", [True, False])
def test_a_text_that_is_not_finite_is_named_and_leaves_its_neighbours_alone(shared: bool) -> None:
    class Poisoned(Puppet):
        def head(self, cls: Tensor, depth: int) -> tuple[Tensor, Tensor]:
            logits, pooled = super().head(cls, depth)
            return torch.where((cls[:, :1] // 10 == 5) & (cls[:, 1:] == 2), math.nan, logits), pooled

    scheduler = Scheduler(weights(shared), Poisoned(), make("max_prob", threshold=0.9), batch_size=4)
    for index in (3, 4, 5, 6):
        scheduler.admit(Arrival(index, [index * 10 + 3]))
    scheduler.step(draining=True)
    departures = scheduler.step(draining=True)
    assert departures is not None
    (failure,) = departures.failed
    left: list[int] = []
    while scheduler.busy:
        departures = scheduler.step(draining=True)
        left += departures.index.tolist() if departures is not None else []

    assert failure.index == 5
    assert isinstance(failure.error, NotFiniteError)
    assert failure.reason.startswith("the exit output of text 6 at layer 2 is NaN or infinite (1 such in all)")
    assert not scheduler.cancel(5)
    assert left == [3, 4, 6]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lengths", [[512], [100], [1, 3, 512, 40]])
def test_texts_embedded_ahead_are_bounded_by_tokens_too(mode: Mode, lengths: list[int]) -> None:
    class Counting(Puppet):
        most = 0

        def embed(self, ids: Tensor, token_types: Tensor | None, layout: Layout) -> Tensor:
            self.most = max(self.most, layout.tokens if layout.rows > 1 else 0)
            return super().embed(ids, token_types, layout)

    puppet = Counting()
    scheduler = Scheduler(weights(True), puppet, make("full"), batch_size=1024, max_tokens=512, mode=mode)
    for index in range(200):
        scheduler.admit(Arrival(index, [1] * lengths[index % len(lengths)]))
    left = 0
    while scheduler.busy:
        departures = scheduler.step(draining=True)
        left += len(departures.index) if departures is not None else 0
    assert left == 200
    assert puppet.most <= 512


@pytest.mark.parametrize("mode", MODES)
@given(seed=seeds)
@simulated
def test_higher_priorities_go_first_and_within_one_whoever_came_first(mode: Mode, seed: int) -> None:
    chance, puppet = random.Random(seed), Puppet()
    scheduler = Scheduler(weights(True), puppet, make("full"), batch_size=2, mode=mode)
    priorities = [chance.randint(-1, 2) for _ in range(20)]
    for index, priority in enumerate(priorities):
        scheduler.admit(Arrival(index, [index * 10], priority=priority))
    left: list[int] = []
    while scheduler.busy:
        departures = scheduler.step(draining=True)
        left += departures.index.tolist() if departures is not None else []
    assert left == sorted(range(20), key=lambda index: (-priorities[index], index))


def test_a_low_priority_does_not_wait_for_ever() -> None:
    scheduler = Scheduler(weights(True), Puppet(), make("fixed", layer=1), batch_size=2)
    scheduler.admit(Arrival(0, [1], priority=-5))
    for index in range(1, 1000):
        scheduler.admit(Arrival(index, [1], priority=index % 3))
        departures = scheduler.step() if scheduler.full else None
        if departures is not None and 0 in departures.index:
            assert index <= 64 * 2 + 2 * 4
            return
    pytest.fail("the first text never left")


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_hurried_text_leaves_at_its_next_exit_and_one_that_waits_goes_first(mode: Mode, shared: bool) -> None:
    scheduler = Scheduler(weights(shared), Puppet(), make("full"), batch_size=2, mode=mode)
    for index in range(6):
        scheduler.admit(Arrival(index, [index * 10]))
    scheduler.step(draining=True)
    assert scheduler.hurry(1)
    assert scheduler.hurry(5)
    assert not scheduler.hurry(6)
    left: dict[int, tuple[int, str]] = {}
    while scheduler.busy:
        departures = scheduler.step(draining=True)
        if departures is not None:
            rows = zip(departures.exit_layer.tolist(), departures.cause, strict=True)
            left |= dict(zip(departures.index.tolist(), rows, strict=True))

    assert next(iter(left)) == 1
    assert left.pop(1) == (2, "hurried")
    assert left.pop(5) == (1, "hurried")
    assert set(left.values()) == {(LAYERS, "last_layer")}


def test_an_index_is_here_once_and_may_come_again() -> None:
    scheduler = Scheduler(weights(True), Puppet(), make("fixed", layer=1))
    scheduler.admit(Arrival(3, [1]))
    with pytest.raises(UsageError, match="text 4 is here already"):
        scheduler.admit(Arrival(3, [1]))
    scheduler.step()
    assert not scheduler.busy
    scheduler.admit(Arrival(3, [1]))


@pytest.mark.parametrize("tokens", [0, 513])
def test_a_text_the_model_cannot_read_is_refused_at_the_door(tokens: int) -> None:
    scheduler = Scheduler(weights(True), Puppet(), make("full"))
    with pytest.raises(UsageError, match=rf"text 8 has {tokens} tokens; allowed: 1 to 512"):
        scheduler.admit(Arrival(7, [1] * tokens))
    assert not scheduler.busy
