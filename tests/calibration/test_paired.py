"""The exact paired test against full enumeration: it never rejects a true null too often, and it is not timid."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from elbert.calibration.paired import paired_p_value, score_statistic

N = 30


def chance(lost: int, won: int, n: int, p_lost: float, p_won: float) -> float:
    ways = math.comb(n, lost) * math.comb(n - lost, won)
    return float(ways * p_lost**lost * p_won**won * (1 - p_lost - p_won) ** (n - lost - won))


@pytest.mark.parametrize("p_won", [0.0, 0.003, 0.02, 0.08, 0.25, 0.4, 0.45])
@pytest.mark.parametrize("max_drop", [0.02, 0.1])
def test_where_the_promise_is_just_broken_it_passes_no_more_often_than_the_level_says(
    p_won: float, max_drop: float
) -> None:
    outcomes = [(lost, won) for lost, won in itertools.product(range(N + 1), repeat=2) if lost + won <= N]
    chances = np.array([chance(lost, won, N, p_won + max_drop, p_won) for lost, won in outcomes])
    assert chances.sum() == pytest.approx(1)
    for level in (0.05, 0.1, 0.2):
        values = np.array([paired_p_value(lost, won, N, max_drop, level) for lost, won in outcomes])
        assert chances[values <= level].sum() <= level + 1e-12


def test_without_gains_as_many_losses_pass_as_the_level_has_room_for() -> None:
    n, max_drop, level = 460, 0.01, 0.1
    passing = [lost for lost in range(30) if paired_p_value(lost, 0, n, max_drop, level) <= level]
    assert passing == [lost for lost in range(30) if binom.cdf(lost, n, max_drop) <= level] == [0, 1]


@pytest.mark.parametrize(("p_won", "at_least"), [(0.03, 0.08), (0.08, 0.09)])
def test_the_level_is_nearly_used_up_where_the_promise_is_just_broken(p_won: float, at_least: float) -> None:
    n, max_drop, level = 100, 0.05, 0.1
    passes = 0.0
    for won in range(int(binom.isf(1e-4, n, p_won)) + 1):
        room = [lost for lost in range(won + 6) if paired_p_value(lost, won, n, max_drop, level) <= level]
        passes += sum(chance(lost, won, n, p_won + max_drop, p_won) for lost in room)
    assert at_least <= passes <= level


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (3, 1), (6, 5), (2, 9)])
def test_the_greatest_probability_is_found_and_not_passed_by_a_grid(lost: int, won: int) -> None:
    n, max_drop, level = 120, 0.05, 0.3
    statistic = score_statistic(lost, won, n, max_drop)
    both = np.array([(a, b) for a in range(40) for b in range(40)])
    extreme = both[score_statistic(both[:, 0], both[:, 1], n, max_drop) >= statistic - 1e-9]
    rates = np.linspace(0, 0.12, 241)
    brute = max(sum(chance(int(a), int(b), n, rate + max_drop, rate) for a, b in extreme) for rate in rates)
    value = paired_p_value(lost, won, n, max_drop, level)
    assert value <= brute + 0.03 * level
    if 1 / n < won / n < 0.05:
        assert value >= brute - 0.02


@pytest.mark.parametrize(("lost", "won"), [(2, 10), (0, 16), (1, 18), (7, 20), (12, 14), (0, 30)])
@pytest.mark.parametrize("max_drop", [0.0, 0.1])
def test_the_bound_is_sharp_where_half_of_the_texts_or_more_are_won(lost: int, won: int, max_drop: float) -> None:
    level = 0.3
    a, b = (grid.ravel() for grid in np.meshgrid(np.arange(N + 1), np.arange(N + 1)))
    extreme = (a + b <= N) & (score_statistic(a, b, N, max_drop) >= score_statistic(lost, won, N, max_drop) - 1e-9)
    outcomes = np.stack((a, b, N - a - b), 1)[extreme]
    rates = np.linspace(0, (1 - max_drop) / 2, 200)  # P(won) is no greater where P(lost) is greater by `max_drop`
    shares = ((rate + max_drop, rate, 1 - 2 * rate - max_drop) for rate in rates)
    brute = max(multinomial.pmf(outcomes, N, np.clip(each, 0, 1)).sum() for each in shares)
    assert paired_p_value(lost, won, N, max_drop, level) <= brute + 0.03 * level


def test_all_texts_won_speak_as_much_for_the_exits_as_they_can() -> None:
    assert paired_p_value(0, 30, 30, 0.0, 0.05) < 0.001


def test_a_loss_more_never_helps_and_a_gain_more_never_hurts_much() -> None:
    values = [paired_p_value(lost, 4, 800, 0.01) for lost in range(12)]
    assert values == sorted(values)
    assert paired_p_value(6, 5, 800, 0.01) < paired_p_value(6, 2, 800, 0.01)


def test_gains_pay_for_losses_which_a_test_of_losses_alone_cannot_see() -> None:
    from elbert.calibration.statistics import binomial_p_value

    assert paired_p_value(8, 8, 872, 0.01) < 0.05
    assert float(binomial_p_value(8, 872, 0.01)) > 0.4


@pytest.mark.parametrize(
    ("lost", "won", "n", "max_drop"), [(9, 0, 100, 0.05), (0, 0, 5, 0.01), (0, 0, 50, 0.0), (5, 0, 5, 0.1)]
)
def test_what_speaks_for_nothing_has_p_one(lost: int, won: int, n: int, max_drop: float) -> None:
    assert paired_p_value(lost, won, n, max_drop) == 1.0


def test_exits_better_than_full_depth_pass_even_where_no_drop_is_allowed() -> None:
    assert paired_p_value(10, 30, 1000, 0.0) < 0.01
    assert paired_p_value(20, 20, 1000, 0.0) == 1.0


def test_a_stricter_level_searches_finer() -> None:
    assert paired_p_value(0, 0, 5000, 0.01, 0.001) < 1e-4
