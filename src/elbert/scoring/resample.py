"""Scores many settings on many resamples of the same texts at once, by matrix products instead of loops.

Nearly every metric is a function of sums over texts (right answers, hits per class, products of values). A resample
only weighs those sums anew, so B resamples of P settings are one matrix [B, N] times one [N, P]. Metrics that are not
such a function (Spearman's ranks) are computed the slow way. N texts, M exits, K sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.results import ProblemType
from elbert.scoring.curves import Replays
from elbert.scoring.metrics import metric_name, score

Array = NDArray[Any]

# Numbers held at once in one matrix: 64 MB of doubles.
_AT_ONCE = 8_000_000


@dataclass(frozen=True, slots=True)
class Scores:
    """What P settings scored, and how deep they ran, on each of B resamples.

    Attributes:
        score: [B, P].
        mean_exit_layer: [B, P], 0 .. M; of rows that dropped tokens each layer by the share that it ran. Where layer 0
            is asked, its cost is in it.
    """

    score: Array
    mean_exit_layer: Array


def bootstrap_weights(texts: int, draws: int, rng: np.random.Generator) -> Iterator[Array]:
    """Yield how often each text was drawn, [b, N] whole numbers that sum to N, in blocks of draws of bounded size."""
    block = max(1, _AT_ONCE // texts)
    for begin in range(0, draws, block):
        rows = min(block, draws - begin)
        yield np.stack([np.bincount(rng.integers(texts, size=texts), minlength=texts) for _ in range(rows)])


def weighted_scores(replays: Replays, labels: ArrayLike, weights: ArrayLike, metric: str | None = None) -> Scores:
    """Score every setting with every text counted as often as a resample drew it.

    Args:
        replays: P settings over N texts.
        labels: [N] or [N, C], encoded as the metric wants them.
        weights: [B, N] whole numbers of 0 or more; every row has one above 0.
        metric: its name; None takes the problem type's own.

    Returns:
        [B, P] scores, the same as those of the metric on the rows repeated so often.
    """
    name = metric_name(replays.problem_type, metric)
    # Many settings let every text leave at the same layer: each such row is scored once.
    columns, place = np.unique(replays.columns, axis=0, return_inverse=True)
    counts, wanted, answers = np.asarray(weights), np.asarray(labels), replays.every_answer
    # Those may still have run unlike, where layers are counted apart.
    depths = _mean_depths(replays.exit_layer if replays.ran is None else replays.ran, counts)
    tally = _tally(name, replays, wanted)
    values = (
        _repeated(name, replays.problem_type, answers, columns, wanted, counts)
        if tally is None
        else _summed(tally, answers, columns, wanted, counts)
    )
    return Scores(values[:, place.reshape(-1)], depths + replays.layer_0_cost)


@dataclass(frozen=True, slots=True)
class _Tally:
    """A metric as a function of sums.

    Attributes:
        width: K.
        parts: (answers [n, M] or [n, M, C], labels [n] or [n, C]) -> what each text adds at each exit, [n, M, K].
        finish: sums [b, P, K] and the count of texts [b, 1] -> score [b, P].
    """

    width: int
    parts: Callable[[Array, Array], Array]
    finish: Callable[[Array, Array], Array]


def _summed(tally: _Tally, answers: Array, exit_layer: Array, labels: Array, weights: Array) -> Array:
    """Return scores [B, P] of distinct exit layers [P, N], summing a bounded number of texts and draws at a time."""
    settings, texts = exit_layer.shape
    layers = answers.shape[1]
    wide = settings * tally.width
    draws_at_once = max(1, _AT_ONCE // wide)
    texts_at_once = max(1, _AT_ONCE // max(wide, layers * tally.width, draws_at_once))
    scores = np.empty((len(weights), settings))
    for first in range(0, len(weights), draws_at_once):
        block = weights[first : first + draws_at_once]
        sums = np.zeros((len(block), wide))
        for begin in range(0, texts, texts_at_once):
            rows = slice(begin, begin + texts_at_once)
            parts = tally.parts(answers[rows], labels[rows])
            at = exit_layer[:, rows].T.astype(np.int64)[..., None] - 1  # [n, P, 1]
            chosen = np.take_along_axis(parts, at, axis=1)  # [n, P, K]
            sums += block[:, rows].astype(np.float64) @ chosen.reshape(len(chosen), wide)
        scores[first : first + draws_at_once] = tally.finish(
            sums.reshape(len(block), settings, tally.width), block.sum(1, keepdims=True)
        )
    return scores


def _mean_depths(exit_layer: Array, weights: Array) -> Array:
    """Return the mean exit layer, [B, P]."""
    settings, texts = exit_layer.shape
    sums = np.zeros((len(weights), settings))
    step = max(1, _AT_ONCE // max(settings, len(weights)))
    for begin in range(0, texts, step):
        rows = slice(begin, begin + step)
        sums += weights[:, rows].astype(np.float64) @ exit_layer[:, rows].T.astype(np.float64)
    means: Array = sums / weights.sum(1, keepdims=True)
    return means


def _repeated(name: str, kind: ProblemType, answers: Array, exit_layer: Array, labels: Array, weights: Array) -> Array:
    """Return scores [B, P] by repeating rows: any metric, slowly."""
    rows = np.arange(len(labels))
    drawn = [np.repeat(rows, counts.astype(np.int64)) for counts in weights]
    scores = np.empty((len(weights), len(exit_layer)))
    for setting, layers in enumerate(exit_layer):
        answered = answers[rows, layers.astype(np.int64) - 1]
        for draw, picked in enumerate(drawn):
            scores[draw, setting] = score(kind, answered[picked], labels[picked], name)[1]
    return scores


def _tally(name: str, replays: Replays, labels: Array) -> _Tally | None:
    """Return the metric as a function of sums; None where it is none."""
    multi = replays.answers.ndim == 3  # [N, M, C] decisions, not [N, M] classes
    if name == "accuracy" or (name == "f1_micro" and not multi):
        return _Tally(1, _right, lambda sums, count: sums[..., 0] / count)
    if name == "f1_micro":
        return _Tally(3, lambda said, labels: _hits(said, labels).sum(3), lambda sums, _: _f1(sums)[0])
    if name in ("f1_macro", "matthews"):
        classes = labels.shape[1] if multi else int(max(replays.every_answer.max(), labels.max())) + 1
        finish = _matthews if name == "matthews" else (lambda sums: _macro(sums, every=multi))
        return _Tally(
            3 * classes,
            lambda said, labels: _hits(*((said, labels) if multi else _one_hot(said, labels, classes))).reshape(
                len(said), said.shape[1], 3 * classes
            ),
            lambda sums, _: finish(sums.reshape(*sums.shape[:-1], 3, classes)),
        )
    if name == "pearson":
        return _moments_tally(replays.answers, labels)
    return None


def _right(answers: Array, labels: Array) -> Array:
    """Return whether the whole answer is right, [n, M, 1]."""
    equal: Array = (answers == labels[:, None]).reshape(*answers.shape[:2], -1).all(-1, keepdims=True)
    return equal.astype(np.float64)


def _one_hot(answers: Array, labels: Array, classes: int) -> tuple[Array, Array]:
    kinds = np.arange(classes)
    return answers[..., None] == kinds, labels[:, None] == kinds


def _hits(answers: Array, labels: Array) -> Array:
    """Return per class (said and so, said, so) of 0/1 decisions [n, M, C] and labels [n, C]: [n, M, 3, C]."""
    said = answers.astype(np.float64)
    so = np.broadcast_to(labels[:, None].astype(np.float64), said.shape)
    return np.stack((said * so, said, so), 2)


def _f1(sums: Array) -> tuple[Array, Array]:
    """Return F1 and whether it is defined, from (hits, said, so) along the last axis; 0 where it is not."""
    both = sums[..., 1] + sums[..., 2]
    return np.where(both > 0, 2 * sums[..., 0] / np.where(both > 0, both, 1), 0.0), both > 0


def _macro(sums: Array, *, every: bool) -> Array:
    """Return the mean F1 over the classes of [..., 3, C]: `every` one, or those that were said or so."""
    values, defined = _f1(np.moveaxis(sums, -2, -1))
    mean: Array = values.mean(-1) if every else values.sum(-1) / np.maximum(defined.sum(-1), 1)
    return mean


def _matthews(sums: Array) -> Array:
    """Return Matthews' correlation of [..., 3, C] counts; 0 where it is not defined."""
    hits, said, so = sums[..., 0, :].sum(-1), sums[..., 1, :], sums[..., 2, :]
    texts = so.sum(-1)
    scale = (texts**2 - (said**2).sum(-1)) * (texts**2 - (so**2).sum(-1))
    product = hits * texts - (said * so).sum(-1)
    value: Array = np.where(scale > 0, product / np.sqrt(np.where(scale > 0, scale, 1)), 0.0)
    return value


def _moments_tally(answers: Array, labels: Array) -> _Tally:
    """Return Pearson's correlation as a function of the count and (x, y, xx, yy, xy) per column, centred first."""
    columns = 1 if labels.ndim == 1 else labels.shape[1]
    said = answers.reshape(*answers.shape[:2], columns).mean((0, 1), dtype=np.float64)
    so = labels.reshape(len(labels), columns).mean(0, dtype=np.float64)

    def parts(answers: Array, labels: Array) -> Array:
        x = answers.reshape(*answers.shape[:2], columns).astype(np.float64) - said
        y = np.broadcast_to(labels.reshape(len(labels), 1, columns) - so, x.shape)
        return np.stack((x, y, x * x, y * y, x * y), 2).reshape(*x.shape[:2], 5 * columns)

    def finish(sums: Array, count: Array) -> Array:
        n = count[..., None]
        x, y, xx, yy, xy = np.moveaxis(sums.reshape(*sums.shape[:-1], 5, columns), -2, 0)
        spread_x, spread_y = xx - x * x / n, yy - y * y / n
        # A constant column leaves rounding of its squares behind, nothing else.
        constant = (spread_x <= 1e-12 * xx) | (spread_y <= 1e-12 * yy)
        scale = np.sqrt(np.where(constant, 1.0, spread_x * spread_y))
        mean: Array = np.where(constant, 0.0, (xy - x * y / n) / scale).mean(-1)
        return mean

    return _Tally(5 * columns, parts, finish)
