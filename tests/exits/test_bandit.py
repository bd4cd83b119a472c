"""A threshold that is chosen online: what texts teach, what is saved of it, and several threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from elbert.errors import UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.exits.bandit import ARMS, Bandit, OnlineBandit
from elbert.results import LayerOutputs


def recorded(texts: int, rises: bool, seed: int = 0) -> LayerOutputs:
    """Texts that are 0.75 sure at layer 1 and, if confidence `rises`, by 0.04 more at every layer."""
    generator = torch.Generator().manual_seed(seed)
    sure = 0.75 + 0.04 * rises * torch.arange(6) + 0.01 * torch.rand(texts, 6, generator=generator)
    probs = torch.stack([sure, 1 - sure], -1)
    return LayerOutputs(probs.log(), probs, torch.full((texts,), 5))


def test_a_layer_is_bought_where_it_earns_its_cost() -> None:
    seen, none = recorded(200, rises=True), np.zeros(200)
    cheap, dear = (make("bandit", cost=cost).fit(seen, none) for cost in (0.01, 0.1))
    assert replay(cheap, seen).float().mean() > 5
    assert replay(dear, seen).float().mean() == 1
    flat = recorded(200, rises=False)
    assert replay(make("bandit", cost=0.01).fit(flat, none), flat).float().mean() == 1


def test_texts_that_change_change_the_threshold() -> None:
    online = OnlineBandit(Bandit.fresh(6, cost=0.02, curiosity=0.1))
    tops = []
    for rises in (True, False):
        for row in recorded(1500, rises=rises).probs.amax(-1).tolist():
            left = next((layer for layer, sure in enumerate(row) if sure >= online.policy.threshold), 5)
            online.observe(row[: left + 1])
        tops.append(online.policy.threshold)
    assert tops[0] > 0.8  # deep: every layer gives 0.04 for 0.02
    assert tops[1] < 0.75  # at once: no layer gives anything


def test_every_arm_is_tried_and_a_text_teaches_those_it_tells_of() -> None:
    policy = Bandit.fresh(3, cost=0.0)
    assert policy.threshold == ARMS[0]
    once = policy.observed([0.55, 0.82])  # left at layer 2
    known = [arm <= 0.82 for arm in ARMS]
    assert once.tensors()["tried"].tolist() == [float(each) for each in known]
    assert once.tensors()["passed"].tolist() == [float(0.55 < arm <= 0.82) for arm in ARMS]
    assert once.tensors()["gained"][ARMS.index(0.8)] == pytest.approx(0.27)
    assert once.threshold == 0.85  # the first never tried
    full = policy.observed([0.4, 0.5, 0.6])  # ran to the end: even arms that nothing reached are known
    assert full.tensors()["tried"].tolist() == [1.0] * len(ARMS)
    assert full.tensors()["passed"][-1] == 2
    assert not policy.tensors()["tried"].any()  # the first policy is what it was


def test_what_was_learnt_comes_back_from_what_is_saved() -> None:
    policy = Bandit.fresh(3).observed([0.6, 0.99]).observed([0.9])
    again = ExitPolicy.from_dict(policy.to_dict(), policy.tensors())
    assert isinstance(again, Bandit)
    assert again.threshold == policy.threshold
    assert again.observed([0.4, 0.5, 0.6]).tensors()["tried"].tolist() == [
        each + 1 for each in policy.tensors()["tried"].tolist()
    ]


def test_old_texts_count_less_and_each_new_one_still_counts() -> None:
    policy = Bandit.fresh(2)
    many = np.full(len(ARMS), 65_535.0)
    policy = policy.with_tensors({"tried": many, "gained": many * 0.125, "passed": many, "layers": 2})
    halved = policy.observed([0.5, 0.625]).tensors()
    assert halved["tried"].tolist() == [32_768.0] * len(ARMS)
    assert halved["gained"][-1] / halved["tried"][-1] == 0.125  # the mean is what it was
    again = policy.observed([0.5, 0.625]).observed([0.5, 0.625]).tensors()
    assert again["tried"].tolist() == [32_769.0] * len(ARMS)


def test_no_text_is_lost_where_several_threads_learn() -> None:
    online = OnlineBandit(Bandit.fresh(2))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: [online.observe([0.5, 0.6]) for _ in range(100)], range(8)))
    assert online.policy.tensors()["tried"].tolist() == [800.0] * len(ARMS)


def test_nothing_is_chosen_before_the_layers_are_known() -> None:
    with pytest.raises(UsageError, match="learned and not fitted"):
        _ = make("bandit").threshold
