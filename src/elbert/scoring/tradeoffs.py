"""From scores on texts and on resamples of them to points, curves, areas and bands. Runs no model, replays nothing.

S models, P settings, N texts, M layers, B resamples, D depths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.exits import ExitPolicy
from elbert.exits.fixed import Fixed
from elbert.scoring import pareto
from elbert.scoring.curves import Replays
from elbert.scoring.held_out import EDGES, LAYER_SPEEDUPS, HeldOut, band, crossed, front_of, heights
from elbert.scoring.points import TradeoffCurve, TradeoffPoint
from elbert.scoring.resample import Scores, bootstrap_weights, weighted_scores

Array = NDArray[Any]

# Behind the name of a policy whose settings have a threshold of layer 0; a schedule of tokens; gates, where others have
# none.
WITH_WORDS, SHORTENED, SKIPPING = "+words", "+tokens", "+gates"

# Times the texts are halved for `area_held_out`; each half chooses once.
_HALVINGS = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything that was scored; the methods make of it what is reported.

    Attributes:
        replays: one per model.
        at: [D] depths of the curves.
        each: [S, P] every model on all texts.
        drawn: [B, P] on resamples.
        drawn_halves: [2B, P] on both halves of each resample, no text in both: rows 2i and 2i + 1.
        halves: [2H, P] on halves of the texts, likewise.
    """

    replays: Sequence[Replays]
    at: Array
    each: Scores
    drawn: Scores
    drawn_halves: Scores
    halves: Scores

    @property
    def names(self) -> Array:
        """[P] name of every setting's policy; one that asks layer 0, drops tokens or skips layers stands beside it."""
        policies = self.replays[0].policies
        skipping = SKIPPING if any(policy.gates is None for policy in policies) else ""
        return np.array([f"{each.name}{_around(each, skipping)}" for each in policies])

    @property
    def full(self) -> int:
        """Place of full depth among the settings."""
        return int(np.flatnonzero(self.names == "full")[0])

    @property
    def ends(self) -> list[int]:
        """Places of layer 1's exit and of full depth: where every curve begins and ends."""
        constant, policies = np.flatnonzero(self.names == "fixed").tolist(), self.replays[0].policies
        first = next(place for place in constant if isinstance(each := policies[place], Fixed) and each.layer == 1)
        return [first, self.full]

    @property
    def mean(self) -> Scores:
        """[1, P] mean over models."""
        return Scores(self.each.score.mean(0, keepdims=True), self.each.mean_exit_layer.mean(0, keepdims=True))

    def curves(self) -> tuple[TradeoffCurve, ...]:
        """Return the curve of every policy."""
        held_out, fixed = self.held_out(), self._heights_held("fixed")
        ranks = held_out.ranks()
        return tuple(self._curve(name, held_out, ranks[name], fixed) for name in self.groups())

    def groups(self) -> dict[str, list[int]]:
        """Return the places of every policy's settings but those of full depth."""
        names = [name for name in dict.fromkeys(self.names.tolist()) if name != "full"]
        return {name: np.flatnonzero(self.names == name).tolist() for name in names}

    def held_out(self, groups: Mapping[str, Sequence[int]] | None = None) -> HeldOut:
        """Return the curves of groups of settings, chosen on one half of the texts and scored on the other.

        Args:
            groups: places of settings by name, `fixed` among them; None takes every policy's.
        """
        every = {name: self._with_ends(places) for name, places in (groups or self.groups()).items()}
        return HeldOut(
            at=self.at,
            lines={name: crossed(places, self.halves, self.at).mean(0) for name, places in every.items()},
            drawn={name: crossed(places, self.drawn_halves, self.at) for name, places in every.items()},
        )

    def _with_ends(self, places: Sequence[int]) -> list[int]:
        """Return settings and both ends; its own come first, so that of equals they are on the front."""
        return list(dict.fromkeys([*places, *self.ends]))

    def _places(self, name: str) -> list[int]:
        return self._with_ends(np.flatnonzero(self.names == name).tolist())

    def _curve(
        self, name: str, held_out: HeldOut, rank: tuple[float, Array], constant: tuple[Array, Array]
    ) -> TradeoffCurve:
        """Return a policy's curve; `constant` is that of a constant depth, [D] and [B, D], `rank` of `HeldOut`."""
        fixed, fixed_drawn = constant
        line, drawn = self._heights_held(name)
        low, high = np.quantile(drawn, EDGES, axis=0)
        area_held_out, area_drawn = held_out.area(name)
        fixed_held_out, fixed_area_drawn = held_out.area("fixed")
        quarter = int(np.searchsorted(self.at, max(self.at[-1] / 4, 1)))
        places = self._places(name)
        return TradeoffCurve(
            policy=name,
            points=tuple(self.points(np.flatnonzero(self.names == name).tolist())),
            depths=tuple(self.at.tolist()),
            scores=tuple(line.tolist()),
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
            area=float(pareto.area(line, self.at)),
            area_band=band(pareto.area(drawn, self.at)),
            area_held_out=area_held_out,
            area_held_out_band=band(area_drawn),
            gain_held_out=area_held_out - fixed_held_out,
            gain_held_out_band=band(area_drawn - fixed_area_drawn),
            rank=rank[0],
            rank_band=band(rank[1]),
            at_speedups=tuple(held_out.at_speedup(name, each) for each in LAYER_SPEEDUPS),
            gain=float(pareto.area(line - fixed, self.at)),
            gain_band=band(pareto.area(drawn - fixed_drawn, self.at)),
            quarter_score=float(line[quarter]),
            quarter_gain=float(line[quarter] - fixed[quarter]),
            quarter_gain_band=band(drawn[:, quarter] - fixed_drawn[:, quarter]),
            area_by_model=tuple(self._model_area(places, model) for model in range(len(self.replays))),
        )

    def _heights_held(self, name: str) -> tuple[Array, Array]:
        """Return a policy's curve [D], and [B, D] on the resamples, with the settings on its front held."""
        held = front_of(self._places(name), self.mean, 0)
        return heights(held, self.mean, self.at)[0], heights(held, self.drawn, self.at)

    def _model_area(self, places: Sequence[int], model: int) -> float:
        held = front_of(places, self.each, model)
        return float(pareto.area(heights(held, self.each, self.at, [model]), self.at)[0])

    def points(self, places: Sequence[int]) -> list[TradeoffPoint]:
        """Return settings of one policy as they are reported."""
        own, names = set(front_of(self._with_ends(places), self.mean, 0)), self.names
        fixed_first = sorted(range(len(names)), key=lambda place: names[place] not in ("fixed", "full"))
        overall = set(front_of(fixed_first, self.mean, 0))
        low, high = np.quantile(self.drawn.score[:, places], EDGES, axis=0)
        layers, mean = self.replays[0].answers.shape[1], self.mean
        asked = np.mean([each.layer_0_cost[self.full] for each in self.replays])
        full_depth = layers + float(asked)  # layer 0 is asked there too where it is added to the exits
        points = []
        for place, lowest, highest in zip(places, low.tolist(), high.tolist(), strict=True):
            policy, depth = self.replays[0].policies[place], float(mean.mean_exit_layer[0, place])
            counts = [np.bincount(each.exit_layer[place], minlength=layers + 1) for each in self.replays]
            left, *histogram = np.mean(counts, axis=0).tolist()
            points.append(
                TradeoffPoint(
                    policy=policy.to_dict(),
                    score=float(mean.score[0, place]),
                    score_band=(lowest, highest),
                    mean_exit_layer=depth,
                    layer_speedup=full_depth / depth if depth else None,
                    changed=float(np.mean([each.changed(place) for each in self.replays])),
                    exit_histogram=tuple(histogram),
                    on_front=place in own,
                    on_overall_front=place in overall,
                    layer_0=None if policy.words is None else left,
                )
            )
        return points


def _around(policy: ExitPolicy, skipping: str) -> str:
    """Return what a policy does around its exits, as it stands behind its name; `skipping` for gates."""
    words = "" if policy.words is None else WITH_WORDS
    return words + (SHORTENED if policy.tokens else skipping if policy.gates else "")


def draw_sample(
    replays: Sequence[Replays], labels: ArrayLike, metric: str, bootstrap: int, rng: np.random.Generator
) -> Sample:
    """Score every setting on all texts, on resamples and on halves of them.

    Args:
        replays: one per model, over the same texts and settings; `fixed` at layer 1 and `full` are among these.
        labels: [N] or [N, C], encoded as the metric wants them.
        metric: its full name.
        bootstrap: B.
        rng: draws texts and models.
    """
    texts, layers = replays[0].answers.shape[:2]
    whole = [weighted_scores(each, labels, np.ones((1, texts), dtype=np.int64), metric) for each in replays]
    drawn, drawn_halves = _drawn(replays, labels, metric, bootstrap, rng)
    return Sample(
        replays=replays,
        at=pareto.depths_between(layers),
        each=Scores(*(np.concatenate(values) for values in _columns(whole))),
        drawn=drawn,
        drawn_halves=drawn_halves,
        halves=_halves(replays, labels, metric, rng),
    )


def _columns(results: Sequence[Scores]) -> tuple[list[Array], list[Array]]:
    return [each.score for each in results], [each.mean_exit_layer for each in results]


def _mean(results: Sequence[Scores]) -> Scores:
    """Return the mean over models of [B, P] each."""
    return Scores(*(np.mean(values, axis=0) for values in _columns(results)))


def _drawn(
    replays: Sequence[Replays], labels: ArrayLike, metric: str, bootstrap: int, rng: np.random.Generator
) -> tuple[Scores, Scores]:
    """Return [B, P] and [2B, P]: texts drawn anew, the same for every model, and the halves of what was drawn.

    Models are drawn anew too where there are several. All copies of a text fall into the same half.
    """
    whole, halves = [], []
    for weights in bootstrap_weights(len(replays[0].answers), bootstrap, rng):
        models = rng.integers(len(replays), size=(len(weights), len(replays)))
        first = weights * _half_of(weights, rng)
        rest = np.where(
            (weights > first).any(1, keepdims=True), weights - first, weights
        )  # a lone text is all there is
        pairs = np.stack([first, rest], axis=1).reshape(-1, weights.shape[1])
        whole.append(_over_models(replays, labels, metric, weights, models))
        halves.append(_over_models(replays, labels, metric, pairs, models.repeat(2, axis=0)))
    return Scores(*map(np.concatenate, _columns(whole))), Scores(*map(np.concatenate, _columns(halves)))


def _half_of(weights: Array, rng: np.random.Generator) -> Array:
    """Return a random half of the texts that each draw [B, N] has, [B, N] of 0 and 1; all of a lone text."""
    order = np.where(weights > 0, rng.random(weights.shape), np.inf).argsort(1).argsort(1)
    half: Array = (order < -(-(weights > 0).sum(1, keepdims=True) // 2)).astype(np.int64)
    return half


def _over_models(replays: Sequence[Replays], labels: ArrayLike, metric: str, weights: Array, models: Array) -> Scores:
    """Return [B, P], meaned over the models [B, S] that each of the draws [B, N] took."""
    results = [weighted_scores(each, labels, weights, metric) for each in replays]
    rows = np.arange(len(weights))[:, None]
    return Scores(*(np.stack(values)[models, rows].mean(1) for values in _columns(results)))


def _halves(replays: Sequence[Replays], labels: ArrayLike, metric: str, rng: np.random.Generator) -> Scores:
    """Return [2 × halvings, P]: scores on random halves of the texts, rows 2i and 2i + 1 being each other's rest."""
    texts = len(replays[0].answers)
    masks = []
    for _ in range(_HALVINGS if texts > 1 else 0):
        half = np.zeros(texts, dtype=np.int64)
        half[rng.permutation(texts)[: texts // 2]] = 1
        masks += [half, 1 - half]
    weights = np.stack(masks) if masks else np.ones((2, texts), dtype=np.int64)
    return _mean([weighted_scores(each, labels, weights, metric) for each in replays])
