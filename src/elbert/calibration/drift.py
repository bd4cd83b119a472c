"""Do texts of today leave where, and as surely as, the texts of the calibration did? Needs no labels.

A promise holds for texts like those it was made on. Two tests look for a difference: one on where
texts leave, one on how confident the answers are. They can't see everything: labels that changed their meaning leave no
trace here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.errors import ModelError
from elbert.lazy import from_extra
from elbert.results import LayerOutputs
from elbert.tasks import reading

Array = NDArray[np.float64]

_QUANTILES = 101
_SHUFFLES = 9_999


@dataclass(frozen=True, slots=True)
class Drift:
    """Today's texts beside the calibration's.

    Attributes:
        policy: name of the calibrated policy.
        n: texts of today.
        calibration_n: texts of the calibration.
        mean_exit_layer: of today's texts.
        calibration_mean_exit_layer: of the others.
        exit_histogram: [M] today's.
        calibration_exit_histogram: [M].
        exits_p_value: of the exit layers, by a permutation test.
        exits_distance: share of the texts that would have to leave elsewhere for the histograms to be alike.
        confidence_p_value: of the confidences (for regression: of the values), by Kolmogorov and Smirnov's test.
        confidence_distance: the greatest difference of their distribution functions.
        p_value: of both together (Bonferroni): below 0.01 means that these are other texts.
    """

    policy: str
    n: int
    calibration_n: int
    mean_exit_layer: float
    calibration_mean_exit_layer: float
    exit_histogram: tuple[int, ...]
    calibration_exit_histogram: tuple[int, ...]
    exits_p_value: float
    exits_distance: float
    confidence_p_value: float
    confidence_distance: float
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        values = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def exit_confidence(outputs: LayerOutputs, exit_layer: NDArray[Any]) -> Array:
    """Return the confidence of the answer each text left with, [N]; for regression the value itself.

    Args:
        outputs: a full-depth recording of N texts.
        exit_layer: [N], from 1 to M, or 0.
    """
    probs = outputs.at(exit_layer).double()
    return np.asarray(reading(outputs).level(probs).numpy())


def summarize(confidence: Array) -> dict[str, Any]:
    """Return at most 101 of the confidences, evenly spread, with the share of all that is at or below each.

    The values are observed ones and the shares exact, so that a test on them is never more eager than one on all.
    """
    ordered = np.sort(_coarse(confidence))
    places = np.unique(np.linspace(0, len(ordered) - 1, min(_QUANTILES, len(ordered))).round().astype(int))
    values = np.unique(ordered[places])
    shares = np.searchsorted(ordered, values, side="right") / len(ordered)
    return {"n": len(ordered), "values": values.tolist(), "at_or_below": shares.tolist()}


def check(
    policy: str, evidence: Mapping[str, Any], exit_layer: NDArray[Any], confidence: Array, seed: int = 0
) -> Drift:
    """Compare texts of today with what calibration stored.

    Args:
        policy: its name.
        evidence: of the policy, from `elbert.json`.
        exit_layer: [N] where today's texts left under that policy.
        confidence: [N] as `exit_confidence` gives it.
        seed: of the permutation test.

    Raises:
        ModelError: the evidence is of another kind, or incomplete.
        MissingExtraError: scipy is not installed.
    """
    try:
        words = [evidence["layer_0"]] if "layer_0" in evidence else []
        then = np.asarray([*words, *evidence["exit_histogram"]], dtype=np.int64)
        first = 0 if words else 1  # layer of the first count
        stored = evidence["drift"]
        values, shares = np.asarray(stored["values"], float), np.asarray(stored["at_or_below"], float)
        calibration_n = int(stored["n"])
        if values.shape != shares.shape or not len(values) or calibration_n < 1:
            raise ValueError("empty")
    except (KeyError, TypeError, ValueError):
        raise ModelError(
            "elbert.json: the calibration holds nothing to compare with; calibrate the model again"
        ) from None
    now = np.bincount(exit_layer, minlength=len(then) + first)[first:]
    if len(now) != len(then):
        raise ModelError(f"elbert.json: calibrated with {len(then)} layers, the model has more; calibrate it again")
    layers = np.arange(first, len(then) + first)
    exits = exits_p_value(then, now, seed)
    distance = float(np.abs(_shares_at(values, _coarse(confidence)) - shares).max())
    confidences = _kolmogorov(distance, calibration_n, len(confidence))
    return Drift(
        policy=policy,
        n=len(exit_layer),
        calibration_n=calibration_n,
        mean_exit_layer=float(exit_layer.mean()),
        calibration_mean_exit_layer=float((then * layers).sum() / then.sum()),
        exit_histogram=tuple(now.tolist()),
        calibration_exit_histogram=tuple(then.tolist()),
        exits_p_value=exits,
        exits_distance=float(np.abs(then / then.sum() - now / now.sum()).sum() / 2),
        confidence_p_value=confidences,
        confidence_distance=distance,
        p_value=min(1.0, 2 * min(exits, confidences)),
    )


def exits_p_value(then: ArrayLike, now: ArrayLike, seed: int = 0) -> float:
    """Return a p-value for "both histograms come from one distribution", by random divisions of all texts.

    χ² of the layers against its value in 9,999 divisions: exact whatever the counts, so no layer needs five texts.

    Args:
        then: [M] counts.
        now: [M] counts.
        seed: of the divisions.
    """
    first, second = np.asarray(then, dtype=np.int64), np.asarray(now, dtype=np.int64)
    seen, stats = np.stack((first, second))[:, first + second > 0], from_extra("calibrate", "scipy.stats")
    divisions = stats.MonteCarloMethod(n_resamples=_SHUFFLES, rng=np.random.default_rng(seed))
    return float(stats.chi2_contingency(seen, correction=False, method=divisions).pvalue)


def _coarse(confidence: Array) -> Array:
    """Return numbers of six digits, as they are stored, so that then and now are cut alike."""
    return np.array([float(f"{value:.6g}") for value in confidence.tolist()])


def _shares_at(values: Array, confidence: Array) -> Array:
    return np.asarray(np.searchsorted(np.sort(confidence), values, side="right") / len(confidence))


def _kolmogorov(distance: float, first: int, second: int) -> float:
    """Return the two-sample p-value of a greatest difference, by the effective number of texts; larger with ties."""
    # What scipy's own two-sample test does where samples are large.
    texts = max(1, round(first * second / (first + second)))
    return float(np.clip(from_extra("calibrate", "scipy.stats").kstwo.sf(distance, texts), 0.0, 1.0))
