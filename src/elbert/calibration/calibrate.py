"""From one full-depth recording to policies that keep a promise, with the evidence. Runs no model, writes no file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from elbert.calibration.confidence import abstention, describe_exits
from elbert.calibration.drift import exit_confidence, summarize
from elbert.calibration.learned import fit_aside
from elbert.calibration.losses import Losses, agreement_losses, label_losses, value_range
from elbert.calibration.notes import note, rounded
from elbert.calibration.parts import Parts, class_parts
from elbert.calibration.paths import path
from elbert.calibration.promises import LADDER, check_request
from elbert.calibration.search import choose_along, learned_order, texts_needed
from elbert.errors import DataError
from elbert.exits import ExitPolicy, make, replay
from elbert.exits.words import by_words
from elbert.results import LayerOutputs
from elbert.scoring.metrics import metric_name, score
from elbert.tasks import task_of

AGREEMENT = "agreement"
_FEWEST = 10
# Share of the texts that an order is learned on where a family has none of its own, that which fixes a scale, and that
# on which abstention is tested.
_ASIDE, _ABSTAIN_ASIDE = 0.3, 0.3


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
        raise DataError(f"{given} texts are too few to calibrate on; give {_FEWEST}, better some hundred")
    learned, unseen = fit_aside(family, outputs, labels, seed)
    if len(unseen) < given:
        outputs, labels = outputs.select(unseen), None if labels is None else np.asarray(labels)[unseen]
    asked = _Asked(confidence, bound, tuple(protect), conditional, abstain, seed)
    sample = _Sample(outputs, labels, metric, asked, learned, given - len(unseen), on_policy)
    return {name: sample.calibrate(name, float(max_drop)) for name, max_drop in named.items()}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of every promise; as in `calibrate`."""

    confidence: float
    bound: str | None
    protect: tuple[int, ...]
    conditional: bool
    abstain: bool
    seed: int


class _Sample:
    """The texts of one calibration, replayed once for all promises."""

    def __init__(
        self,
        outputs: LayerOutputs,
        labels: ArrayLike | None,
        metric: str | None,
        asked: _Asked,
        learned: ExitPolicy,
        fitted_on: int,
        on_policy: Callable[[], object] | None,
    ) -> None:
        self.outputs, self.asked, self.learned, self.fitted_on = outputs, asked, learned, fitted_on
        self.level = 1 - asked.confidence
        self.n, self.layers, self.classes = outputs.probs.shape
        self.metric = metric_name(outputs.problem_type, metric)
        self.labels = None if labels is None else torch.as_tensor(np.asarray(labels))
        self.shuffled = np.random.default_rng(asked.seed).permutation(self.n)
        self.kept = math.ceil(_ABSTAIN_ASIDE * self.n) if asked.abstain else 0  # the first so many of them
        self.task = task_of(outputs.problem_type)
        self._replayed: dict[ExitPolicy, NDArray[np.int64]] = {make("full"): replay(make("full"), outputs).numpy()}
        self.losses = self._losses()
        self.bound = asked.bound or self.losses.bound
        classes = class_parts(outputs, self.labels, asked.protect) if self.labels is not None else ()
        self.parts = Parts(self.losses, self.bound, classes, asked.conditional)
        self.on_policy = on_policy or (lambda: None)
        self.words = None if outputs.words is None else outputs.words.numpy()  # what layer 0 says of each text
        self.exits: list[dict[str, Any]] = rounded(describe_exits(outputs, self.losses, self.labels))

    def calibrate(self, name: str, max_drop: float) -> Calibration:
        """Search one promise's policy."""
        task = task_of(self.outputs.problem_type, self.classes)
        words = self.words is not None
        tried = path(self.learned, self.layers, self.classes, task, nothing=max_drop <= 0, words=words)
        # Along a path few leave at first, too few to test what is conditional.
        ordered = bool(tried.sequences) and not self.asked.conditional
        aside = self._aside(ordered=ordered)
        policies = self._later(tried.policies) if self.asked.conditional else tried.policies
        exit_layer = np.stack([self._exit_layers(policy) for policy in policies])
        sequences: Sequence[tuple[float, Sequence[int]]] = tried.sequences
        if not ordered:
            sequences = [(1.0, learned_order(exit_layer, self.parts, max_drop, aside))]
        rows = np.setdiff1d(np.arange(self.n), [*aside, *self.shuffled[: self.kept]])
        choice = choose_along(sequences, exit_layer, self.parts, max_drop, self.level, rows=rows)
        policy = make("full") if choice.index is None else policies[choice.index]
        evidence = {
            "max_drop": max_drop,
            "confidence": self.asked.confidence,
            "metric": self.metric if self.labels is not None else AGREEMENT,
            "control": AGREEMENT if self.labels is None else "labels",
            "loss": self.losses.about,
            "method": "learn-then-test, fixed sequence, "
            + ("order given in advance" if ordered else "order learned on texts put aside"),
            "protect": list(self.asked.protect),
            "protected_texts": [int(members[rows].sum()) for members, _ in self.parts.classes],
            "conditional": self.asked.conditional,
            "bound": self.bound,
            "family": self.learned.name,
            "tried": len(policies),
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
        return Calibration(name, policy, rounded({**evidence, "note": note(choice, evidence)}), fitted)

    def _losses(self) -> Losses:
        aside = self._aside(ordered=True)  # nobody, where there are no values that want a scale
        given = self.outputs.probs[:, -1] if self.labels is None else self.labels
        scale = value_range(given[aside]) if len(aside) else 1.0
        if self.labels is None:
            return agreement_losses(self.outputs, scale)
        return label_losses(self.outputs, self.labels, self.metric, scale)

    def _aside(self, *, ordered: bool) -> NDArray[np.int64]:
        """Return the texts that are not tested on, because an order or a scale is taken from them."""
        share = max(0.0 if ordered else _ASIDE, self.task.scale_share)
        return np.asarray(self.shuffled[self.kept : self.kept + math.ceil(share * (self.n - self.kept))])

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

    def _exit_layers(self, policy: ExitPolicy) -> NDArray[np.int64]:
        alone = dataclasses.replace(policy, words=None)
        if alone not in self._replayed:
            self._replayed[alone] = replay(alone, self.outputs).cpu().numpy()
            self.on_policy()
        if self.words is None or policy.words is None:
            return self._replayed[alone]
        return np.where(by_words(self.words, self.task, policy.words), 0, self._replayed[alone])

    def _needed(self, max_drop: float, share: float, times: float) -> int | None:
        """Return how many texts a test at this share of the level takes, with those put aside."""
        fewest = texts_needed(max_drop, self.level * share, self.bound)
        return None if fewest is None else math.ceil(fewest * times)

    def _outcome(self, policy: ExitPolicy) -> dict[str, Any]:
        """Return what the policy does with these texts."""
        exit_layer = self._exit_layers(policy)
        sure = exit_confidence(self.outputs, exit_layer)
        wrong = self.losses.at(exit_layer) > 0
        mean = float(exit_layer.mean())
        return {
            "score": self._score(exit_layer),
            "full_depth_score": self._score(np.full(self.n, self.layers)),
            "agreement": self._agreement(exit_layer),
            "mean_exit_layer": mean,
            "layer_speedup": self.layers / mean if mean else None,
            **({"layer_0": int((exit_layer == 0).sum())} if policy.words is not None else {}),
            "exit_histogram": np.bincount(exit_layer, minlength=self.layers + 1)[1:].tolist(),
            "abstain": self._abstention(sure, wrong),
            "abstain_on": self.kept,
            "exit_gaps": self._gaps(exit_layer),
            "classes": self._recalls(exit_layer),
            "drift": summarize(sure),
        }

    def _agreement(self, exit_layer: NDArray[Any]) -> float | None:
        """Return the share of texts answered as full depth would; None for values, which are never quite the same."""
        same = self.task.right(self.outputs.at(exit_layer), self.task.decisions(self.outputs.probs[:, -1]))
        return None if same is None else float(same.float().mean())

    def _abstention(self, sure: NDArray[np.float64], wrong: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Test it on the texts kept aside; nothing is said of those that the policy was chosen on."""
        if self.labels is None or not self.kept or self.task.right(self.outputs.probs[:, -1], self.labels) is None:
            return []
        rows = self.shuffled[: self.kept]
        return abstention(sure[rows], wrong[rows], self.level)

    def _gaps(self, exit_layer: NDArray[Any]) -> list[dict[str, Any]]:
        """Return for every layer at which texts leave how many do, and what they lose there in the mean."""
        differences = self.losses.differences(exit_layer)
        layers = [(layer, exit_layer == layer) for layer in np.unique(exit_layer).tolist()]
        return [{"layer": layer, "n": int(at.sum()), "gap": float(differences[at].mean())} for layer, at in layers]

    def _recalls(self, exit_layer: NDArray[Any]) -> list[dict[str, Any]]:
        """Return for every class, [C], its share of the texts and how many of its texts are found, early and late.

        A promise about all texts together says little of a class that is a small part of them.
        """
        so = None if self.labels is None else self.task.members(self.labels, self.classes)
        if so is None:
            return []
        said = [
            self.task.members(self.task.decisions(self.outputs.at(layers)), self.classes)
            for layers in (exit_layer, np.full(self.n, self.layers))
        ]
        early, late = ((so & each).sum(0).tolist() for each in said if each is not None)
        found = zip(so.sum(0).tolist(), early, late, strict=True)
        return [
            {"share": n / self.n, "recall": a / n if n else None, "full_depth_recall": b / n if n else None}
            for n, a, b in found
        ]

    def _score(self, exit_layer: NDArray[Any]) -> float:
        if self.labels is None:
            return 1.0 - float(self.losses.at(exit_layer).mean())
        given = self.task.decisions(self.outputs.at(exit_layer)).numpy()
        return score(self.outputs.problem_type, given, self.labels.numpy(), self.metric)[1]
