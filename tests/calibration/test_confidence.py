from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, roc_auc_score

from elbert.calibration.confidence import abstention, auroc, calibration_error, describe_exits
from elbert.calibration.losses import agreement_losses, label_losses


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    confidence, right = np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, False, True, True])
    assert calibration_error(confidence, right) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    assert calibration_error(np.ones(5), np.ones(5, bool)) == 0.0


def test_auroc_is_scikit_learns_with_ties_and_none_where_there_is_nothing_to_tell_apart() -> None:
    generator = np.random.default_rng(0)
    suspicion, wrong = generator.integers(0, 9, 300) / 9, generator.random(300) < 0.2
    assert auroc(suspicion, wrong) == pytest.approx(roc_auc_score(wrong, suspicion))
    assert auroc(suspicion, np.zeros(300, bool)) is None
    assert auroc(suspicion, np.ones(300, bool)) is None


def test_every_exit_is_described_and_a_deeper_one_finds_its_mistakes(record: Any) -> None:
    outputs, labels = record(600, classes=2)
    losses = label_losses(outputs, labels, "accuracy")
    exits = describe_exits(outputs, losses, torch.tensor(labels))
    assert [each["layer"] for each in exits] == [1, 2, 3, 4, 5, 6]
    assert all(each["auroc"] > 0.5 for each in exits)
    positive = outputs.probs[:, 2, 1].numpy()
    assert exits[2]["brier"] == pytest.approx(2 * brier_score_loss(labels, positive), rel=1e-6)


def test_without_labels_only_what_they_are_not_needed_for_is_given(record: Any) -> None:
    outputs, _ = record(100)
    exits = describe_exits(outputs, agreement_losses(outputs), None)
    assert set(exits[0]) == {"layer", "auroc"}
    assert exits[-1]["auroc"] is None


def test_regression_exits_have_a_loss_and_no_confidence(record: Any) -> None:
    outputs, values = record(100, kind="regression")
    exits = describe_exits(outputs, label_losses(outputs, values, "pearson", 5.0), torch.tensor(values))
    assert set(exits[0]) == {"layer", "loss"}
    assert exits[0]["loss"] > exits[-1]["loss"]


def test_the_error_among_the_answered_is_kept_and_more_error_answers_more() -> None:
    generator = np.random.default_rng(0)
    confidence = 1 - generator.random(3000) / 2
    wrong = generator.random(3000) > confidence
    rows = abstention(confidence, wrong, 0.1, (0.05, 0.1, 0.2))
    assert [row["max_error"] for row in rows] == [0.05, 0.1, 0.2]
    coverages = [row["coverage"] for row in rows]
    assert coverages == sorted(coverages)
    for row in rows:
        answered = confidence >= row["confidence"]
        assert row["coverage"] == pytest.approx(answered.mean())
        assert row["error"] == pytest.approx(wrong[answered].mean())
        # Who is confident with c is wrong with 1 - c, so the true error is known.
        assert (1 - confidence[answered]).mean() < row["max_error"]


def test_an_error_that_few_texts_cannot_show_answers_nothing() -> None:
    (row,) = abstention(np.full(20, 0.95), np.zeros(20, bool), 0.1, (0.01,))
    assert row == {"max_error": 0.01, "confidence": None, "coverage": 0.0, "error": None}
    assert math.isclose(abstention(np.full(2000, 0.95), np.zeros(2000, bool), 0.1, (0.01,))[0]["coverage"], 1.0)
