from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from elbert.calibration.losses import agreement_losses, label_losses, value_range
from elbert.errors import DataError, UsageError
from elbert.results import LayerOutputs

LENGTHS = torch.tensor([3, 3])


def single() -> LayerOutputs:
    probs = torch.tensor([[[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [0.3, 0.7]]])
    return LayerOutputs(probs.log(), probs, LENGTHS)


def test_a_wrong_label_counts_one_and_a_gain_is_a_negative_difference() -> None:
    losses = label_losses(single(), [1, 0], "accuracy")
    assert losses.by_exit.tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert losses.differences(np.array([1, 1])).tolist() == [1.0, 0.0]
    assert label_losses(single(), [0, 0], "matthews").differences(np.array([1, 2])).tolist() == [-1.0, 0.0]
    assert losses.bound == "paired"


def test_agreement_needs_no_label_and_is_never_lost_at_full_depth() -> None:
    losses = agreement_losses(single())
    assert losses.by_exit.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert losses.bound == "binomial"


def test_a_set_of_labels_is_wrong_as_a_whole_or_by_its_own_f1() -> None:
    probs = torch.tensor([[[0.9, 0.9, 0.1], [0.9, 0.1, 0.1]], [[0.1, 0.1, 0.1], [0.1, 0.1, 0.9]]])
    outputs = LayerOutputs(probs.logit(), probs, LENGTHS, problem_type="multi_label_classification")
    labels = [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert label_losses(outputs, labels, "accuracy").by_exit.tolist() == [[0.0, 1.0], [0.0, 1.0]]
    by_f1 = label_losses(outputs, labels, "f1_micro")
    assert by_f1.by_exit[0].tolist() == pytest.approx([0.0, 1 - 2 / 3])
    assert by_f1.by_exit[1].tolist() == [0.0, 1.0]
    assert by_f1.bound == "betting"


def test_a_value_counts_its_distance_over_the_range_and_at_most_one() -> None:
    values = torch.tensor([[[1.0], [2.0]], [[9.0], [4.0]]])
    outputs = LayerOutputs(values, values, LENGTHS, problem_type="regression")
    losses = label_losses(outputs, [2.0, 4.0], "pearson", scale=4.0)
    assert losses.by_exit.tolist() == [[0.25, 0.0], [1.0, 0.0]]
    assert agreement_losses(outputs, scale=4.0).by_exit.tolist() == [[0.25, 0.0], [1.0, 0.0]]


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="3 labels for 2 texts"):
        label_losses(single(), [0, 1, 0], "accuracy")
    with pytest.raises(DataError, match="NaN"):
        label_losses(single(), [0, math.nan], "accuracy")


def test_values_that_are_all_alike_have_no_range() -> None:
    assert value_range([1.0, 4.5]) == 3.5
    with pytest.raises(UsageError, match="all 2 values"):
        value_range([1.0, 1.0])
