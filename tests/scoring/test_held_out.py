"""Nothing that is chosen on a text is scored on it, and pairs of resamples stay pairs."""

from __future__ import annotations

import numpy as np
import pytest

from elbert.exits import make
from elbert.scoring.curves import Replays
from elbert.scoring.held_out import HeldOut, crossed
from elbert.scoring.pareto import depths_between
from elbert.scoring.resample import Scores
from elbert.scoring.tradeoffs import draw_sample


def replays(texts: int = 60, lucky: int = 0) -> Replays:
    """Two layers: layer 1 is right about every second text, layer 2 about three of four; `lucky` rules leave at random.

    Their exits are drawn, so whatever one of them wins on a half of the texts is luck.
    """
    rng = np.random.default_rng(0)
    rows = np.arange(texts)
    answers = np.stack([rows % 2, (rows % 4 == 3).astype(int)], axis=1)
    policies = [*(make("entropy", threshold=(each + 1) / 1000) for each in range(lucky))]
    policies += [make("fixed", layer=1), make("fixed", layer=2), make("full")]
    drawn = [rng.integers(1, 3, texts) for _ in range(lucky)]
    exit_layer = np.stack([*drawn, np.full(texts, 1), np.full(texts, 2), np.full(texts, 2)])
    return Replays(tuple(policies), exit_layer, answers, "single_label_classification", np.zeros(len(policies)))


def test_a_setting_that_is_best_on_one_half_is_scored_on_the_other() -> None:
    # Setting 0 is right about the first half alone, setting 1 about the second alone: each is chosen where it shines.
    scores = Scores(np.array([[1.0, 0.0], [0.0, 1.0]]), np.ones((2, 2)))
    assert crossed([0, 1], scores, np.array([1.0])).tolist() == [[0.0]]


def test_luck_is_not_paid_out() -> None:
    labels = np.zeros(60, int)
    sample = draw_sample([replays(lucky=200)], labels, "accuracy", 100, np.random.default_rng(0))
    curve = next(each for each in sample.curves() if each.policy == "entropy")
    assert curve.gain > 0.02  # two hundred rules that draw lots, the luckiest chosen on the texts it is scored on
    assert curve.gain_held_out < curve.gain / 4
    assert curve.gain_held_out_band[0] < 0


def test_no_text_is_in_both_halves_of_a_resample() -> None:
    # Layer 1 is right about the first 3 texts and wrong about the rest: its score on a half is the share drawn of them.
    texts = 8
    answers = np.zeros((texts, 2), int)
    answers[3:, 0] = 1
    policies = (make("fixed", layer=1), make("fixed", layer=2), make("full"))
    exit_layer = np.stack([np.full(texts, layer) for layer in (1, 2, 2)])
    own = Replays(policies, exit_layer, answers, "single_label_classification", np.zeros(len(policies)))
    sample = draw_sample([own], np.zeros(texts, int), "accuracy", 200, np.random.default_rng(0))
    halves, whole = sample.drawn_halves.score[:, 0].reshape(-1, 2), sample.drawn.score[:, 0]
    assert len(halves) == 200
    assert (halves.min(1) <= whole + 1e-9).all()
    assert (whole <= halves.max(1) + 1e-9).all()  # the whole is made of its halves


def test_a_single_text_is_both_halves() -> None:
    own = Replays(
        (make("fixed", layer=1), make("full")),
        np.array([[1], [2]]),
        np.array([[1, 0]]),
        "single_label_classification",
        np.zeros(2),
    )
    sample = draw_sample([own], np.zeros(1, int), "accuracy", 100, np.random.default_rng(0))
    assert sample.drawn_halves.score.min(0).tolist() == sample.drawn_halves.score.max(0).tolist() == [0.0, 1.0]


def held_out() -> HeldOut:
    at = depths_between(4)
    lines = {"fixed": at / 4, "better": at / 4 + 0.1, "as good": at / 4 + 0.1, "worse": at / 4 - 0.1}
    noise = np.random.default_rng(0).normal(0, 1, (50, 1))
    return HeldOut(at, lines, {name: line + noise for name, line in lines.items()})


def test_ranks_are_by_area_and_equals_share_theirs() -> None:
    ranks = held_out().ranks()
    assert {name: rank for name, (rank, _) in ranks.items()} == {"better": 1.5, "as good": 1.5, "fixed": 3, "worse": 4}
    assert all((drawn == rank).all() for rank, drawn in ranks.values())


@pytest.mark.parametrize(("speedup", "score"), [(1, 1.1), (2, 0.6), (3, 4 / 3 / 4 + 0.1), (10, 0.35)])
def test_scores_are_told_at_the_depth_of_a_speedup(speedup: float, score: float) -> None:
    point = held_out().at_speedup("better", speedup)
    assert point.score == pytest.approx(score)
    assert point.gain == pytest.approx(0.1)
    assert point.gain_band == pytest.approx((0.1, 0.1))  # the noise is the resample's, and both have it
    assert point.score_band[1] - point.score_band[0] > 1
