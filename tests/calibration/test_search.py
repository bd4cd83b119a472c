from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from elbert.calibration.losses import Losses
from elbert.calibration.search import choose, learned_order, p_value, texts_needed
from elbert.errors import UsageError


def world(texts: int, lost: list[float], won: list[float], seed: int = 0) -> tuple[np.ndarray, Losses]:
    """One policy for each exit before the last, the first the deepest, with these chances of a loss and a gain.

    Every policy errs by itself: policies that err together would break a promise together, and hide what trying many
    of them costs.
    """
    layers = len(lost) + 1
    drawn = np.random.default_rng(seed).random((texts, len(lost)))
    by_exit = np.full((texts, layers), 0.5)
    places = np.array([layers - 2 - place for place in range(len(lost))])
    by_exit[:, places] = np.where(drawn < np.array(lost), 1.0, np.where(drawn > 1 - np.array(won), 0.0, 0.5))
    # Differences of whole numbers: twice the half steps, taken from full depth's own half.
    doubled = Losses(2 * by_exit - 1, "", "paired")
    exit_layer = np.repeat((places + 1)[:, None], texts, 1)
    return exit_layer, doubled


def test_the_fastest_policy_that_passes_is_taken_and_the_first_failure_ends_the_search() -> None:
    exit_layer, losses = world(2000, [0.0, 0.001, 0.05, 0.0], [0.0] * 4)
    choice = choose(exit_layer, losses, 0.01, 0.1)
    assert choice.passed == (0, 1)
    assert choice.index == 1
    assert choice.tested == 3  # the last, good as it is, stands behind the failure
    assert choice.p_value <= 0.1
    assert choose(exit_layer, losses, 0.01, 0.1, correction="bonferroni").index == 3


def test_the_fixed_sequence_is_the_one_mapie_runs() -> None:
    fwer = pytest.importorskip("mapie.risk_control.fwer_control")
    for seed in range(5):
        exit_layer, losses = world(800, [0.0, 0.003, 0.006, 0.009, 0.02], [0.004] * 5, seed)
        values = np.array([p_value(losses.differences(layers), 0.01, 0.1, "paired") for layers in exit_layer])
        theirs = fwer.control_fwer(values, 0.1, "fixed_sequence")
        assert list(choose(exit_layer, losses, 0.01, 0.1).passed) == np.asarray(theirs).tolist()


@pytest.mark.parametrize("bound", ["paired", "betting", "binomial", "hoeffding-bentkus"])
@pytest.mark.parametrize("correction", ["fixed-sequence", "bonferroni"])
def test_a_promise_that_most_policies_break_by_a_hair_is_broken_no_more_often_than_said(
    bound: str, correction: str
) -> None:
    # The tests that know losses only take a gain for nothing; their limit is on the losses alone.
    lost, won = (0.0301, 0.01) if bound in ("paired", "betting") else (0.0201, 0.0)
    runs, good, bad = 200, 2, 6
    broken = naive = 0
    for seed in range(runs):
        exit_layer, losses = world(400, [0.0] * good + [lost] * bad, [0.0] * good + [won] * bad, seed)
        index = choose(exit_layer, losses, 0.02, 0.1, bound=bound, correction=correction).index
        broken += index is not None and index >= good
        values = [p_value(losses.differences(layers), 0.02, 0.1, bound) for layers in exit_layer[good:]]
        naive += min(values) <= 0.1
    most = binom.isf(0.005, runs, 0.1)  # one run in two hundred may be unluckier
    assert broken <= most
    if bound in ("paired", "binomial"):  # the exact ones; with any of these policies at the full level it is broken
        assert naive > most


def test_an_order_learned_on_some_texts_reads_no_other_text() -> None:
    exit_layer, losses = world(400, [0.0, 0.01, 0.02, 0.05], [0.01] * 4)
    aside = np.arange(0, 400, 3)
    rest = np.setdiff1d(np.arange(400), aside)
    changed = Losses(losses.by_exit.copy(), "", "paired")
    changed.by_exit[rest] = changed.by_exit[rest][:, ::-1]
    order = learned_order(exit_layer, losses, 0.02, aside)
    assert order == learned_order(exit_layer, changed, 0.02, aside)
    depth = exit_layer[order][:, aside].mean(1)
    assert (np.diff(depth) < 0).all()


def test_texts_put_aside_are_not_tested_on() -> None:
    exit_layer, losses = world(1000, [0.0], [0.0])
    spoiled = Losses(losses.by_exit.copy(), "", "paired")
    spoiled.by_exit[:300, 0] = 1.0
    rows = np.arange(300, 1000)
    assert choose(exit_layer, spoiled, 0.01, 0.1, rows=rows).index == 0
    assert choose(exit_layer, spoiled, 0.01, 0.1).index is None


@pytest.mark.parametrize("bound", ["paired", "betting", "binomial", "hoeffding-bentkus"])
@pytest.mark.parametrize("max_drop", [0.005, 0.02])
def test_one_text_fewer_than_needed_can_never_pass_and_the_number_needed_can(bound: str, max_drop: float) -> None:
    needed = texts_needed(max_drop, 0.1, bound)
    assert needed is not None
    assert p_value(np.zeros(needed), max_drop, 0.1, bound) <= 0.1
    assert p_value(np.zeros(needed - 1), max_drop, 0.1, bound) > 0.1
    closed = np.log(0.1) / np.log(1 - max_drop)
    assert needed >= closed
    if bound in ("paired", "binomial"):
        assert needed <= closed * 1.01 + 1


def test_no_number_of_unchanged_texts_shows_that_nothing_at_all_is_lost() -> None:
    assert texts_needed(0.0, 0.1, "paired") is None
    for bound in ("paired", "betting", "binomial", "hoeffding-bentkus"):
        assert p_value(np.zeros(100_000), 0.0, 0.1, bound) == 1.0


def test_a_gain_counts_as_nothing_for_the_tests_that_know_losses_only() -> None:
    differences = np.r_[np.ones(2), -np.ones(30), np.zeros(468)]
    assert p_value(differences, 0.01, 0.1, "binomial") == p_value(np.maximum(differences, 0), 0.01, 0.1, "binomial")
    assert p_value(differences, 0.01, 0.1, "paired") < p_value(differences, 0.01, 0.1, "binomial")


def test_no_text_and_no_policy_pass_nothing() -> None:
    assert p_value(np.zeros(0), 0.1, 0.1, "paired") == 1.0
    exit_layer, losses = world(100, [0.0], [0.0])
    assert choose(exit_layer, losses, 0.1, 0.1, order=[]).index is None


@pytest.mark.parametrize(("word", "value"), [("bound", "pared"), ("correction", "holm")])
def test_an_unknown_word_is_refused_with_the_closest(word: str, value: str) -> None:
    exit_layer, losses = world(100, [0.0], [0.0])
    with pytest.raises(UsageError, match=value):
        choose(exit_layer, losses, 0.1, 0.1, **{word: value})  # type: ignore[arg-type]
