"""From scores on texts and on resamples of them to points, curves, areas and bands. Runs no model, replays nothing.

S models, P settings, N texts, M layers, B resamples, D depths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.exits import make
from elbert.results import TradeoffCurve, TradeoffPoint
from elbert.scoring import pareto
from elbert.scoring.curves import Replays
from elbert.scoring.resample import Scores, bootstrap_weights, weighted_scores

Array = NDArray[Any]

# Share of the resamples that a band holds.
CONFIDENCE = 0.95
_EDGES = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)

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
        halves: [2H, P] on halves of the texts.
    """

    replays: Sequence[Replays]
    at: Array
    each: Scores
    drawn: Scores
    halves: Scores

    @property
    def names(self) -> Array:
        """[P] name of every setting's policy."""
        return np.array([policy.name for policy in self.replays[0].policies])

    @property
    def full(self) -> int:
        """Place of full depth among the settings."""
        return int(np.flatnonzero(self.names == "full")[0])

    @property
    def ends(self) -> list[int]:
        """Places of layer 1's exit and of full depth: where every curve begins and ends."""
        return [self.replays[0].policies.index(make("fixed", layer=1)), self.full]

    @property
    def mean(self) -> Scores:
        """[1, P] mean over models."""
        return Scores(self.each.score.mean(0, keepdims=True), self.each.mean_exit_layer.mean(0, keepdims=True))

    def on_front(self, places: Sequence[int], scores: Scores, row: int = 0) -> list[int]:
        """Return those of `places` that are on their common front in one row of `scores`."""
        chosen = list(places)
        mask = pareto.front(scores.mean_exit_layer[row, chosen], scores.score[row, chosen])
        return [place for place, kept in zip(chosen, mask, strict=True) if kept]

    def heights(self, places: Sequence[int], scores: Scores, rows: Iterable[int] | None = None) -> Array:
        """Return the curve through `places` in every row of `scores`, [rows, D]."""
        chosen = list(places)
        each = range(len(scores.score)) if rows is None else rows
        lines = [pareto.curve(scores.mean_exit_layer[row, chosen], scores.score[row, chosen], self.at) for row in each]
        return np.stack(lines)

    def curves(self) -> tuple[TradeoffCurve, ...]:
        """Return the curve of every policy."""
        policies = [name for name in dict.fromkeys(self.names.tolist()) if name != "full"]
        fixed = self._heights_held("fixed")
        return tuple(self._curve(name, *fixed) for name in policies)

    def _places(self, name: str) -> list[int]:
        """Return a policy's settings and both ends; its own come first, so that of equals they are on the front."""
        return list(dict.fromkeys([*np.flatnonzero(self.names == name).tolist(), *self.ends]))

    def _curve(self, name: str, fixed: Array, fixed_drawn: Array) -> TradeoffCurve:
        """Return a policy's curve; `fixed` [D] and `fixed_drawn` [B, D] are those of a constant depth."""
        line, drawn = self._heights_held(name)
        low, high = np.quantile(drawn, _EDGES, axis=0)
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
            area_band=_band(pareto.area(drawn, self.at)),
            area_held_out=self._held_out(places),
            gain=float(pareto.area(line - fixed, self.at)),
            gain_band=_band(pareto.area(drawn - fixed_drawn, self.at)),
            quarter_score=float(line[quarter]),
            quarter_gain=float(line[quarter] - fixed[quarter]),
            quarter_gain_band=_band(drawn[:, quarter] - fixed_drawn[:, quarter]),
            area_by_model=tuple(self._model_area(places, model) for model in range(len(self.replays))),
        )

    def _heights_held(self, name: str) -> tuple[Array, Array]:
        """Return a policy's curve [D], and [B, D] on the resamples, with the settings on its front held."""
        held = self.on_front(self._places(name), self.mean)
        return self.heights(held, self.mean)[0], self.heights(held, self.drawn)

    def _held_out(self, places: Sequence[int]) -> float:
        """Return the mean area of settings chosen on one half of the texts and scored on the other."""
        heights = [
            self.heights(self.on_front(places, self.halves, row), self.halves, [row ^ 1])
            for row in range(len(self.halves.score))
        ]
        return float(pareto.area(np.concatenate(heights), self.at).mean())

    def _model_area(self, places: Sequence[int], model: int) -> float:
        held = self.on_front(places, self.each, model)
        return float(pareto.area(self.heights(held, self.each, [model]), self.at)[0])

    def points(self, places: Sequence[int]) -> list[TradeoffPoint]:
        """Return settings of one policy as they are reported."""
        own = set(self.on_front([*places, *(end for end in self.ends if end not in places)], self.mean))
        fixed_first = sorted(range(len(self.names)), key=lambda place: self.names[place] not in ("fixed", "full"))
        overall = set(self.on_front(fixed_first, self.mean))
        low, high = np.quantile(self.drawn.score[:, places], _EDGES, axis=0)
        layers = self.replays[0].answers.shape[1]
        points = []
        for place, lowest, highest in zip(places, low.tolist(), high.tolist(), strict=True):
            depth = float(self.mean.mean_exit_layer[0, place])
            counts = [np.bincount(each.exit_layer[place], minlength=layers + 1)[1:] for each in self.replays]
            points.append(
                TradeoffPoint(
                    policy=self.replays[0].policies[place].to_dict(),
                    score=float(self.mean.score[0, place]),
                    score_band=(lowest, highest),
                    mean_exit_layer=depth,
                    layer_speedup=layers / depth,
                    changed=float(np.mean([each.changed(place) for each in self.replays])),
                    exit_histogram=tuple(np.mean(counts, axis=0).tolist()),
                    on_front=place in own,
                    on_overall_front=place in overall,
                )
            )
        return points


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
    return Sample(
        replays=replays,
        at=pareto.depths_between(layers),
        each=Scores(*(np.concatenate(values) for values in _columns(whole))),
        drawn=_drawn(replays, labels, metric, bootstrap, rng),
        halves=_halves(replays, labels, metric, rng),
    )


def _columns(results: Sequence[Scores]) -> tuple[list[Array], list[Array]]:
    return [each.score for each in results], [each.mean_exit_layer for each in results]


def _mean(results: Sequence[Scores]) -> Scores:
    """Return the mean over models of [B, P] each."""
    return Scores(*(np.mean(values, axis=0) for values in _columns(results)))


def _drawn(
    replays: Sequence[Replays], labels: ArrayLike, metric: str, bootstrap: int, rng: np.random.Generator
) -> Scores:
    """Return [B, P]: texts drawn anew, the same for every model, and models drawn anew where there are several."""
    parts = []
    for weights in bootstrap_weights(len(replays[0].answers), bootstrap, rng):
        results = [weighted_scores(each, labels, weights, metric) for each in replays]
        models = rng.integers(len(replays), size=(len(weights), len(replays)))
        rows = np.arange(len(weights))[:, None]
        parts.append(Scores(*(np.stack(values)[models, rows].mean(1) for values in _columns(results))))
    return Scores(*(np.concatenate(values) for values in _columns(parts)))


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


def _band(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, _EDGES)
    return float(low), float(high)
