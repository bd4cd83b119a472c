"""CeeBERT: the threshold of confidence is chosen while texts come, without labels. Keeps no memory of a text."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import Array
from elbert.exits.base import Found, State, Sweep
from elbert.exits.learned import Learned, Weights
from elbert.exits.parameters import number
from elbert.results import ExitOutput
from elbert.tasks import reading

# Texts after which all sums are halved: means stay as they are, older texts count less, and fp32 still counts each.
_MEMORY = 65_536

# The thresholds to choose from.
ARMS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)

_COSTS = (0.3, 0.1, 0.05, 0.03, 0.02, 0.015, 0.01, 0.007, 0.005, 0.003, 0.002, 0.001, 0.0)


@dataclass(frozen=True)
class Bandit(Learned):
    """Leave at the first layer i where max_j p_i(j) >= t, t the threshold that has paid best so far.

    Rule: of a text that leaves at layer e threshold t earns C_e − C_1 − cost · (e − 1), C the confidence: a later exit
    has to earn its layers in confidence. t is the arm of the greatest mean reward + `curiosity` · √(ln n / n_t), n_t
    how often the arm was tried, n the sum of these; an arm never tried comes first. No label is asked for, so it can
    follow texts that change. For multi-label the least sure label's confidence counts; regression has none and never
    leaves early.

    A policy is what has been learnt so far and never changes: `observed` returns another one, `OnlineBandit` keeps the
    newest for several threads. A text teaches all arms whose exit its confidences tell (the paper's side observations).
    Fitting watches whole recordings, where that is every arm, so one fit serves every cost. `cost` has one value for
    all layers (our reading of the paper's two weights), and arms are single thresholds for all exits.

    Source: Bajpai and Hanawal, "CeeBERT", Findings of ACL 2024; likewise "UAT", 2025.
    """

    name: ClassVar[str] = "bandit"
    summary: ClassVar[str] = "leave when the confidence reaches a threshold chosen online, without labels (CeeBERT)"
    citation: ClassVar[str] = (
        "Bajpai and Hanawal, CeeBERT: Cross-Domain Inference in Early Exit BERT, Findings of ACL 2024, "
        "arXiv:2405.15039; UAT, 2025, arXiv:2509.23666"
    )
    axes: ClassVar[Mapping[str, int]] = {"tried": 1, "gained": 1, "passed": 1, "layers": 0}
    sweep: ClassVar[Sweep] = {"cost": _COSTS}

    cost: float = number(0.02, "confidence that a layer more has to earn")
    curiosity: float = number(2.0, "how much an arm seldom tried is preferred")

    @classmethod
    def fresh(cls, layers: int, **parameters: Any) -> Bandit:
        """Return a policy that has seen no text.

        Args:
            layers: M of the model.
            parameters: of the policy.
        """
        none = np.zeros(len(ARMS))
        return cls(**parameters).with_tensors({"tried": none, "gained": none, "passed": none, "layers": layers})

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Return how often each arm was tried, and what it gained in confidence and passed in layers, summed."""
        del targets
        sure = reading(said).confidence(said.probs)
        texts, layers = sure.shape
        sure = np.where(np.isfinite(sure), sure, 0.0)
        gained, passed = [], []
        for arm in ARMS:
            reached = sure >= arm
            reached[:, -1] = True
            exits = reached.argmax(1)
            gained.append((sure[np.arange(texts), exits] - sure[:, 0]).sum(dtype=np.float64))
            passed.append(exits.sum())
        return {"tried": np.full(len(ARMS), texts), "gained": gained, "passed": passed, "layers": layers}

    def observed(self, confidences: Sequence[float]) -> Bandit:
        """Return the policy that has learnt from one more text.

        Args:
            confidences: of the text's exits, from the first to the one where it left, 1 to M of them.
        """
        self.check_fitted()
        sure = np.asarray(confidences, np.float64)
        whole = len(sure) >= int(self.weights["layers"])
        sums = {name: self.weights[name].astype(np.float64) for name in ("tried", "gained", "passed")}
        for place, arm in enumerate(ARMS):
            reached = np.flatnonzero(sure >= arm)
            if not len(reached) and not whole:
                continue  # nobody knows where this arm would have let it go
            left = int(reached[0]) if len(reached) else len(sure) - 1
            sums["tried"][place] += 1
            sums["gained"][place] += sure[left] - sure[0]
            sums["passed"][place] += left
        if sums["tried"].max() >= _MEMORY:
            sums = {name: values / 2 for name, values in sums.items()}
        return dataclasses.replace(self, weights=Weights({**sums, "layers": self.weights["layers"]}))

    @cached_property
    def threshold(self) -> float:
        """The arm in use.

        Raises:
            UsageError: nothing is known yet, not even M; see `fresh`.
        """
        self.check_fitted()
        tried = self.weights["tried"].astype(np.float64)
        if (tried == 0).any():
            return ARMS[int(np.flatnonzero(tried == 0)[0])]
        means = (self.weights["gained"] - self.cost * self.weights["passed"]) / tried
        bonus = self.curiosity * np.sqrt(math.log(max(tried.sum(), 1)) / tried)
        return ARMS[int(np.argmax(means + bonus))]

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compare the confidence with the arm in use."""
        del layer
        sure = reading(output).confidence(output.probs)
        return {"fired": sure >= self.threshold, "confidence": sure}, state

    def reason(self, found: Mapping[str, Any], layer: int) -> str:
        """Return the confidence and the arm in use."""
        del layer
        return f"confidence {found['confidence']:.4g}, threshold {self.threshold:g}, chosen online"


class OnlineBandit:
    """The policy in use and what it goes on learning, for several threads: nobody reads a policy half changed.

    Args:
        policy: to begin with.
    """

    def __init__(self, policy: Bandit) -> None:
        self._policy = policy
        self._lock = threading.Lock()

    @property
    def policy(self) -> Bandit:
        """The newest policy; it stays as it is, and may be saved like any other."""
        return self._policy

    def observe(self, confidences: Sequence[float]) -> None:
        """Learn from one more text, see `Bandit.observed`; no text is lost where several come at once."""
        with self._lock:
            self._policy = self._policy.observed(confidences)
