"""From one full-depth recording to policies that keep a promise, with the evidence. Runs no model, writes no file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from elbert.calibration.learned import fit_aside
from elbert.calibration.notes import note, rounded
from elbert.calibration.paths import path, with_shortcuts
from elbert.calibration.promises import LADDER, check_request
from elbert.calibration.sample import Asked, Sample
from elbert.calibration.search import choose_along, learned_order, texts_needed
from elbert.errors import DataError
from elbert.exits import ExitPolicy, make
from elbert.exits.gates import SkipGates
from elbert.exits.tokens import TokenSchedule
from elbert.results import LayerOutputs
from elbert.scoring.curves import LayerZeroCost, uncounted
from elbert.tasks import task_of

AGREEMENT = "agreement"
_FEWEST = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """A policy and what stands behind it.

    Attributes:
        name: of the policy, in the model's `policies`.
        policy: the fastest whose promise was confirmed, or full depth where none was.
        evidence: JSON object as it stands in `elbert.json`; `guaranteed` says whether a test stands behind the policy.
        fitted: the family's policy with the weights that were fitted, passed or not; None where it learns nothing.
    """

    name: str
    policy: ExitPolicy
    evidence: dict[str, Any]
    fitted: ExitPolicy | None = None

    @property
    def guaranteed(self) -> bool:
        """Whether a test stands behind the policy; False where every text runs all layers because none passed."""
        return bool(self.evidence["guaranteed"])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"name": self.name, "policy": self.policy.to_dict(), **self.evidence}


def calibrate(
    outputs: LayerOutputs,
    labels: ArrayLike | None = None,
    promises: Mapping[str, float] | None = None,
    *,
    confidence: float = 0.9,
    family: str = "elbert",
    metric: str | None = None,
    bound: str | None = None,
    protect: Sequence[int] = (),
    conditional: bool = False,
    abstain: bool = False,
    seed: int = 0,
    shortened: Sequence[LayerOutputs] = (),
    layer_0_cost: LayerZeroCost = uncounted,
    on_policy: Callable[[], object] | None = None,
) -> dict[str, Calibration]:
    """Find for every promise the fastest policy of a family that keeps it.

    A promise of ε says: over all texts like these, leaving early loses less than ε against full depth, in the mean.
    What was said so is wrong for at most a share 1 - `confidence` of all calibrations, each promise taken by itself.

    Args:
        outputs: a full-depth recording of N texts the model wasn't trained on.
        labels: [N] or [N, C], encoded; None promises agreement with full depth instead.
        promises: ε by name, each in [0, 1); None takes `LADDER`.
        confidence: in (0, 1).
        family: name of a policy; its own order of parameters, or one learned on texts put aside, is searched along. The
            weights of one that learns are fitted on texts put aside before.
        metric: what `score` is measured with. The promise itself is about the loss named in the evidence.
        bound: overrules the test, one of `search.BOUNDS`.
        protect: indices of classes whose recall must keep the promise too, each by itself.
        conditional: whether the promise must also hold among the texts that leave at layer l or before, for every l.
        abstain: whether to test, on texts kept aside for it, how sure an answer must be to be right often enough.
        seed: of the texts put aside.
        shortened: recordings of the same texts, each with another schedule of tokens or other skip gates, which are
            then tried with every policy beside all tokens and layers. The fastest is what runs the fewest layers, or
            token-layers where tokens are dropped, and its loss is still against full depth with all of them.
        layer_0_cost: what layer 0 takes of every text under each policy, in layers.
        on_policy: called after every replay, for a progress bar.

    Raises:
        UsageError: a promise or a confidence out of range, an unknown family, metric or bound.
        DataError: fewer than ten texts, or labels that don't fit.
        ModelError: an output is NaN.
    """
    named = LADDER if promises is None else promises
    check_request(outputs.problem_type, named, confidence, family, metric)
    given = len(outputs.probs)
    if given < _FEWEST:
        raise DataError(f"too few texts to calibrate on: {given}; give {_FEWEST} or more, better some hundred")
    learned, unseen = fit_aside(family, outputs, labels, seed)
    recordings = [outputs, *shortened]
    if len(unseen) < given:
        recordings = [each.select(unseen) for each in recordings]
        labels = None if labels is None else np.asarray(labels)[unseen]
    asked = Asked(confidence, bound, tuple(protect), conditional, abstain, seed)
    sample = _Search(recordings, labels, metric, asked, learned, given - len(unseen), layer_0_cost, on_policy)
    return {name: sample.calibrate(name, float(max_drop)) for name, max_drop in named.items()}


class _Search(Sample):
    """Finds policies along a path, or an order of its own, through what is known of the texts."""

    def calibrate(self, name: str, max_drop: float) -> Calibration:
        """Search one promise's policy."""
        task = task_of(self.outputs.problem_type, self.classes)
        words = self.words is not None
        tried = path(self.learned, self.layers, self.classes, task, nothing=max_drop <= 0, words=words)
        tried = with_shortcuts(tried, tuple(self.recorded))
        # Along a path few leave at first, too few to test what is conditional.
        ordered = bool(tried.sequences) and not self.asked.conditional
        aside = self._aside(ordered=ordered)
        policies = self._later(tried.policies) if self.asked.conditional else tried.policies
        exit_layer = np.stack([self._exit_layers(policy) for policy in policies])
        cost = np.stack([self._cost(*each) for each in zip(policies, exit_layer, strict=True)])
        parts = [self.parts[policy.shortcut] for policy in policies]
        sequences: Sequence[tuple[float, Sequence[int]]] = tried.sequences
        if not ordered:
            sequences = [(1.0, learned_order(exit_layer, parts, max_drop, aside, cost=cost))]
        rows = np.setdiff1d(np.arange(self.n), [*aside, *self.shuffled[: self.kept]])
        choice = choose_along(sequences, exit_layer, parts, max_drop, self.level, rows=rows, cost=cost)
        policy = make("full") if choice.index is None else policies[choice.index]
        evidence = {
            "max_drop": max_drop,
            "confidence": self.asked.confidence,
            "metric": self.metric if self.labels is not None else AGREEMENT,
            "control": AGREEMENT if self.labels is None else "labels",
            "loss": self.losses[None].about,
            "method": "learn-then-test, fixed sequence, "
            + ("order given in advance" if ordered else "order learned on texts put aside"),
            "protect": list(self.asked.protect),
            "protected_texts": [int(members[rows].sum()) for members, _ in self.parts[None].classes],
            "conditional": self.asked.conditional,
            "bound": self.bound,
            "family": self.learned.name,
            "tried": len(policies),
            **self._shortcuts(),
            "n": self.n,
            "tested_on": len(rows),
            **({"fitted_on": self.fitted_on} if self.fitted_on else {}),
            "needed": self._needed(max_drop, sequences[0][0], (self.n + self.fitted_on) / len(rows)),
            **self._outcome(policy),
            "p_value": choice.p_value,
            "guaranteed": choice.index is not None,
            "exits": self.exits,
        }
        fitted = self.learned if self.learned.learned else None
        return Calibration(
            name,
            policy,
            rounded({**evidence, "note": note(choice, evidence, policy)}),
            fitted,
        )

    def _later(self, policies: tuple[ExitPolicy, ...]) -> tuple[ExitPolicy, ...]:
        """Return the policies with every `min_layer`.

        A promise that is conditional can't be tested at a layer at which hardly any text leaves, nor kept at one that
        is often wrong; where nobody may leave before a later layer, nothing has to be said of those before.
        """
        return tuple(
            dataclasses.replace(policy, min_layer=layer)
            for policy in policies
            for layer in range(policy.min_layer, max(policy.max_layer or self.layers - 1, policy.min_layer) + 1)
        )

    def _shortcuts(self) -> dict[str, Any]:
        """Return the schedules of tokens and the thresholds of gates that were tried, where there were any."""
        schedules = [str(way) for way in self.recorded if isinstance(way, TokenSchedule)]
        thresholds = [way.threshold for way in self.recorded if isinstance(way, SkipGates)]
        return {name: values for name, values in (("schedules", schedules), ("gates", thresholds)) if values}

    def _needed(self, max_drop: float, share: float, times: float) -> int | None:
        """Return how many texts a test at this share of the level takes, with those put aside."""
        fewest = texts_needed(max_drop, self.level * share, self.bound)
        return None if fewest is None else math.ceil(fewest * times)
