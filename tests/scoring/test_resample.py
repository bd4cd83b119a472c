from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from elbert.exits import make
from elbert.exits.tokens import TokenSchedule
from elbert.scoring.curves import Replays, joined
from elbert.scoring.metrics import score
from elbert.scoring.resample import bootstrap_weights, weighted_scores
from elbert.tasks import TASKS

TEXTS, LAYERS, CLASSES, SETTINGS = 40, 4, 3, 6


def drawn(problem_type: Any, seed: int = 0) -> tuple[Replays, Any]:
    """Random exits, answers and labels."""
    rng = np.random.default_rng(seed)
    answers: dict[str, Any] = {
        "single_label_classification": rng.integers(CLASSES, size=(TEXTS, LAYERS)),
        "multi_label_classification": rng.integers(2, size=(TEXTS, LAYERS, CLASSES)),
        "regression": 100 + rng.normal(size=(TEXTS, LAYERS)).astype(np.float32),
    }
    labels: dict[str, Any] = {
        "single_label_classification": rng.integers(CLASSES, size=TEXTS),
        "multi_label_classification": rng.integers(2, size=(TEXTS, CLASSES)).astype(float),
        "regression": rng.normal(size=TEXTS),
    }
    exits = rng.integers(1, LAYERS + 1, size=(SETTINGS, TEXTS)).astype(np.uint8)
    exits[1] = exits[0]  # two settings that let everyone leave at the same layer
    policies = tuple(make("fixed", layer=place + 1) for place in range(SETTINGS))
    return Replays(policies, exits, answers[problem_type], problem_type, np.zeros(SETTINGS)), labels[problem_type]


FITTING = [(name, kind) for kind, task in TASKS.items() for name in task.metrics]


@pytest.mark.parametrize(("metric", "kind"), FITTING)
@pytest.mark.parametrize("at_once", [7, 8_000_000])
def test_a_weighted_score_is_the_metric_on_rows_repeated(
    metric: str, kind: Any, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elbert.scoring.resample._AT_ONCE", at_once)
    replays, labels = drawn(kind)
    if metric == "f1_binary":  # of two classes only
        replays, labels = replace(replays, answers=replays.answers % 2), labels % 2
    weights = np.concatenate([*bootstrap_weights(TEXTS, 5, np.random.default_rng(1)), np.eye(1, TEXTS, dtype=int)])
    weights[-1, 1] = 1  # a resample of two texts, in which most classes are missing
    result = weighted_scores(replays, labels, weights, metric)
    for draw, counts in enumerate(weights):
        rows = np.repeat(np.arange(TEXTS), counts)
        for place in range(SETTINGS):
            expected = score(kind, replays.answered(place)[rows], labels[rows], metric)[1]
            assert result.score[draw, place] == pytest.approx(expected, abs=1e-9)
            assert result.mean_exit_layer[draw, place] == pytest.approx(replays.exit_layer[place][rows].mean())


def test_constant_values_have_no_correlation() -> None:
    replays, labels = drawn("regression")
    flat = replace(replays, answers=np.full_like(replays.answers, 3.7))
    weights = np.ones((1, TEXTS), dtype=int)
    assert (weighted_scores(flat, labels, weights).score == 0).all()


def test_a_bootstrap_draws_as_many_texts_as_there_are_and_is_repeatable() -> None:
    blocks = list(bootstrap_weights(TEXTS, 12, np.random.default_rng(3)))
    weights = np.concatenate(blocks)
    assert weights.shape == (12, TEXTS)
    assert (weights.sum(1) == TEXTS).all()
    assert (weights == np.concatenate(list(bootstrap_weights(TEXTS, 12, np.random.default_rng(3))))).all()


@pytest.mark.parametrize(("metric", "kind"), FITTING)
def test_settings_that_drop_tokens_are_scored_by_their_own_answers_and_counted_by_what_they_ran(
    metric: str, kind: Any
) -> None:
    tokens = (TokenSchedule(((1, 0.5),)), TokenSchedule(((2, 0.25),)))
    runs, labels = [drawn(kind, seed)[0] for seed in range(3)], drawn(kind)[1]
    if metric == "f1_binary":
        runs, labels = [replace(run, answers=run.answers % 2) for run in runs], labels % 2
    parts = [
        replace(
            run,
            policies=tuple(replace(each, tokens=kept) for each in run.policies),
            ran=run.exit_layer * np.float32(0.5),
        )
        for run, kept in zip(runs[1:], tokens, strict=True)
    ]
    every = joined(runs[0], parts)
    assert joined(runs[0], []) is runs[0]
    weights = np.concatenate([*bootstrap_weights(TEXTS, 3, np.random.default_rng(1))])
    result = weighted_scores(every, labels, weights, metric)
    apart = [weighted_scores(run, labels, weights, metric) for run in [runs[0], *parts]]
    assert result.score == pytest.approx(np.concatenate([each.score for each in apart], 1), abs=1e-9)
    depths = np.concatenate([each.mean_exit_layer for each in apart], 1)
    assert result.mean_exit_layer == pytest.approx(depths, rel=1e-6)
    for place in range(3 * SETTINGS):
        run, at = divmod(place, SETTINGS)
        said = (runs[0], *parts)[run].answered(at)
        assert (every.answered(place) == said).all()
        differs = (said != runs[0].answers[:, -1]).reshape(TEXTS, -1).any(1)
        assert every.changed(place) == differs.mean()


@pytest.mark.parametrize(("metric", "kind"), [each for each in FITTING if each[1] != "regression"])
@pytest.mark.parametrize("dropping", [False, True])
def test_texts_that_leave_at_layer_0_are_scored_by_its_answers_and_cost_what_it_costs(
    metric: str, kind: Any, dropping: bool
) -> None:
    (own, labels), (other, _) = drawn(kind), drawn(kind, seed=5)
    words = drawn(kind, seed=9)[0].answers[:, 0]
    if metric == "f1_binary":
        own, other = (replace(each, answers=each.answers % 2) for each in (own, other))
        words, labels = words % 2, labels % 2
    cost = np.linspace(0, 0.5, SETTINGS)
    own, other = (replace(each, words=words, layer_0_cost=cost) for each in (own, other))
    early = np.random.default_rng(2).random((SETTINGS, TEXTS)) < 0.4
    early[1] = early[0]  # again two settings alike, at another cost
    own, other = (replace(each, exit_layer=np.where(early, 0, each.exit_layer)) for each in (own, other))
    shorter = replace(
        other,
        policies=tuple(replace(each, tokens=TokenSchedule(((1, 0.5),))) for each in other.policies),
        ran=other.exit_layer * np.float32(0.5),
    )
    every = joined(own, [shorter] if dropping else [])
    weights = np.concatenate([*bootstrap_weights(TEXTS, 4, np.random.default_rng(1))])
    result = weighted_scores(every, labels, weights, metric)
    assert result.score.shape == (4, SETTINGS * (1 + dropping))
    for draw, counts in enumerate(weights):
        rows = np.repeat(np.arange(TEXTS), counts)
        for place in range(result.score.shape[1]):
            run, at = divmod(place, SETTINGS)
            part, layers = (own, shorter)[run], (own, shorter)[run].exit_layer[at]
            said = np.array([words[row] if not layers[row] else part.answers[row, layers[row] - 1] for row in rows])
            assert result.score[draw, place] == pytest.approx(score(kind, said, labels[rows], metric)[1], abs=1e-9)
            spent = layers[rows].mean() * (0.5 if run else 1) + cost[at]
            assert result.mean_exit_layer[draw, place] == pytest.approx(spent, rel=1e-6)


def test_settings_that_answer_alike_may_have_run_unlike() -> None:
    replays, labels = drawn("single_label_classification")
    ran = replays.exit_layer.astype(np.float32)
    ran[1] += 2  # its answers are those of the setting before it
    found = weighted_scores(replace(replays, ran=ran), labels, np.ones((1, TEXTS), dtype=int))
    np.testing.assert_allclose(found.mean_exit_layer[0], ran.mean(1), rtol=1e-6)
    assert found.score[0, 0] == found.score[0, 1]
