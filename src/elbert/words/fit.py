"""Fitting layer 0: scikit-learn's logistic regression on hashed n-grams, and one temperature from texts held out.

Single-label problems get one multinomial model, multi-label ones a model per label. Needs the extra `train`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from elbert.errors import UsageError
from elbert.words.grams import BUCKETS, Integers, grams_of
from elbert.words.model import MOST_BYTES, Floats, WordModel

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Inverse strength of the L2 penalty; on vectors of length 1 far weaker than scikit-learn's 1.0 was best everywhere.
_INVERSE_PENALTY = 16.0

# The mean gradient at which the fit ends; over many texts that of a rare gram is small from the start.
_TOLERANCE = 1e-6
_STEPS = 100

# Texts held out to fit the temperature: one in so many, at most so many.
_HELD_OUT = 5
_MOST_HELD_OUT = 10_000

# A gram counts once so many texts have it.
_SEEN_IN = 2


def fit_words(texts: Sequence[Sequence[int]], targets: NDArray[Any], num_labels: int, *, seed: int = 0) -> WordModel:
    """Return the word model of tokenised texts.

    Args:
        texts: token ids of each of N texts, as the encoder reads them.
        targets: [N] class ids (single label), or [N, C] of 0 and 1 (multi-label).
        num_labels: C.
        seed: of the choice of texts held out for the temperature.

    Raises:
        UsageError: fewer than ten texts.
    """
    if len(texts) < 10:
        raise UsageError(f"layer 0 was given {len(texts)} texts; it needs 10 or more: leave it out, or give more")
    lengths = np.array([len(ids) for ids in texts])
    ids = np.fromiter((number for text in texts for number in text), np.int64, int(lengths.sum()))
    counts = _counts(ids, lengths)
    held = np.random.default_rng(seed).permutation(len(texts))[: min(len(texts) // _HELD_OUT, _MOST_HELD_OUT)]
    kept = np.setdiff1d(np.arange(len(texts)), held)
    trial = _fit(counts[kept], targets[kept], num_labels)
    starts = np.cumsum(lengths) - lengths
    shown = np.concatenate([np.arange(starts[row], starts[row] + lengths[row]) for row in held])
    temperature = _temperature(trial.logits(ids[shown], lengths[held]), targets[held])
    whole = _fit(counts, targets, num_labels)
    return WordModel(
        whole.buckets, whole.idf, (whole.weight / np.float16(temperature)), whole.bias / np.float32(temperature)
    )


def _counts(ids: Integers, lengths: Integers) -> csr_matrix:
    """Return [N, buckets] with 1 + ln count of every gram."""
    from scipy.sparse import csr_matrix

    grams = grams_of(ids, lengths)
    values = 1 + np.log(grams.count, dtype=np.float32)
    rows = np.searchsorted(grams.text, np.arange(len(lengths) + 1))
    return csr_matrix((values, grams.bucket, rows), shape=(len(lengths), BUCKETS))


def _fit(counts: csr_matrix, targets: NDArray[Any], num_labels: int) -> WordModel:
    """Fit one model on [N, buckets] counts."""
    from scipy.sparse import diags
    from sklearn.preprocessing import normalize

    seen = np.bincount(counts.indices, minlength=BUCKETS)
    buckets = np.flatnonzero(seen >= min(_SEEN_IN, int(seen.max())))
    room = MOST_BYTES // (4 + 2 + 2 * num_labels)
    if len(buckets) > room:
        buckets = np.sort(buckets[_telling(counts[:, buckets], targets, num_labels, room)])
    idf = (np.log((1 + counts.shape[0]) / (1 + seen[buckets])) + 1).astype(np.float16)
    values = normalize(counts[:, buckets] @ diags(idf.astype(np.float32)))
    if targets.ndim == 2:
        columns = [_one_label(values, targets[:, label]) for label in range(num_labels)]
        weight, bias = np.stack([w for w, _ in columns], 1), np.array([b for _, b in columns])
    else:
        weight, bias = _one_of_many(values, targets, num_labels)
    return WordModel(buckets.astype(np.int32), idf, weight.astype(np.float16), bias.astype(np.float32))


def _telling(counts: csr_matrix, targets: NDArray[Any], num_labels: int, room: int) -> Integers:
    """Return the columns that tell classes apart best, by scikit-learn's chi-square statistic."""
    from sklearn.feature_selection import chi2

    classes = targets if targets.ndim == 2 else np.eye(num_labels, dtype=np.int8)[targets]
    statistic = np.nan_to_num(chi2(counts, classes)[0])
    return np.argpartition(statistic, -room)[-room:].astype(np.int64)


def _one_of_many(values: csr_matrix, targets: NDArray[Any], num_labels: int) -> tuple[Floats, Floats]:
    """Return (weight [K, C], bias [C]) of a softmax; a class without texts gets a bias no text can outweigh."""
    present = np.unique(targets)
    weight = np.zeros((values.shape[1], num_labels), np.float32)
    bias = np.full(num_labels, _NEVER, np.float32)
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    model = _regression().fit(values, targets)
    if len(present) == 2:  # scikit-learn then keeps the second class's side only
        bias[present] = 0.0, model.intercept_[0]
        weight[:, present[1]] = model.coef_[0]
    else:
        bias[present], weight[:, present] = model.intercept_, model.coef_.T
    return weight, bias


def _one_label(values: csr_matrix, targets: NDArray[Any]) -> tuple[Floats, float]:
    """Return (weight [K], bias) of one label's sigmoid."""
    given = targets >= 0.5
    if given.all() or not given.any():
        return np.zeros(values.shape[1], np.float32), -_NEVER if given.all() else _NEVER
    model = _regression().fit(values, given)
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])


# The logit of what training never saw.
_NEVER = -20.0


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=_INVERSE_PENALTY, max_iter=_STEPS, tol=_TOLERANCE)


def _temperature(logits: Floats, targets: NDArray[Any]) -> float:
    """Return the temperature under which texts held out are likeliest (Guo et al. 2017, arXiv:1706.04599)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_expit, log_softmax

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if targets.ndim == 2:
            return float(-np.where(targets >= 0.5, log_expit(scaled), log_expit(-scaled)).mean())
        return float(-log_softmax(scaled, -1)[np.arange(len(targets)), targets].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))
