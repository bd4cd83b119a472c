"""Metrics agree with scikit-learn and scipy, and never answer NaN."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from elbert.errors import UsageError
from elbert.scoring import metrics


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_single_label_metrics_agree_with_scikit_learn(rng):
    labels, predictions = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    assert metrics.accuracy(predictions, labels) == pytest.approx(sk.accuracy_score(labels, predictions))
    assert metrics.f1_macro(predictions, labels) == pytest.approx(sk.f1_score(labels, predictions, average="macro"))
    assert metrics.matthews(predictions, labels) == pytest.approx(sk.matthews_corrcoef(labels, predictions))


def test_multi_label_f1_and_accuracy_agree_with_scikit_learn(rng):
    labels, predictions = rng.integers(0, 2, (100, 5)), rng.integers(0, 2, (100, 5))
    assert metrics.f1_micro(predictions, labels) == pytest.approx(sk.f1_score(labels, predictions, average="micro"))
    assert metrics.accuracy(predictions, labels) == pytest.approx(sk.accuracy_score(labels, predictions))


def test_correlations_agree_with_scipy(rng):
    labels = rng.normal(size=50)
    predictions = np.round(labels + rng.normal(size=50), 1)  # rounding makes ties
    assert metrics.pearson(predictions, labels) == pytest.approx(stats.pearsonr(predictions, labels).statistic)
    assert metrics.spearman(predictions, labels) == pytest.approx(stats.spearmanr(predictions, labels).statistic)


def test_correlation_takes_columns_and_averages_over_targets(rng):
    labels = rng.normal(size=(20, 2))
    predictions = np.stack([labels[:, 0], -labels[:, 1]], axis=1)
    assert metrics.pearson(predictions, labels) == pytest.approx(0.0)
    assert metrics.pearson(labels[:, :1], labels[:, 0]) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_constant_prediction_correlates_zero_and_not_nan(name):
    assert metrics.score("regression", np.ones(5), np.arange(5.0), name) == (name, 0.0)


def test_matthews_of_one_class_is_zero_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.matthews([1, 1, 1], [1, 1, 1]) == 0.0
    assert metrics.matthews([1, 1, 1], [1, 0, 1]) == 0.0


def test_f1_without_any_positive_is_zero():
    assert metrics.f1_micro(np.zeros((3, 2), dtype=int), np.ones((3, 2), dtype=int)) == 0.0


@pytest.mark.parametrize(
    ("problem_type", "predictions", "labels", "expected"),
    [
        ("single_label_classification", [0, 1, 1], [0, 1, 0], ("accuracy", 2 / 3)),
        ("multi_label_classification", [[1, 0], [1, 1]], [[1, 0], [0, 1]], ("f1_micro", 0.8)),
        ("regression", [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], ("pearson", 1.0)),
    ],
)
def test_each_problem_type_has_its_own_metric(problem_type, predictions, labels, expected):
    name, value = metrics.score(problem_type, predictions, labels)
    assert (name, value) == (expected[0], pytest.approx(expected[1]))


def test_f1_of_class_one_alone_is_glues_for_mrpc_and_qqp(rng):
    labels, predictions = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    wanted = sk.f1_score(labels, predictions, average="binary")
    assert wanted != pytest.approx(sk.f1_score(labels, predictions, average="macro"))
    for name in ("f1_binary", "f1-binary"):
        found = metrics.score("single_label_classification", predictions, labels, name)
        assert found == ("f1_binary", pytest.approx(wanted))
    assert metrics.f1_binary([0, 0], [0, 0]) == 0.0


@pytest.mark.parametrize(("predictions", "labels"), [([0, 2], [0, 1]), ([0, 1], [2, 1])])
def test_f1_of_class_one_is_refused_where_there_are_more_than_two(predictions, labels):
    with pytest.raises(UsageError, match="f1_binary is of class 1 of two, but class 2 occurs; f1_macro and f1_micro"):
        metrics.f1_binary(predictions, labels)


def test_a_metric_may_be_named_in_short():
    assert metrics.score("single_label_classification", [0, 1], [0, 1], "f1") == ("f1_macro", 1.0)
    assert metrics.score("single_label_classification", [0, 1], [0, 1], "mcc") == ("matthews", 1.0)


@pytest.mark.parametrize(
    ("problem_type", "metric", "said"),
    [
        ("single_label_classification", "acuracy", "did you mean 'accuracy'"),
        ("single_label_classification", "pearson", "does not fit a single_label_classification model"),
        ("regression", "accuracy", "allowed: pearson, spearman"),
    ],
)
def test_a_metric_that_does_not_exist_or_fit_is_named(problem_type, metric, said):
    with pytest.raises(UsageError, match=said):
        metrics.score(problem_type, [0, 1], [0, 1], metric)


def test_shapes_that_differ_and_no_rows_are_refused():
    with pytest.raises(UsageError, match=r"\(2,\) and labels \(3,\)"):
        metrics.score("single_label_classification", [0, 1], [0, 1, 1])
    with pytest.raises(UsageError, match="0 rows"):
        metrics.score("single_label_classification", [], [])
