"""ELBERT's windows by hand: what each criterion sees, where it starts, and how it meets PABEE."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbert.exits import make, replay
from elbert.exits.elbert import Elbert

MULTI, REGRESSION = "multi_label_classification", "regression"


def leaves(rows: list[Any], problem_type: Any = None, **parameters: Any) -> int:
    """Return the exit layer of one text with outputs `rows`: [M][C], or [M] of P(class 1) or of regression values."""
    if not isinstance(rows[0], list):
        rows = [[value] for value in rows] if problem_type == REGRESSION else [[1 - value, value] for value in rows]
    policy = make("elbert", **{"threshold": 0.0, "window": 3} | parameters)
    return int(replay(policy, torch.tensor([rows]), problem_type))


def test_monotone_leaves_when_the_label_of_both_ends_never_loses_probability() -> None:
    assert leaves([0.9, 0.6, 0.7, 0.7, 0.8]) == 4


def test_monotone_never_leaves_before_layer_n() -> None:
    assert leaves([0.6, 0.7, 0.8, 0.9, 0.9]) == 3
    assert leaves([0.6, 0.7, 0.8, 0.9, 0.9], window=4) == 4


def test_monotone_needs_the_same_label_at_both_ends() -> None:
    assert leaves([0.4, 0.6, 0.7, 0.65, 0.6]) == 5


def test_monotone_lets_another_class_lead_in_between() -> None:
    # Class 0 rises throughout, although class 1 has its turn at layer 2.
    rows = [[0.40, 0.35, 0.25], [0.41, 0.55, 0.04], [0.50, 0.30, 0.20], [0.1, 0.1, 0.8]]
    assert leaves(rows) == 3
    assert leaves(rows, criterion="agreement") == 4


def test_range_watches_the_spread_of_the_greatest_probability() -> None:
    assert leaves([0.90, 0.80, 0.84, 0.83, 0.9], criterion="range", tolerance=0.045) == 4
    assert leaves([0.90, 0.80, 0.84, 0.83, 0.9], criterion="range", tolerance=0.01) == 5
    assert leaves([0.75, 0.5, 0.5, 0.75, 0.75, 0.75, 0.0], criterion="range", tolerance=0.25) == 6  # 0.5 is class 0


def test_range_needs_one_label_however_narrow_the_spread() -> None:
    assert leaves([0.49, 0.51, 0.49, 0.51], criterion="range", tolerance=0.5) == 4
    assert leaves([0.51, 0.51, 0.51, 0.51], criterion="range", tolerance=0.0) == 3


def test_agreement_ignores_probabilities() -> None:
    assert leaves([0.2, 0.9, 0.6, 0.8, 0.1], criterion="agreement") == 4


def test_equal_probabilities_are_read_as_the_first_class() -> None:
    assert leaves([[0.5, 0.5], [0.7, 0.3], [0.5, 0.5], [0.1, 0.9]], criterion="agreement") == 3


def test_stage_one_may_leave_at_once_and_stage_two_can_be_switched_off() -> None:
    assert leaves([0.999, 0.5], threshold=0.1) == 1
    assert leaves([0.6, 0.6, 0.6, 0.6, 0.6], window=0) == 5


def test_stage_one_leaves_below_the_threshold_and_not_at_it() -> None:
    assert leaves([0.5, 0.5, 0.5], threshold=1.0, window=0) == 3
    assert leaves([0.5, 0.25, 0.5], threshold=1.0, window=0) == 2


def test_probabilities_of_exactly_zero_and_one_are_certain() -> None:
    assert leaves([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]], threshold=0.01) == 1


def test_a_window_longer_than_the_model_never_fires() -> None:
    for criterion in ("monotone", "range", "agreement"):
        assert leaves([0.9, 0.9, 0.9, 0.9], window=5, criterion=criterion) == 4
        assert leaves([0.9, 0.9, 0.9, 0.9], window=500, criterion=criterion) == 4


def test_one_layer_leaves_nothing_to_decide() -> None:
    assert leaves([0.5]) == 1


def test_multi_label_asks_every_label() -> None:
    rising_yes_falling_no = [[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.8, 0.3]]
    assert leaves(rising_yes_falling_no, MULTI) == 3
    one_wavers = [[0.6, 0.3], [0.7, 0.4], [0.8, 0.2], [0.8, 0.3]]
    assert leaves(one_wavers, MULTI) == 4
    assert leaves(one_wavers, MULTI, criterion="agreement") == 3
    assert leaves(one_wavers, MULTI, criterion="range", tolerance=0.15) == 4


def test_multi_label_entropy_is_that_of_the_least_sure_label() -> None:
    assert leaves([[0.999, 0.5, 0.001], [0.999, 0.999, 0.001]], MULTI, threshold=0.1) == 2


def test_regression_is_steady_when_the_values_are() -> None:
    values = [1.0, 2.0, 2.5, 2.25, 2.0, 2.0]
    assert leaves(values, REGRESSION, criterion="range", tolerance=0.5) == 4
    assert leaves(values, REGRESSION, criterion="range", tolerance=0.25) == 6
    assert leaves(values, REGRESSION, criterion="agreement", tolerance=0.5) == 4
    assert leaves(values, REGRESSION, criterion="agreement", tolerance=0.25) == 5
    assert leaves(values, REGRESSION, threshold=1.0) == 6


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), window=st.integers(2, 13), classes=st.integers(2, 5), multi=st.booleans())
def test_agreement_over_n_outputs_is_pabee_with_patience_n_minus_one(
    seed: int, window: int, classes: int, multi: bool, make_outputs: Any
) -> None:
    kind = MULTI if multi else "single_label_classification"
    outputs = make_outputs(seed, texts=20, classes=classes, problem_type=kind)
    agreement = make("elbert", threshold=0.0, window=window, criterion="agreement")
    assert replay(agreement, outputs).equal(replay(make("patience", patience=window - 1), outputs))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), threshold=st.floats(0, 1), window=st.integers(2, 8))
def test_agreement_and_the_threshold_together_are_epee(
    seed: int, threshold: float, window: int, make_outputs: Any
) -> None:
    outputs = make_outputs(seed, texts=20)
    both = make("elbert", threshold=threshold, window=window, criterion="agreement")
    assert replay(both, outputs).equal(replay(make("epee", threshold=threshold, patience=window - 1), outputs))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), low=st.floats(0, 1), high=st.floats(0, 1), window=st.sampled_from([0, 3, 8]))
def test_a_higher_threshold_never_leaves_later(
    seed: int, low: float, high: float, window: int, make_outputs: Any
) -> None:
    outputs = make_outputs(seed, texts=20)
    low, high = sorted((low, high))
    slow, fast = (replay(Elbert(threshold, window), outputs) for threshold in (low, high))
    assert bool((fast <= slow).all())


@pytest.mark.parametrize("off", [0, None])
def test_without_a_window_it_is_the_normalised_entropy_rule(off: int | None, make_outputs: Any) -> None:
    outputs = make_outputs(5, texts=200)
    assert replay(Elbert(0.3, off), outputs).equal(replay(make("entropy", threshold=0.3), outputs))
    assert Elbert(0.3, off).start(4, 3) == {}
