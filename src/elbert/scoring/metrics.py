"""One number for how good a model's answers are, the same in training, evaluation and the benchmarks.

Takes arrays of predictions and labels, N rows; runs no model. Every metric is "higher is better", and one that is
undefined for the given answers (a constant prediction has no correlation) is 0.0, never NaN.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.errors import UsageError, did_you_mean
from elbert.lazy import from_extra
from elbert.results import ProblemType
from elbert.tasks import task_of

Array = NDArray[Any]

# Short names people use.
_ALIASES = {
    "f1": "f1_macro",
    "mcc": "matthews",
    "f1-micro": "f1_micro",
    "f1-macro": "f1_macro",
    "f1-binary": "f1_binary",
}


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of rows that are wholly right: class indices [N], or 0/1 label matrices [N, C]."""
    equal = np.asarray(predictions) == np.asarray(labels)
    return float(np.mean(equal.reshape(len(equal), -1).all(axis=1)))


def f1_micro(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Return F1 over all decisions pooled: 0/1 matrices [N, C], or class indices [N] (where it equals accuracy)."""
    return _f1(predictions, labels, "micro")


def f1_macro(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean F1 over classes: 0/1 matrices [N, C], or class indices [N]."""
    return _f1(predictions, labels, "macro")


def f1_binary(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Return F1 of class 1 alone, of class indices [N] of two classes; the metric of MRPC and QQP in GLUE.

    Raises:
        UsageError: there are more than two classes.
    """
    most = max(int(np.max(predictions)), int(np.max(labels)))
    if most > 1:
        raise UsageError(
            f"f1_binary is of class 1 of two, but class {most} occurs; f1_macro and f1_micro take any number"
        )
    return _f1(predictions, labels, "binary")


def matthews(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Return Matthews' correlation of class indices [N], in [-1, 1]; the metric of CoLA."""
    given, wanted = np.asarray(predictions), np.asarray(labels)
    if len(np.union1d(given, wanted)) < 2:
        return 0.0  # undefined; scikit-learn says so too, with a warning
    return float(_library("matthews").matthews_corrcoef(wanted, given))


def pearson(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Return the linear correlation of values [N] or [N, C] (the mean over C), in [-1, 1]."""
    return _correlation(_columns(predictions), _columns(labels))


def spearman(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Return the rank correlation of values [N] or [N, C] (the mean over C), in [-1, 1]."""
    ranks = _library("spearman").rankdata
    return _correlation(ranks(_columns(predictions), axis=0), ranks(_columns(labels), axis=0))


METRICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "accuracy": accuracy,
    "f1_micro": f1_micro,
    "f1_macro": f1_macro,
    "f1_binary": f1_binary,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}

# (module, package) that a metric is computed by, where that is not numpy.
_LIBRARIES = {
    **dict.fromkeys(("f1_micro", "f1_macro", "f1_binary", "matthews"), ("sklearn.metrics", "scikit-learn")),
    **dict.fromkeys(("pearson", "spearman"), ("scipy.stats", "scipy")),
}


def metric_name(problem_type: ProblemType, name: str | None = None) -> str:
    """Return the full name of a metric that fits `problem_type`, and can be computed here.

    Args:
        problem_type: transformers' word for the task.
        name: the metric asked for (`f1` and `mcc` are short names); None takes accuracy, micro F1 or Pearson.

    Raises:
        UsageError: there is no such metric, or it does not fit.
        MissingExtraError: its library is not installed.
    """
    fitting = task_of(problem_type).metrics
    chosen = _ALIASES.get(name, name) if name else fitting[0]
    if chosen not in METRICS:
        raise UsageError(f"unknown metric {name!r}{did_you_mean(str(name), fitting)}")
    if chosen not in fitting:
        raise UsageError(f"metric {name!r} does not fit a {problem_type} model; allowed: {', '.join(fitting)}")
    if chosen in _LIBRARIES:
        _library(chosen)  # before anything slow is done for it
    return chosen


def score(
    problem_type: ProblemType, predictions: ArrayLike, labels: ArrayLike, metric: str | None = None
) -> tuple[str, float]:
    """Score predictions against labels.

    Args:
        problem_type: transformers' word for the task.
        predictions: class indices [N] (single label), 0/1 [N, C] (multi-label), or values [N] or [N, C] (regression).
        labels: the same shape.
        metric: its name; None takes accuracy, micro F1 or Pearson.

    Returns:
        The metric's full name and its value.

    Raises:
        UsageError: an unknown metric, one that does not fit, no rows, or shapes that differ.
    """
    name = metric_name(problem_type, metric)
    given, wanted = np.asarray(predictions), np.asarray(labels)
    if given.shape != wanted.shape:
        raise UsageError(f"predictions have shape {given.shape} and labels {wanted.shape}; they must be the same")
    if len(given) == 0:
        raise UsageError("there are 0 rows to score; give at least one")
    return name, METRICS[name](given, wanted)


def _f1(predictions: ArrayLike, labels: ArrayLike, average: str) -> float:
    f1_score = _library(f"f1_{average}").f1_score
    return float(f1_score(np.asarray(labels), np.asarray(predictions), average=average, zero_division=0.0))


def _library(metric: str) -> Any:
    """Return the module that a metric is computed by.

    Raises:
        MissingExtraError: it is not installed.
    """
    return from_extra("train", *_LIBRARIES[metric])


def _columns(values: ArrayLike) -> Array:
    """Return values as float64 [N, C]."""
    array = np.asarray(values, dtype=np.float64)
    return array.reshape(len(array), -1)


def _correlation(left: Array, right: Array) -> float:
    """Return the mean over columns of the linear correlation of [N, C] and [N, C]; 0 for a constant column."""
    if len(left) < 2:
        return 0.0
    stats = _library("pearson")
    with warnings.catch_warnings():  # a constant column is NaN with a warning; here it is 0, as the module says
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        each = stats.pearsonr(left, right, axis=0).statistic
    return float(np.nan_to_num(each).mean())
