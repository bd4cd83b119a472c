"""How far each exit's confidence can be believed, and what is gained by not answering where it is low.

N texts, M exits, C classes. Regression has no confidence: its exits are described by their distance from the truth
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from elbert.calibration.losses import Losses
from elbert.calibration.statistics import binomial_p_value
from elbert.exits.fitting import temperature
from elbert.lazy import from_extra
from elbert.results import LayerOutputs
from elbert.tasks import reading

Array = NDArray[np.float64]

# Errors among the answered texts for which the share that can be answered is written down.
ABSTAIN_LEVELS = (0.01, 0.02, 0.05, 0.1)
_THRESHOLDS = (0.999, 0.99, 0.97, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.35)
_BINS = 15


def describe_exits(outputs: LayerOutputs, losses: Losses, labels: Tensor | None) -> list[dict[str, Any]]:
    """Describe every exit, [M] dicts.

    Args:
        outputs: a full-depth recording.
        losses: of the same texts; a loss above 0 is a mistake.
        labels: [N] or [N, C]; None where there are none, and then only `auroc` is given.

    Returns:
        `layer`; `temperature` (divide the logits by it; fitted by likelihood on these texts), `ece` (15 bins of equal
        width) and `brier` (summed over classes) of the probabilities as they are; `auroc`: how well low confidence
        finds the mistakes, 0.5 is chance, None where there are none or nothing else. For regression `loss` instead.
    """
    task, described = reading(outputs), []
    for layer in range(outputs.probs.shape[1]):
        probs, logits = outputs.probs[:, layer].double(), outputs.logits[:, layer].double()
        entry: dict[str, Any] = {"layer": layer + 1}
        if not task.has_classes:
            described.append({**entry, "loss": float(losses.by_exit[:, layer].mean())})
            continue
        if labels is not None:
            believed, right, targets = task.bets(probs, labels)
            entry["temperature"] = temperature(logits.numpy(), labels.numpy(), task)
            entry["ece"] = calibration_error(believed.numpy(), right.numpy())
            entry["brier"] = float(((probs - targets) ** 2).sum(-1).mean())
        entry["auroc"] = auroc(-task.confidence(probs).numpy(), losses.by_exit[:, layer] > 0)
        described.append(entry)
    return described


def calibration_error(confidence: Array, right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: mean distance of confidence from accuracy over 15 bins of equal width."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gap = np.bincount(bins, weights=confidence - right, minlength=_BINS)
    return float(np.abs(gap).sum() / len(confidence))


def auroc(suspicion: Array, wrong: NDArray[np.bool_]) -> float | None:
    """Return the chance that a mistake is more suspicious than a right answer, ties half; None where one lacks."""
    mistakes = int(wrong.sum())
    if mistakes in (0, len(wrong)):
        return None
    stats = from_extra("calibrate", "scipy.stats")
    wins = stats.mannwhitneyu(suspicion[wrong], suspicion[~wrong], method="asymptotic").statistic
    return float(wins / (mistakes * (len(wrong) - mistakes)))


def abstention(
    confidence: Array, wrong: NDArray[np.bool_], level: float, targets: Sequence[float] = ABSTAIN_LEVELS
) -> list[dict[str, Any]]:
    """Return for every error that may be allowed how many texts can still be answered.

    Ten thresholds are tested for each target, each by a binomial test over the texts it answers, at a tenth of the
    level. So with probability 1 - level the error among the texts answered is below the target (each target by itself).

    Args:
        confidence: [N] of the answers.
        wrong: [N] which of them are wrong.
        level: in (0, 1).
        targets: errors, in (0, 1).

    Returns:
        Dicts of `max_error`, `confidence` (answer where it is reached; None: no threshold passes), `coverage`, the
        share of these texts that is answered, and `error` among them.
    """
    rows: list[dict[str, Any]] = []
    for target in targets:
        found: dict[str, Any] = {"max_error": target, "confidence": None, "coverage": 0.0, "error": None}
        for threshold in _THRESHOLDS:
            answered = confidence >= threshold
            count, mistakes = int(answered.sum()), int(wrong[answered].sum())
            if count and float(binomial_p_value(mistakes, count, target)) <= level / len(_THRESHOLDS):
                found |= {"confidence": threshold, "coverage": count / len(wrong), "error": mistakes / count}
        rows.append(found)
    return rows
