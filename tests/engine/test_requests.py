"""Rows of different policies, ceilings and priorities in one scheduler, bad ones too: each as if it were alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AlbertConfig, AlbertForSequenceClassification, BertConfig, BertForSequenceClassification

from elbert.engine import Arrival, Engine, Failure, Mode, Scheduler
from elbert.errors import ElbertError, NotFiniteError, UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.modeling.model import MultiExitModel
from elbert.modeling.weights import EncoderWeights
from elbert.results import ExitOutput, LayerOutputs

LAYERS = 6
VOCABULARY = 50
POISON = VOCABULARY - 1  # its embedding is NaN
EDGE = 1e-5  # scores this close to a threshold may fall on either side of it, by rounding alone


@dataclass(frozen=True)
class Broken(ExitPolicy):
    """Raises at its second layer."""

    name: ClassVar[str] = "broken"
    summary: ClassVar[str] = "for a test"
    citation: ClassVar[str] = "no paper"

    def decide(self, state: Any, output: ExitOutput, layer: Any) -> Any:
        if (layer >= 2).any():
            raise ZeroDivisionError("of no use")
        return {"fired": layer > LAYERS}, state


@dataclass(frozen=True)
class Late(ExitPolicy):
    """Counts the exits it is shown, and says that it need not see the first ones."""

    name: ClassVar[str] = "late"
    summary: ClassVar[str] = "for a test"
    citation: ClassVar[str] = "no paper"

    def start(self, rows: int, num_labels: int) -> Any:
        return {"seen": np.zeros(rows, np.int64)}

    def earliest(self, num_layers: int) -> int:
        return 3

    def decide(self, state: Any, output: ExitOutput, layer: Any) -> Any:
        seen = state["seen"] + 1
        return {"fired": (seen >= 4) | ((layer >= 3) & (output.probs.max(-1) > 0.6))}, {"seen": seen}


POLICIES = (
    make("elbert", threshold=0.5, window=3),
    make("max_prob", threshold=0.6),
    make("patience", patience=2),
    make("fixed", layer=4),
    Late(),
)
BROKEN = Broken()


@cache
def engine_of(shared: bool) -> Engine:
    """Return the engine of a random model whose last token is not finite."""
    torch.manual_seed(7)
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": 64,
        "num_labels": 3,
        "initializer_range": 0.2,
    }
    backbone: Any
    if shared:
        backbone = AlbertForSequenceClassification(AlbertConfig(embedding_size=16, **sizes)).eval()
    else:
        backbone = BertForSequenceClassification(BertConfig(**sizes)).eval()
    weights: EncoderWeights = MultiExitModel(backbone, "shared" if shared else "full").eval().weights()
    word = weights.embedding.word.detach().clone()
    word[POISON] = float("nan")
    return Engine(replace(weights, embedding=replace(weights.embedding, word=word)))


@cache
def alone(shared: bool) -> tuple[list[Arrival], LayerOutputs]:
    """Return texts that no policy leaves to rounding, and what every exit says of each, one by one."""
    chance = random.Random(3)
    texts = []
    for index in range(80):
        ids = [chance.randrange(POISON) for _ in range(chance.randint(1, 40))]
        types = [int(place > len(ids) // 2) for place in range(len(ids))] if index % 3 == 0 else None
        texts.append(Arrival(index, ids, types))
    outputs = engine_of(shared).record(texts, batch_size=1)
    generator = torch.Generator().manual_seed(0)
    stable = torch.ones(len(texts), dtype=torch.bool)
    for _ in range(8):
        nudge = EDGE * torch.randn(outputs.probs.shape, generator=generator)
        shaken = replace(outputs, probs=(outputs.probs + nudge).clamp(0, 1))
        for policy in POLICIES:
            stable &= torch.as_tensor(replay(policy, shaken) == replay(policy, outputs))
    chosen = stable.nonzero().flatten()
    assert len(chosen) >= 40
    kept = replace(outputs, logits=outputs.logits[chosen], probs=outputs.probs[chosen], lengths=outputs.lengths[chosen])
    return [texts[index] for index in chosen.tolist()], kept


@cache
def replayed(shared: bool) -> dict[int, list[int]]:
    """Return where each policy, by its number, lets every text leave."""
    _, outputs = alone(shared)
    return {number: replay(policy, outputs).tolist() for number, policy in enumerate(POLICIES)}


def ran(scheduler: Scheduler, index: int) -> int:
    """Return the layers a row has run."""
    for rows in scheduler._pools.held.values():
        if index in rows.index:
            return int(rows.ran[rows.index == index][0])
    return 0


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("mode", ["throughput", "latency"])
@given(seed=st.integers(0, 10_000), batch_size=st.sampled_from([1, 3, 8, 32]))
@settings(max_examples=30, deadline=None)
def test_every_row_leaves_where_replay_says_whoever_is_beside_it(
    mode: Mode, shared: bool, seed: int, batch_size: int
) -> None:
    chance = random.Random(seed)
    texts, outputs = alone(shared)
    engine, due = engine_of(shared), replayed(shared)
    scheduler = Scheduler(
        engine.weights,
        engine.backend,
        POLICIES[0],
        batch_size=batch_size,
        max_tokens=chance.choice([40, 1024]),
        mode=mode,
    )
    place = [chance.randrange(len(texts)) for _ in range(40)]  # the text of each row
    number = [chance.choice([None, 0, 1, 2, 3, 4]) for _ in place]  # its policy
    ceiling = [chance.choice([None, None, *range(1, LAYERS + 1)]) for _ in place]
    kind = [chance.choice(["good"] * 6 + ["poisoned", "broken"]) for _ in place]
    hurried: dict[int, int] = {}
    cancelled: set[int] = set()
    left: dict[int, tuple[int, str]] = {}
    failed: dict[int, Failure] = {}
    following = 0
    while following < len(place) or scheduler.busy:
        while following < len(place) and chance.random() < 0.7 and not scheduler.full:
            text, policy = texts[place[following]], number[following]
            chosen = None if policy is None else POLICIES[policy]
            ids = [*text.ids[:-1], POISON] if kind[following] == "poisoned" else text.ids
            scheduler.admit(
                Arrival(
                    following,
                    ids,
                    text.token_types,
                    BROKEN if kind[following] == "broken" else chosen,
                    ceiling[following],
                    chance.randint(0, 2),
                )
            )
            following += 1
        here = [row for row in range(following) if row not in {*left, *failed, *cancelled}]
        if here and chance.random() < 0.15:
            row = chance.choice(here)
            hurried.setdefault(row, ran(scheduler, row) + 1)
            assert scheduler.hurry(row)
        elif here and chance.random() < 0.1:
            row = chance.choice(here)
            assert scheduler.cancel(row)
            cancelled.add(row)
        departures = scheduler.step(draining=following == len(place))
        if departures is None:
            continue
        failed |= {each.index: each for each in departures.failed}
        rows = zip(departures.index.tolist(), departures.exit_layer.tolist(), departures.cause, strict=True)
        for at, (row, layer, cause) in enumerate(rows):
            assert row not in left
            left[row] = (layer, cause)
            expected = outputs.logits[place[row], layer - 1]
            torch.testing.assert_close(departures.logits[at], expected, atol=1e-5, rtol=0)

    assert {*left, *failed, *cancelled} == set(range(len(place)))
    for row, (layer, cause) in left.items():
        limits = {"hurried": hurried.get(row, 99), "budget": ceiling[row] or 99, "last_layer": LAYERS}
        if kind[row] == "good":
            rule = due[number[row] or 0][place[row]]
            limits["rule"] = rule if rule < LAYERS else 99
        assert layer == min(limits.values())
        assert limits[cause] == layer
        assert kind[row] == "good" or (kind[row] == "broken" and layer == 1)
    for row, failure in failed.items():
        assert kind[row] != "good"
        assert failure.reason.startswith(f"text {row + 1} failed") == (kind[row] == "broken")
        assert isinstance(failure.error, NotFiniteError) == (kind[row] == "poisoned")
        assert f"text {row + 1} " in failure.reason


def test_a_policys_mistake_is_told_with_its_name_and_what_it_raised() -> None:
    engine = engine_of(True)
    with pytest.raises(
        ElbertError, match=r"text 1 failed in exit policy 'broken': ZeroDivisionError: of no use"
    ) as told:
        list(engine.run([Arrival(0, [1, 2])], BROKEN))
    assert isinstance(told.value.__cause__, ZeroDivisionError)


def test_a_policy_that_does_not_say_yes_or_no_per_row_fails_in_one_line() -> None:
    @dataclass(frozen=True)
    class Single(Broken):
        def decide(self, state: Any, output: ExitOutput, layer: Any) -> Any:
            return {"fired": np.array([True])}, state

    texts = [Arrival(index, [1, 2]) for index in range(2)]
    with pytest.raises(ElbertError, match=r"it returned bool of shape \(1,\) for 2 rows; allowed: one bool per row"):
        list(engine_of(True).run(texts, Single()))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 32])
def test_a_policy_that_keeps_state_and_looks_late_is_shown_every_exit_as_in_a_replay(batch_size: int) -> None:
    texts, outputs = alone(True)
    numbered = [replace(text, index=place) for place, text in enumerate(texts)]
    given_ = {
        index: layer
        for group in engine_of(True).run(numbered, Late(), batch_size=batch_size)
        for index, layer in zip(group.index.tolist(), group.exit_layer.tolist(), strict=True)
    }
    assert [given_[place] for place in range(len(texts))] == replay(Late(), outputs).tolist()


def arrival(**changed: Any) -> Arrival:
    """Return a good text but for what is changed."""
    return replace(Arrival(7, [1, 2, 3]), **changed)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"ids": []}, "text 8 has 0 tokens; allowed: 1 to 64: the tokenizer has to add"),
        ({"ids": [1] * 65}, "text 8 has 65 tokens; allowed: 1 to 64: cut it off"),
        ({"ids": [1, 50]}, "text 8 has the token id 50; allowed: 0 to 49: is the tokenizer"),
        ({"ids": [1, -1]}, "text 8 has the token id -1; allowed: 0 to 49"),
        ({"token_types": [0, 1]}, "text 8 has 2 token types; allowed: 3, one per token"),
        ({"token_types": [0, 1, 1, 1]}, "text 8 has 4 token types; allowed: 3"),
        ({"token_types": []}, "text 8 has 0 token types; allowed: 3"),
        ({"token_types": [0, 1, 2]}, "text 8 has the token type 2; allowed: 0 to 1"),
        ({"policy": "elbert"}, "text 8 has the policy 'elbert'; allowed: an ExitPolicy"),
        ({"last_layer": 0}, "text 8 has the last layer 0; allowed: 1 to 6, or None"),
        ({"last_layer": 7}, "text 8 has the last layer 7; allowed: 1 to 6"),
        ({"last_layer": True}, "text 8 has the last layer True; allowed"),
        ({"priority": "high"}, "text 8 has the priority 'high'; allowed: a whole number"),
    ],
)
def test_what_the_model_cannot_read_is_refused_at_the_door_and_nobody_else_hears_of_it(
    changed: dict[str, Any], line: str
) -> None:
    engine = engine_of(True)
    scheduler = Scheduler(engine.weights, engine.backend, make("fixed", layer=2))
    scheduler.admit(Arrival(0, [4, 5, 6]))
    with pytest.raises(UsageError) as refused:
        scheduler.admit(arrival(**changed))
    assert str(refused.value).startswith(line)
    scheduler.step()
    departures = scheduler.step(draining=True)
    assert departures is not None
    assert departures.index.tolist() == [0]
    assert departures.cause == ("rule",)
    assert not scheduler.busy


def test_a_run_tells_the_first_bad_text_after_what_left_with_it() -> None:
    texts = [Arrival(0, [1, 2]), Arrival(1, [1, POISON]), Arrival(2, [3]), Arrival(3, [POISON])]
    run = engine_of(True).run(texts, make("fixed", layer=1))
    assert sorted(next(run).index.tolist()) == [0, 2]
    with pytest.raises(NotFiniteError, match=r"text [24] at layer 1 .*\(2 such in all\)") as told:
        next(run)
    assert sorted(told.value.rows) == [1, 3]
