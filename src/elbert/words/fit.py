"""Fitting layer 0: scikit-learn's logistic regression on hashed n-grams, and one temperature from texts held out.

Single-label problems get one multinomial model, multi-label ones a model per label. The solver is SAGA, which touches
only the grams of one text at a step: a pass costs little even with many classes, and some thirty are as good as
hundreds of steps over all texts and weights. Needs the extra `train`.

Source: Defazio et al., "SAGA", arXiv:1407.0202.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from elbert.errors import UsageError
from elbert.lazy import from_extra
from elbert.words.grams import BUCKETS, Integers, grams_of, packed
from elbert.words.model import MOST_BYTES, Floats, WordModel

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Inverse strength of the L2 penalty; on vectors of length 1 far weaker than scikit-learn's 1.0 was best everywhere.
_INVERSE_PENALTY = 16.0

# Passes over the texts, at most, and the relative change of the weights in one at which the fit ends before.
_PASSES = 30
_TOLERANCE = 1e-4

FEWEST_TEXTS = 10

# Tokens read of a text, however few of them the encoder reads.
REACH = 1024

# The most of layer 0 that is added to the exits, and the range of the logarithm of the exits' temperature beside it.
_MOST_AT_EXITS = 8.0
_TEMPERATURES = (-3.0, 3.0)

# Texts held out to fit the temperature: one in so many, at most so many.
_HELD_OUT = 5
_MOST_HELD_OUT = 10_000

# A gram counts once so many texts have it.
_SEEN_IN = 2


def fit_words(texts: Sequence[Sequence[int]], targets: NDArray[Any], num_labels: int, *, seed: int = 0) -> WordModel:
    """Return the word model of tokenised texts.

    Args:
        texts: token ids of each of N texts, `REACH` of them at most, as `read_by_words` gives them.
        targets: [N] class ids (single label), or [N, C] of 0 and 1 (multi-label).
        num_labels: C.
        seed: of the choice of texts held out for the temperature.

    Raises:
        UsageError: fewer than ten texts.
    """
    if len(texts) < FEWEST_TEXTS:
        needed = f"it needs {FEWEST_TEXTS} or more: leave it out, or give more"
        raise UsageError(f"layer 0 was given {len(texts)} texts; {needed}")
    buckets, idf, values = _features(_counts(*packed(texts)), targets, num_labels)
    held = np.random.default_rng(seed).permutation(len(texts))[: min(len(texts) // _HELD_OUT, _MOST_HELD_OUT)]
    kept = np.setdiff1d(np.arange(len(texts)), held)
    model = _Regressions(targets, num_labels, seed)
    model.fit(values[kept], targets[kept])
    weight, bias = model.columns()
    temperature = _temperature(values[held] @ weight + bias, targets[held])
    model.fit(values, targets)  # goes on from those weights
    weight, bias = model.columns()
    scaled = (weight / temperature).astype(np.float16), (bias / temperature).astype(np.float32)
    return WordModel(buckets.astype(np.int32), idf, *scaled, reach=REACH)


def _counts(ids: Integers, lengths: Integers) -> csr_matrix:
    """Return [N, buckets] with 1 + ln count of every gram."""
    from scipy.sparse import csr_matrix

    grams = grams_of(ids, lengths)
    values = 1 + np.log(grams.count, dtype=np.float32)
    rows = np.searchsorted(grams.text, np.arange(len(lengths) + 1))
    return csr_matrix((values, grams.bucket, rows), shape=(len(lengths), BUCKETS))


def _features(counts: csr_matrix, targets: NDArray[Any], num_labels: int) -> tuple[Integers, Any, csr_matrix]:
    """Return (buckets [K], idf [K] fp16, values [N, K] of length 1 per text)."""
    from scipy.sparse import diags
    from sklearn.preprocessing import normalize

    seen = np.bincount(counts.indices, minlength=BUCKETS)
    buckets = np.flatnonzero(seen >= min(_SEEN_IN, int(seen.max())))
    room = MOST_BYTES // (4 + 2 + 2 * num_labels)
    if len(buckets) > room:
        buckets = np.sort(buckets[_telling(counts[:, buckets], targets, num_labels, room)])
    idf = (np.log((1 + counts.shape[0]) / (1 + seen[buckets])) + 1).astype(np.float16)
    return buckets, idf, normalize(counts[:, buckets] @ diags(idf.astype(np.float32))).tocsr()


def _telling(counts: csr_matrix, targets: NDArray[Any], num_labels: int, room: int) -> Integers:
    """Return the columns that tell classes apart best, by scikit-learn's chi-square statistic."""
    from sklearn.feature_selection import chi2

    classes = targets if targets.ndim == 2 else np.eye(num_labels, dtype=np.int8)[targets]
    statistic = np.nan_to_num(chi2(counts, classes)[0])
    return np.argpartition(statistic, -room)[-room:].astype(np.int64)


class _Regressions:
    """One softmax over all classes, or one sigmoid per label; a second `fit` starts where the first ended.

    Args:
        targets: [N] or [N, C], as they are to be learnt.
        num_labels: C.
        seed: of the order in which texts are taken.
    """

    def __init__(self, targets: NDArray[Any], num_labels: int, seed: int) -> None:
        self._num_labels = num_labels
        self._models = [_regression(seed) for _ in range(num_labels if targets.ndim == 2 else 1)]
        self._columns: list[tuple[Floats, Floats]] = []

    def fit(self, values: csr_matrix, targets: NDArray[Any]) -> None:
        """Fit on values [N, K]."""
        if targets.ndim == 1:
            self._columns = [self._softmax(values, targets)]
        else:
            each = zip(self._models, (targets >= 0.5).T, strict=True)
            self._columns = [_sigmoid(model, values, given) for model, given in each]

    def columns(self) -> tuple[Floats, Floats]:
        """Return (weight [K, C], bias [C])."""
        weights, biases = zip(*self._columns, strict=True)
        return np.concatenate(weights, 1), np.concatenate(biases)

    def _softmax(self, values: csr_matrix, targets: NDArray[Any]) -> tuple[Floats, Floats]:
        """Return (weight [K, C], bias [C]); a class without texts gets a bias no text can outweigh."""
        present = np.unique(targets)
        weight = np.zeros((values.shape[1], self._num_labels), np.float32)
        bias = np.full(self._num_labels, _NEVER, np.float32)
        bias[present] = 0.0
        if len(present) > 1:
            model = _fitted(self._models[0], values, targets)
            shown = present[1:] if len(present) == 2 else present  # of two, scikit-learn keeps the second's side only
            bias[shown], weight[:, shown] = model.intercept_, model.coef_.T
        return weight, bias


def _sigmoid(model: Any, values: csr_matrix, given: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return (weight [K, 1], bias [1]) of one label."""
    if given.all() or not given.any():
        return np.zeros((values.shape[1], 1), np.float32), np.full(1, -_NEVER if given.all() else _NEVER, np.float32)
    _fitted(model, values, given)
    return model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)


def _fitted(model: Any, values: csr_matrix, targets: NDArray[Any]) -> Any:
    """Fit, from its last weights where the classes are the same."""
    if getattr(model, "classes_", None) is not None and len(model.classes_) != len(np.unique(targets)):
        model.set_params(warm_start=False)
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it ends after some passes, wherever it is
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # classes of a text or two
        return model.fit(values, targets).set_params(warm_start=True)


# The logit of what training never saw.
_NEVER = -20.0


def _regression(seed: int) -> Any:
    """Return a model to fit.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    linear_model = from_extra("train", "sklearn.linear_model", "scikit-learn")
    settings: dict[str, Any] = {"solver": "saga", "max_iter": _PASSES, "tol": _TOLERANCE, "random_state": seed}
    return linear_model.LogisticRegression(C=_INVERSE_PENALTY, **settings)


def _temperature(logits: Floats, targets: NDArray[Any]) -> float:
    """Return the temperature under which texts held out are likeliest (Guo et al. 2017, arXiv:1706.04599).

    As in Platt's scaling (1999), a label counts as right with a chance of (n + 1) / (n + 2) only: that n texts are
    all told right does not make the next one certain.
    """
    from scipy.optimize import minimize_scalar

    doubt = 1 / (len(targets) + 2)

    def loss(log_temperature: float) -> float:
        return _unlikelihood(logits / np.exp(log_temperature), targets, doubt)

    return float(np.exp(minimize_scalar(loss, bounds=_TEMPERATURES, method="bounded").x))


def fit_at_exits(exits: Floats, words: Floats, targets: NDArray[Any]) -> float:
    """Return how much of layer 0's logits to add to every exit's: with it texts held out are likeliest, over all exits.

    The sum has a temperature of its own while it is fitted: fine-tuned exits are too sure of themselves, and beside
    them layer 0, whose probabilities are calibrated, would count too little. Both sides have a factor, which is the
    same and convex, and every target is doubted a little, as for a temperature: so there is one best pair, wherever the
    search begins.

    Args:
        exits: [N, M, C] logits of every exit.
        words: [N, C] logits of layer 0.
        targets: [N] class ids, or [N, C] of 0 and 1; of texts that neither was fitted on.
    """
    from scipy.optimize import minimize

    texts, layers, classes = exits.shape
    each = np.repeat(targets, layers, 0)

    def loss(factors: Floats) -> float:
        summed = factors[0] * exits + factors[1] * words[:, None]
        return _unlikelihood(summed.reshape(texts * layers, classes), each, 1 / (texts + 2))

    coldest, hottest = np.exp(_TEMPERATURES)
    bounds = ((1 / hottest, 1 / coldest), (0.0, _MOST_AT_EXITS / coldest))
    of_exits, of_words = minimize(loss, (1.0, 0.5), method="L-BFGS-B", bounds=bounds).x
    return float(min(of_words / of_exits, _MOST_AT_EXITS))


def _unlikelihood(logits: Floats, targets: NDArray[Any], doubt: float) -> float:
    """Return the mean negative log-likelihood of targets, where each is wrong with a chance of `doubt`."""
    from scipy.special import log_expit, log_softmax

    if targets.ndim == 2:
        told = np.where(targets >= 0.5, logits, -logits)
        return float(-((1 - doubt) * log_expit(told) + doubt * log_expit(-told)).mean())
    chances = log_softmax(logits, -1)
    right = chances[np.arange(len(targets)), targets]
    others = (chances.sum(-1) - right) / max(logits.shape[-1] - 1, 1)
    return float(-((1 - doubt) * right + doubt * others).mean())
