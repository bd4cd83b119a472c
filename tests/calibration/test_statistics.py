from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from elbert.calibration.statistics import betting_p_value, binomial_p_value, hoeffding_bentkus_p_value


def test_hoeffding_bentkus_is_what_mapie_computes() -> None:
    methods = pytest.importorskip("mapie.risk_control.methods")
    means = np.array([0.0, 0.01, 0.02, 0.05, 0.2])
    for n, limit in ((100, 0.05), (872, 0.01), (2000, 0.02)):
        counts = np.round(means * n)
        theirs = methods.compute_hoeffding_bentkus_p_value(counts / n, n, limit)[:, 0]
        ours = hoeffding_bentkus_p_value(counts / n, n, limit)
        assert ours == pytest.approx(np.minimum(theirs, 1.0), rel=1e-9, abs=1e-12)
        exact = methods.compute_hoeffding_bentkus_p_value(counts / n, n, limit, binary=True)[:, 0]
        # MAPIE takes the lesser of the exact tail and Hoeffding's bound, which the tail never exceeds.
        assert binomial_p_value(counts, n, limit)[:3] == pytest.approx(exact[:3], rel=1e-9)


def test_the_betting_bound_is_the_mean_wealth_of_its_gamblers() -> None:
    losses = np.array([0.2, -0.5, 0.0, 1.0, -1.0, 0.1])
    stakes = np.concatenate((np.geomspace(0.01, 0.5, 12), [0.6, 0.7, 0.8, 0.9, 1.0])) / (1 - 0.3)
    wealth = np.mean([np.prod([1 + stake * (0.3 - loss) for loss in losses]) for stake in stakes])
    assert float(betting_p_value(losses, 0.3)) == pytest.approx(min(1.0, 1 / wealth))


def test_the_betting_bound_does_not_care_for_the_order_and_takes_many_policies_at_once() -> None:
    losses = np.random.default_rng(0).choice([-1.0, 0.0, 0.0, 0.0, 1.0], (50, 3))
    together = betting_p_value(losses, 0.1)
    assert together == pytest.approx([float(betting_p_value(losses[::-1, place], 0.1)) for place in range(3)])


@pytest.mark.parametrize("bound", ["betting", "binomial", "hoeffding-bentkus"])
def test_at_the_limit_small_p_values_are_no_more_common_than_they_say(bound: str) -> None:
    generator, n, limit = np.random.default_rng(1), 300, 0.03
    losses = (generator.random((n, 4000)) < limit).astype(float)
    values = {
        "betting": lambda: betting_p_value(losses, limit),
        "binomial": lambda: binomial_p_value(losses.sum(0), n, limit),
        "hoeffding-bentkus": lambda: hoeffding_bentkus_p_value(losses.mean(0), n, limit),
    }[bound]()
    for level in (0.01, 0.05, 0.1, 0.3):
        # Five standard errors of the simulation.
        assert (values <= level).mean() <= level + 5 * np.sqrt(level / 4000)


def test_signed_losses_are_bet_on_at_their_limit_too() -> None:
    generator, n, limit = np.random.default_rng(2), 400, 0.02
    drawn = generator.random((n, 4000))
    losses = np.where(drawn < 0.07, 1.0, np.where(drawn > 0.95, -1.0, 0.0))
    assert (betting_p_value(losses, limit) <= 0.1).mean() <= 0.1


def test_p_values_fall_with_fewer_losses_and_with_more_texts() -> None:
    counts = np.arange(10)
    for values in (binomial_p_value(counts, 500, 0.02), hoeffding_bentkus_p_value(counts / 500, 500, 0.02)):
        assert (np.diff(values) >= 0).all()
    betting = [float(betting_p_value(np.r_[np.ones(count), np.zeros(500 - count)], 0.02)) for count in counts]
    assert betting == sorted(betting)
    assert float(binomial_p_value(0, 1000, 0.01)) < float(binomial_p_value(0, 500, 0.01))


def test_without_a_loss_the_binomial_is_the_closed_form() -> None:
    assert float(binomial_p_value(0, 460, 0.005)) == pytest.approx((1 - 0.005) ** 460)
    assert float(binomial_p_value(7, 460, 0.02)) == pytest.approx(binom.cdf(7, 460, 0.02))


def test_a_loss_of_everything_leaves_the_small_stakes() -> None:
    assert float(betting_p_value(np.ones(10), 0.1)) == 1.0
    assert np.isfinite(betting_p_value(np.ones(100_000), 0.1)).all()
