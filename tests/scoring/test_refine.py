from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike

from elbert.exits import ExitPolicy, get, make
from elbert.exits.elbert import Elbert
from elbert.exits.tokens import TokenSchedule
from elbert.results import LayerOutputs
from elbert.scoring.curves import replay_all
from elbert.scoring.refine import refined

LAYERS = 12


@pytest.fixture(scope="module")
def unsure() -> LayerOutputs:
    """Two classes, and exits so unsure that no entropy lies below 0.9 before the last layers."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(400, LAYERS, 2)) * np.linspace(0.1, 0.6, LAYERS)[None, :, None]
    said = torch.from_numpy(logits).float()
    return LayerOutputs(said, torch.softmax(said, -1), torch.full((400,), 9), words=torch.full((400, 2), 0.5))


def depths(policies: list[ExitPolicy], outputs: LayerOutputs) -> list[float]:
    return sorted(replay_all(policies, outputs).exit_layer.mean(1).tolist())


def settings(policies: list[ExitPolicy], outputs: LayerOutputs, gap: float | None = None) -> list[ExitPolicy]:
    return list(refined(policies, outputs, gap).policies)


def unsure_with_states(outputs: LayerOutputs) -> LayerOutputs:
    return replace(outputs, pooled=outputs.logits.repeat(1, 1, 4))


def same(tensors: Mapping[str, ArrayLike], others: Mapping[str, ArrayLike]) -> bool:
    return tensors.keys() == others.keys() and all(np.array_equal(tensors[key], others[key]) for key in tensors)


@pytest.mark.parametrize("name", ["entropy", "max_prob", "energy", "any", "all"])
def test_no_rule_steps_over_layers_for_want_of_settings(unsure: LayerOutputs, name: str) -> None:
    grid = get(name).grid(LAYERS, 2)
    assert max(high - low for low, high in pairwise(depths(grid, unsure))) > 3
    fine = settings(grid, unsure)
    assert fine[: len(grid)] == grid
    assert max(high - low for low, high in pairwise(depths(fine, unsure))) <= 1


@pytest.mark.parametrize("tokens", [None, TokenSchedule(((1, 0.5),))])
def test_what_comes_back_are_the_replays_of_all_of_them(unsure: LayerOutputs, tokens: TokenSchedule | None) -> None:
    outputs = replace(unsure, tokens=tokens)
    found = refined([replace(each, tokens=tokens) for each in get("entropy").grid(LAYERS, 2)], outputs)
    again = replay_all(found.policies, outputs)
    assert len(found.policies) > 16
    for name in ("exit_layer", "answers", "layer_0_cost", "words", "ran"):
        assert np.array_equal(getattr(found, name), getattr(again, name)), name


def test_settings_are_put_between_those_that_differ_in_one_number_alone(unsure: LayerOutputs) -> None:
    fine = settings([Elbert(1.0, 4), Elbert(0.5, 4), Elbert(0.5, None)], unsure)
    assert {each.window for each in fine[3:] if isinstance(each, Elbert)} == {4}
    assert all(0.5 < each.threshold < 1 for each in fine[3:] if isinstance(each, Elbert))


def test_every_rule_of_a_combined_one_is_looked_at(unsure: LayerOutputs) -> None:
    rules = [(make("entropy", threshold=at), make("max_prob", threshold=0.7)) for at in (0.5, 1.0)]
    rules += [(make("entropy", threshold=0.5), make("max_prob", threshold=0.5))]
    grid = [make("any", policies=each) for each in rules]
    found = {tuple(rule.threshold for rule in each.policies) for each in settings(grid, unsure)}  # type: ignore[attr-defined]
    assert {first for first, _ in found} > {0.5, 1.0}
    assert {second for _, second in found} > {0.5, 0.7}
    assert all(0.5 in each or each[1] == 0.7 for each in found), "one number at a time"


def test_settings_without_such_a_number_stay_as_they_are(unsure: LayerOutputs) -> None:
    grid = [*get("fixed").grid(LAYERS, 2), *get("patience").grid(LAYERS, 2), make("full")]
    assert settings(grid, unsure) == grid


def test_what_else_a_setting_holds_goes_with_those_between(unsure: LayerOutputs) -> None:
    targets = np.arange(400) % 2
    fitted = make("certainty").fit(unsure_with_states(unsure), targets)
    grid = [replace(fitted, threshold=at, words=0.9) for at in (0.3, 0.7)]
    fine = settings(grid, unsure_with_states(unsure))
    assert len(fine) > len(grid)
    assert {each.words for each in fine} == {0.9}
    assert all(same(each.tensors(), fitted.tensors()) for each in fine)


def test_how_far_apart_they_may_lie_can_be_said(unsure: LayerOutputs) -> None:
    grid = [*get("entropy").grid(LAYERS, 2), make("full")]
    gaps = [[b - a for a, b in pairwise(depths(settings(grid, unsure, gap), unsure))] for gap in (0.8, 2.0)]
    assert max(gaps[0]) <= 0.8 < max(gaps[1]) <= 2
