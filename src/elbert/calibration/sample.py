"""The texts of one calibration: what every policy does with them, and what that costs. N texts, M exits, C classes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from elbert.calibration.confidence import abstention, describe_exits
from elbert.calibration.drift import exit_confidence, summarize
from elbert.calibration.losses import Losses, agreement_losses, label_losses, value_range
from elbert.calibration.notes import rounded
from elbert.calibration.parts import Parts, class_parts
from elbert.exits import ExitPolicy, make, replay
from elbert.exits.gates import Shortcut
from elbert.exits.tokens import TokenSchedule, token_layers
from elbert.exits.words import by_words
from elbert.results import LayerOutputs
from elbert.scoring.curves import LayerZeroCost
from elbert.scoring.metrics import metric_name, score
from elbert.tasks import task_of

# Share of the texts that an order is learned on where a family has none of its own, that which fixes a scale, and that
# on which abstention is tested.
_ASIDE, _ABSTAIN_ASIDE = 0.3, 0.3


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of every promise; as in `calibrate`."""

    confidence: float
    bound: str | None
    protect: tuple[int, ...]
    conditional: bool
    abstain: bool
    seed: int


class Sample:
    """The texts of one calibration, replayed once for all promises."""

    def __init__(
        self,
        recordings: Sequence[LayerOutputs],
        labels: ArrayLike | None,
        metric: str | None,
        asked: Asked,
        learned: ExitPolicy,
        fitted_on: int,
        layer_0_cost: LayerZeroCost,
        on_policy: Callable[[], object] | None,
    ) -> None:
        self.recorded = {each.shortcut: each for each in recordings}  # None the first
        self.drops = any(isinstance(each, TokenSchedule) for each in self.recorded)  # some drop tokens
        outputs = self.outputs = recordings[0]
        self.lengths = outputs.lengths.numpy()
        self.asked, self.learned, self.fitted_on, self.layer_0_cost = asked, learned, fitted_on, layer_0_cost
        self.level = 1 - asked.confidence
        self.n, self.layers, self.classes = outputs.probs.shape
        self.metric = metric_name(outputs.problem_type, metric)
        self.labels = None if labels is None else torch.as_tensor(np.asarray(labels))
        self.shuffled = np.random.default_rng(asked.seed).permutation(self.n)
        self.kept = math.ceil(_ABSTAIN_ASIDE * self.n) if asked.abstain else 0  # the first so many of them
        self.task = task_of(outputs.problem_type)
        self._replayed: dict[ExitPolicy, NDArray[np.int64]] = {make("full"): replay(make("full"), outputs).numpy()}
        self.losses = self._losses()
        self.bound = asked.bound or self.losses[None].bound
        self.parts = self._parts()
        self.on_policy = on_policy or (lambda: None)
        self.words = None if outputs.words is None else outputs.words.numpy()  # what layer 0 says of each text
        self.exits: list[dict[str, Any]] = rounded(describe_exits(outputs, self.losses[None], self.labels))

    def _losses(self) -> dict[Shortcut | None, Losses]:
        """Return the losses by what texts left out, all of them against those of full depth with all tokens."""
        aside = self._aside(ordered=True)  # nobody, where there are no values that want a scale
        given = self.outputs.probs[:, -1] if self.labels is None else self.labels
        scale = value_range(given[aside]) if len(aside) else 1.0
        found = {
            way: agreement_losses(each, scale, whole=self.outputs)
            if self.labels is None
            else label_losses(each, self.labels, self.metric, scale)
            for way, each in self.recorded.items()
        }
        return {way: each.against(found[None]) for way, each in found.items()}

    def _parts(self) -> dict[Shortcut | None, Parts]:
        """Return what a promise must hold for, by what texts left out."""
        parts: dict[Shortcut | None, Parts] = {}
        for way, outputs in self.recorded.items():
            classes = () if self.labels is None else class_parts(outputs, self.labels, self.asked.protect)
            if parts:
                pairs = zip(classes, parts[None].classes, strict=True)
                classes = tuple((members, losses.against(whole)) for (members, losses), (_, whole) in pairs)
            parts[way] = Parts(self.losses[way], self.bound, classes, self.asked.conditional)
        return parts

    def _aside(self, *, ordered: bool) -> NDArray[np.int64]:
        """Return the texts that are not tested on, because an order or a scale is taken from them."""
        share = max(0.0 if ordered else _ASIDE, self.task.scale_share)
        return np.asarray(self.shuffled[self.kept : self.kept + math.ceil(share * (self.n - self.kept))])

    def _exit_layers(self, policy: ExitPolicy) -> NDArray[np.int64]:
        alone = dataclasses.replace(policy, words=None)
        if alone not in self._replayed:
            self._replayed[alone] = replay(alone, self.recorded[policy.shortcut]).cpu().numpy()
            self.on_policy()
        if self.words is None or policy.words is None:
            return self._replayed[alone]
        return np.where(by_words(self.words, self.task, policy.words), 0, self._replayed[alone])

    def _cost(self, policy: ExitPolicy, exit_layer: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what every text costs, [n]: its token-layers where schedules are tried, else its layers."""
        ran, all_tokens = exit_layer, np.ones(self.n)
        if self.drops:
            ran, all_tokens = token_layers(policy.tokens, self.lengths, exit_layer), self.lengths
        return np.asarray(ran + self.layer_0_cost(policy) * all_tokens, np.float64)

    def _token_layers(self, policy: ExitPolicy, exit_layer: NDArray[np.int64]) -> float:
        """Return the token-layers of the policy as a share of full depth's."""
        return float(self._cost(policy, exit_layer).sum() / (self.lengths.sum() * self.layers))

    def _outcome(self, policy: ExitPolicy) -> dict[str, Any]:
        """Return what the policy does with these texts."""
        exit_layer, way = self._exit_layers(policy), policy.shortcut
        sure = exit_confidence(self.recorded[way], exit_layer)
        wrong = self.losses[way].at(exit_layer) > 0
        words, full = self.layer_0_cost(policy), self.layers + self.layer_0_cost(make("full"))
        mean = float(exit_layer.mean()) + words
        return {
            "score": self._score(exit_layer, way),
            "full_depth_score": self._score(np.full(self.n, self.layers)),
            "agreement": self._agreement(exit_layer, way),
            "mean_exit_layer": mean,
            "layer_speedup": full / mean if mean else None,
            **({"token_layers": self._token_layers(policy, exit_layer)} if self.drops else {}),
            **({"layer_0": int((exit_layer == 0).sum())} if policy.words is not None else {}),
            **({"layer_0_cost": words} if words else {}),
            "exit_histogram": np.bincount(exit_layer, minlength=self.layers + 1)[1:].tolist(),
            "abstain": self._abstention(sure, wrong),
            "abstain_on": self.kept,
            "exit_gaps": self._gaps(exit_layer, way),
            "classes": self._recalls(exit_layer, way),
            "drift": summarize(sure),
        }

    def _agreement(self, exit_layer: NDArray[Any], way: Shortcut | None) -> float | None:
        """Return the share of texts answered as full depth would; None for values, which are never quite the same."""
        same = self.task.right(self.recorded[way].at(exit_layer), self.task.decisions(self.outputs.probs[:, -1]))
        return None if same is None else float(same.float().mean())

    def _abstention(self, sure: NDArray[np.float64], wrong: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Test it on the texts kept aside; nothing is said of those that the policy was chosen on."""
        if self.labels is None or not self.kept or self.task.right(self.outputs.probs[:, -1], self.labels) is None:
            return []
        rows = self.shuffled[: self.kept]
        return abstention(sure[rows], wrong[rows], self.level)

    def _gaps(self, exit_layer: NDArray[Any], way: Shortcut | None) -> list[dict[str, Any]]:
        """Return for every layer at which texts leave how many do, and what they lose there in the mean."""
        differences = self.losses[way].differences(exit_layer)
        layers = [(layer, exit_layer == layer) for layer in np.unique(exit_layer).tolist()]
        return [{"layer": layer, "n": int(at.sum()), "gap": float(differences[at].mean())} for layer, at in layers]

    def _recalls(self, exit_layer: NDArray[Any], way: Shortcut | None) -> list[dict[str, Any]]:
        """Return for every class, [C], its share of the texts and how many of its texts are found, early and late.

        A promise about all texts together says little of a class that is a small part of them.
        """
        so = None if self.labels is None else self.task.members(self.labels, self.classes)
        if so is None:
            return []
        said = [
            self.task.members(self.task.decisions(each.at(layers)), self.classes)
            for each, layers in (
                (self.recorded[way], exit_layer),
                (self.outputs, np.full(self.n, self.layers)),
            )
        ]
        early, late = ((so & each).sum(0).tolist() for each in said if each is not None)
        found = zip(so.sum(0).tolist(), early, late, strict=True)
        return [
            {"share": n / self.n, "recall": a / n if n else None, "full_depth_recall": b / n if n else None}
            for n, a, b in found
        ]

    def _score(self, exit_layer: NDArray[Any], way: Shortcut | None = None) -> float:
        if self.labels is None:
            return 1.0 - float(self.losses[way].at(exit_layer).mean())
        given = self.task.decisions(self.recorded[way].at(exit_layer)).numpy()
        return score(self.outputs.problem_type, given, self.labels.numpy(), self.metric)[1]
