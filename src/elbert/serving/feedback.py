"""How often early answers agree with full depth, and an alarm where that is less than calibration led to expect."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from elbert.serving.metrics import Metrics

_log = logging.getLogger("elbert.serving")

# Answers of a level that are looked back on, and how many there must be before anything is made of them.
_LAST, _FEWEST = 500, 100

# Standard deviations below what was expected that sound the alarm: it is looked at after every answer.
_ALARM = 3.5


def expected_agreement(evidence: Mapping[str, Any]) -> float | None:
    """Return the share of early answers that have to agree with full depth; None where calibration says nothing of it.

    Older evidence has no agreement, but a bound of it: answers differ where one of the two is wrong. Full depth is
    wrong in 1 - s of the texts; so early answers win at most there, and lose at most `max_drop` more often than they
    win.
    """
    if evidence.get("agreement") is not None:
        return float(evidence["agreement"])
    score, drop = evidence.get("full_depth_score"), evidence.get("max_drop")
    if evidence.get("metric") != "accuracy" or score is None or drop is None:
        return None
    return max(1 - float(drop) - 2 * (1 - float(score)), 0.0)


class Feedback:
    """What full depth said of the early answers of one model. Lives in the event loop alone.

    Args:
        model: its name.
        evidence: of its calibrated policies, by name.
        metrics: the server's.

    Attributes:
        drifting: names of the policies whose early answers agree too seldom.
    """

    def __init__(self, model: str, evidence: Mapping[str, Mapping[str, Any]], metrics: Metrics) -> None:
        self._model, self._metrics = model, metrics
        self._expected = {name: expected_agreement(each) for name, each in evidence.items()}
        self._seen: dict[str, deque[bool]] = {}
        self.drifting: set[str] = set()

    def note(self, policy: str, agrees: bool) -> None:
        """Note whether an early answer under this policy was that of full depth."""
        self._metrics.feedback.labels(self._model, policy, "yes" if agrees else "no").inc()
        expected = self._expected.get(policy)
        if expected is None:
            return
        seen = self._seen.setdefault(policy, deque(maxlen=_LAST))
        seen.append(agrees)
        if len(seen) < _FEWEST:
            return
        found = sum(seen) / len(seen)
        slack = _ALARM * math.sqrt(max(expected * (1 - expected), 1 / len(seen)) / len(seen))
        drifting = found < (expected if policy in self.drifting else expected - slack)
        self._metrics.agreement.labels(self._model, policy).set(found)
        self._metrics.drift.labels(self._model, policy).set(int(drifting))
        if drifting and policy not in self.drifting:
            _log.warning(
                "model %s: %.1f %% of the early answers of %s are those of full depth, where at least %.1f %% were "
                "expected: other texts than those it was calibrated on? Run elbert check, and calibrate it anew",
                self._model,
                100 * found,
                policy,
                100 * expected,
            )
        (self.drifting.add if drifting else self.drifting.discard)(policy)
