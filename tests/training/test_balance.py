"""Rare classes: when a class is rare, which metric then chooses, what a row weighs."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from elbert.data import Labels, TextDataset
from elbert.errors import DataWarning, UsageError
from elbert.modeling.losses import row_losses
from elbert.training.balance import choose_metric, class_weights, rare_classes
from elbert.training.lesson import taught_losses


def counted(*counts: int, problem_type: Any = "single_label_classification") -> TextDataset:
    """Rows of classes a, b, … so often each."""
    labels = [index for index, count in enumerate(counts) for _ in range(count)]
    return TextDataset(["text"] * len(labels), labels, Labels(problem_type, tuple("abcdefghij"[: len(counts)])), "rows")


@pytest.mark.parametrize(
    ("counts", "rare"),
    [
        ((99, 1), {"b": 0.01}),
        ((95, 5), {"b": 0.05}),  # 19 to 1
        ((90, 10), {}),
        ((50, 46, 4), {"c": 0.04}),
        ((10,) * 10, {}),  # a tenth each is no less than the others have
        ((300, 300, 300, 31, 29), {"e": 29 / 960, "d": 31 / 960}),
    ],
)
def test_a_class_is_rare_for_its_own_share_or_beside_the_most_frequent(
    counts: tuple[int, ...], rare: dict[str, float]
) -> None:
    found = rare_classes(counted(*counts))
    assert found == pytest.approx(rare)
    assert list(found) == list(rare)


def test_of_many_classes_none_is_rare_for_being_one_of_many() -> None:
    labels = [row % 150 for row in range(3000)]
    names = tuple(str(index) for index in range(150))
    assert rare_classes(TextDataset(["text"] * 3000, labels, Labels("single_label_classification", names), "x")) == {}


def test_macro_f1_chooses_where_a_class_is_rare_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "elbert"):
        assert choose_metric(None, counted(99, 1)) == "f1_macro"
    assert "the metric is f1_macro, because these classes are rare: 'b' (1.0% of the rows)" in caplog.text
    assert choose_metric(None, counted(50, 50)) == "accuracy"
    assert choose_metric(None, TextDataset(["x", "y"], [0.1, 99.0], Labels("regression", ()), "x")) == "pearson"


def test_accuracy_asked_for_is_kept_with_a_warning_where_a_class_is_rare() -> None:
    with pytest.warns(DataWarning, match=r"accuracy hardly counts classes this rare: 'b' \(1.0% of the rows\)"):
        assert choose_metric("accuracy", counted(99, 1)) == "accuracy"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_metric("accuracy", counted(50, 50)) == "accuracy"
        assert choose_metric("mcc", counted(99, 1)) == "matthews"


def test_balanced_weights_are_scikit_learns_and_one_in_the_mean() -> None:
    weight = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    data = counted(90, 9, 1)
    found = class_weights("balanced", data)
    assert found == pytest.approx(list(weight("balanced", classes=np.arange(3), y=data.labels)))
    assert sum(found[label] for label in data.labels or []) == pytest.approx(100)
    assert class_weights(None, data) is None


def test_a_class_without_rows_leaves_the_others_balanced() -> None:
    assert class_weights("balanced", counted(3, 0, 1)) == pytest.approx([4 / 6, 1.0, 2.0])


def test_weights_for_several_labels_are_refused() -> None:
    several = TextDataset(["x"], [[1.0, 0.0]], Labels("multi_label_classification", ("a", "b")), "x")
    with pytest.raises(UsageError, match="class_weight is 'balanced' and the data multi_label_classification"):
        class_weights("balanced", several)


def test_a_weight_multiplies_the_labels_part_of_a_rows_loss_and_nothing_else() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3, 2), torch.tensor([0, 1, 1, 0, 1])
    weights = torch.tensor([0.5, 4.0])
    single = "single_label_classification"
    plain = row_losses(logits, labels, single)
    weighted = row_losses(logits, labels, single, weights)
    torch.testing.assert_close(weighted, plain * torch.tensor([0.5, 4.0, 4.0, 0.5, 4.0])[:, None])
    answers, all_labelled = torch.randn(5, 2), torch.ones(5)
    how: dict[str, Any] = {"weight": 0.3, "temperature": 2.0}
    taught = taught_losses(logits, labels, answers, all_labelled, single, **how)
    both = taught_losses(logits, labels, answers, all_labelled, single, **how, class_weights=weights)
    torch.testing.assert_close(both - taught, 0.7 * (weighted - plain).mean(0))
