"""How many tokens a schedule keeps, what that costs, and which schedules are refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elbert.errors import UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.exits.tokens import TokenSchedule, token_layers


def kept_of_one(schedule: TokenSchedule, length: int, ran: int) -> int:
    """Return what one row keeps, the obvious way: the least that any layer behind it asked for."""
    left = length
    for layer, kept in schedule.keep:
        if ran >= layer:
            left = min(left, max(1, math.ceil(round(kept * length, 6))) if kept <= 1 else int(kept))
    return left


SCHEDULES = st.sampled_from(
    [{"1": 0.5}, {"2": 0.7, "4": 0.1}, {"1": 12, "3": 4}, {"1": 0.9, "2": 8, "5": 0.25}, {"3": 1.0}, {"1": 1e-12}]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SCHEDULES, st.lists(st.integers(1, 300), min_size=1, max_size=9), st.integers(0, 9))
def test_every_row_keeps_and_costs_what_it_does_alone(values: dict[str, float], lengths: list[int], seed: int) -> None:
    schedule = TokenSchedule.from_dict(values)
    exit_layer = np.random.default_rng(seed).integers(0, 7, len(lengths))
    kept = schedule.kept(np.array(lengths), exit_layer)
    cost = token_layers(schedule, np.array(lengths), exit_layer)
    for length, left, here, spent in zip(lengths, exit_layer.tolist(), kept.tolist(), cost.tolist(), strict=True):
        assert here == kept_of_one(schedule, length, left)
        assert spent == sum(kept_of_one(schedule, length, ran) for ran in range(left))


def test_shares_are_rounded_up_and_counts_are_a_ceiling() -> None:
    lengths, behind = np.array([1, 3, 10, 100]), np.full(4, 2)
    assert TokenSchedule.from_dict({2: 0.07}).kept(lengths, behind).tolist() == [1, 1, 1, 7]
    assert TokenSchedule.from_dict({2: 10}).kept(lengths, behind).tolist() == [1, 3, 10, 10]
    assert TokenSchedule.from_dict({2: 1}).kept(lengths, behind).tolist() == lengths.tolist()
    assert TokenSchedule.from_dict({2: 0.07}).kept(lengths, behind - 1).tolist() == lengths.tolist()


def test_without_a_schedule_a_text_costs_its_tokens_at_every_layer_it_ran() -> None:
    assert token_layers(None, np.array([5, 7]), np.array([3, 0])).tolist() == [15, 0]


def test_a_policy_with_a_schedule_survives_json_whatever_the_order_of_layers() -> None:
    policy = make("entropy", tokens={"6": 16, "3": 0.5})
    saved = json.loads(json.dumps(policy.to_dict()))
    assert saved["tokens"] == {"3": 0.5, "6": 16, "score": "attention"}
    assert ExitPolicy.from_dict(saved) == policy
    assert hash(ExitPolicy.from_dict(saved)) == hash(policy)
    assert "tokens" not in make("entropy").to_dict()
    assert ExitPolicy.from_dict({"name": "entropy", "tokens": None}) == make("entropy")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (0.5, r"tokens is 0\.5; allowed: an object such as"),
        ({}, "no layer is named"),
        ({"score": "learned"}, "no layer is named"),
        ({"3": 0.5, "score": "attenton"}, "did you mean 'attention'"),
        ({"3": 0.5, "score": ["attention"]}, "score is .*llowed: attention, learned"),
        ({"three": 0.5}, "'three' is no layer; allowed: whole numbers"),
        ({"0": 0.5}, "0 is no layer"),
        ({2.5: 0.5}, "2.5 is no layer"),
        ({True: 0.5}, "True is no layer"),
        ({"3": 0}, "layer 3 keeps 0; allowed: a share above 0 and up to 1, or a count of 2 to 1,000,000 tokens"),
        ({"3": 10**400}, "layer 3 keeps 1000"),
        ({float("inf"): 0.5}, "inf is no layer"),
        ({"3": 1.5}, r"layer 3 keeps 1\.5"),
        ({"3": "half"}, "layer 3 keeps 'half'"),
        ({"3": True}, "layer 3 keeps True"),
        ({"3": float("nan")}, "layer 3 keeps nan"),
        ({"3": float("inf")}, "layer 3 keeps inf"),
        ({"3": 0.5, "03": 0.5}, "layer 3 is named twice"),
        ({"3": 0.5, "03": "half"}, "layer 3 is named twice"),
        ({"3": 0.3, "6": 0.5}, r"layer 6 keeps 0\.5, layer 3 before it only 0\.3"),
        ({"3": 16, "4": 0.5, "6": 32}, "layer 6 keeps 32, layer 3 before it only 16"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_in_one_line(values: Any, line: str) -> None:
    with pytest.raises(UsageError, match=line) as error:
        make("full", tokens=values)
    assert "\n" not in str(error.value)


def test_the_last_layer_has_nothing_behind_it() -> None:
    TokenSchedule.from_dict({"5": 0.5}).check_fits(6)
    with pytest.raises(UsageError, match="layer 6 is named, and the model has 6; allowed: 1 to 5"):
        TokenSchedule.from_dict({"2": 0.5, "6": 0.5}).check_fits(6)


def test_a_replay_wants_outputs_recorded_with_the_policys_tokens(make_outputs: Any) -> None:
    outputs = make_outputs(0)
    with pytest.raises(UsageError, match=r"keeps tokens \{'2': 0.5, .*\}, the outputs were recorded with None"):
        replay(make("entropy", tokens={2: 0.5}), outputs)
    assert len(replay(make("entropy", tokens={2: 0.5}), outputs.probs)) == len(outputs.probs)
