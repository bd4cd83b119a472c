"""Every policy at every setting of its grid, from one full-depth recording per model. Runs no model, writes nothing.

P settings, N texts, M layers, C classes. The arithmetic is `tradeoffs`' business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from elbert.errors import UsageError
from elbert.exits import ExitPolicy, get, make, names
from elbert.exits.gates import Shortcut, SkipGates, shortcut_field
from elbert.exits.words import with_words
from elbert.results import LayerOutputs
from elbert.scoring.curves import LayerZeroCost, OperatingPoint, Replays, fastest_within, replay_all, uncounted
from elbert.scoring.held_out import CONFIDENCE
from elbert.scoring.metrics import metric_name
from elbert.scoring.points import TradeoffCurve, TradeoffPoint
from elbert.scoring.refine import refined
from elbert.scoring.tradeoffs import Sample, draw_sample
from elbert.seeds import check_seed

# Fewer resamples say nothing about the edges of a 95 % band.
LEAST_BOOTSTRAP = 100


@dataclass(frozen=True, slots=True)
class Sweep:
    """What every policy offers on one data set.

    Attributes:
        n: texts.
        metric: name of the metric.
        layers: M.
        models: how many models of the same task, seeds for example; every number is a mean over them.
        bootstrap: resamples behind every band, of texts, and of models where there are several.
        confidence: share of them that a band holds.
        seed: of the resamples.
        full_depth: every text at layer M.
        curves: one per policy, ELBERT's and its siblings first, the constant depth last; behind it those of the same
            policies with layer 0, as `entropy+words`, where the models have one, and with schedules of tokens, as
            `entropy+tokens`, or skip gates, as `entropy+gates`, where any were tried.
        timing: how `speedup` was measured, by name; None where nothing was timed.
        layer_0_cost: what layer 0 takes of a text, in layers, as it is counted in every setting that asks it; None
            where none does.
    """

    n: int
    metric: str
    layers: int
    models: int
    bootstrap: int
    confidence: float
    seed: int
    full_depth: TradeoffPoint
    curves: tuple[TradeoffCurve, ...]
    timing: dict[str, Any] | None = None
    layer_0_cost: float | None = None

    def curve(self, policy: str) -> TradeoffCurve:
        """Return the curve of the policy of that name; KeyError where it was not swept."""
        return {each.policy: each for each in self.curves}[policy]

    def fastest(self, policy: str, max_drop: float) -> TradeoffPoint | None:
        """Return the policy's setting with the fewest layers whose score is at most `max_drop` below full depth's.

        Taken as it stands, without any margin: to choose what to run, calibrate on texts of its own.
        """
        points = self.curve(policy).points
        known = [
            OperatingPoint(ExitPolicy.from_dict(each.policy), each.score, each.mean_exit_layer, each.changed, self.n)
            for each in points
        ]
        best = fastest_within(known, self.full_depth.score, max_drop, margin=0)
        return None if best is None else points[known.index(best)]

    @property
    def points(self) -> list[TradeoffPoint]:
        """Every setting of every policy, full depth last."""
        return [*(point for each in self.curves for point in each.points), self.full_depth]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def check_names(policies: Sequence[str]) -> None:
    """Raise UsageError where a policy is unknown, or named twice."""
    for name in policies:
        get(name)
        if list(policies).count(name) > 1:
            raise UsageError(f"policy {name!r} is named twice; name each once")


def check_bootstrap(bootstrap: int) -> None:
    """Raise UsageError where there are too few resamples for a band."""
    if bootstrap < LEAST_BOOTSTRAP:
        raise UsageError(f"bootstrap is {bootstrap}; a band needs at least {LEAST_BOOTSTRAP} resamples")


def grids(
    policies: Sequence[str] | None,
    num_layers: int,
    num_labels: int,
    fitted: Mapping[str, ExitPolicy] = MappingProxyType({}),
    *,
    words: bool = False,
) -> list[ExitPolicy]:
    """Return every setting of the named policies' grids; a constant depth and full depth are always among them, last.

    Args:
        policies: names; None takes all there are, but for those that learn and aren't fitted.
        num_layers: M.
        num_labels: C; 1 is read as regression.
        fitted: policies whose weights the grids of their kind take, by name. They must come from other texts than are
            swept.
        words: the models have a layer 0: behind all these stand the same settings, but full depth, with each of its
            thresholds.

    Raises:
        UsageError: an unknown name, one that comes twice, or one that learns and isn't fitted.
    """
    check_names(policies or ())
    asked = [name for name in names() if not get(name).learned or name in fitted] if policies is None else policies
    unfitted = next((name for name in asked if get(name).learned and name not in fitted), None)
    if unfitted is not None:
        raise UsageError(
            f"policy {unfitted!r} is learned and not fitted: run elbert calibrate with --policy {unfitted}"
        )
    wanted = [*(name for name in asked if name not in ("fixed", "full")), "fixed", "full"]
    every = with_weights((each for name in wanted for each in get(name).grid(num_layers, num_labels)), fitted)
    return every + with_words(each for each in every if words and each.name != "full")


def with_weights(policies: Iterable[ExitPolicy], fitted: Mapping[str, ExitPolicy]) -> list[ExitPolicy]:
    """Return the settings with what their kinds have learned, by name; the others as they are."""
    tensors = {name: policy.tensors() for name, policy in fitted.items()}
    return [each.with_tensors(tensors.get(each.name, {})) for each in policies]


def with_shortcut(policies: Sequence[ExitPolicy], shortcut: Shortcut) -> list[ExitPolicy]:
    """Return the settings as they are with a schedule of tokens or gates, the constant depth with its own among them.

    Args:
        policies: settings without one, from `grids`.
        shortcut: what to keep or skip; with gates those settings are left out that learn.
    """
    skips = isinstance(shortcut, SkipGates)
    able = (each for each in policies if each.name != "full" and not (skips and each.learned))
    return [replace(each, **shortcut_field(shortcut)) for each in able]


def sweep(
    outputs: LayerOutputs | Sequence[LayerOutputs],
    labels: ArrayLike,
    policies: Iterable[ExitPolicy] | None = None,
    *,
    metric: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    layer_0_cost: LayerZeroCost = uncounted,
) -> Sweep:
    """Replay policies over one recording, or over one per model, and return what each offers.

    Args:
        outputs: full-depth recordings of the same N texts, one per model.
        labels: [N] or [N, C], encoded as the metric wants them.
        policies: settings; None takes the whole grid of every policy that learns nothing and reads no more than was
            recorded, with layer 0 where every recording has one, and settings between (`scoring.refine`). `fixed` and
            `full` are added where they lack.
        metric: its name; None takes the problem type's own.
        bootstrap: resamples behind every band.
        seed: of the resamples.
        layer_0_cost: what layer 0 takes of every text under each policy, from `Classifier.layer_0_cost`.

    Raises:
        UsageError: recordings that differ in shape, no texts, too few resamples, a seed out of range, or a
            metric that does not fit.
        ModelError: an output is NaN or infinite.
    """
    recordings = [outputs] if isinstance(outputs, LayerOutputs) else list(outputs)
    if not recordings:
        raise UsageError("there are 0 recordings to sweep; give one per model")
    _, layers, classes = recordings[0].probs.shape
    kept = [name for name in ("pooled",) if all(getattr(each, name) is not None for each in recordings)]
    words = all(each.words is not None for each in recordings)
    readable = (each for each in grids(None, layers, classes, words=words) if each.needs <= set(kept))
    if policies is None:
        first = refined(list(readable), recordings[0], layer_0_cost=layer_0_cost)
    else:
        settings = list(policies)
        missing = [each for each in [*get("fixed").grid(layers, classes), make("full")] if each not in settings]
        first = replay_all([*settings, *missing], recordings[0], layer_0_cost)
    replays = [first, *(replay_all(first.policies, each, layer_0_cost) for each in recordings[1:])]
    return swept(sample(replays, labels, metric=metric, bootstrap=bootstrap, seed=seed), metric=metric, seed=seed)


def sample(
    replays: Sequence[Replays], labels: ArrayLike, *, metric: str | None = None, bootstrap: int = 1000, seed: int = 0
) -> Sample:
    """Score replays on all texts, on resamples and on halves of them; `swept` makes a sweep of that.

    Args:
        replays: one per model, all over the same texts and settings; `fixed` at layer 1 and `full` are among these. For
            recordings too large to hold, see `curves.replay_all`.
        labels: as in `sweep`, as are the others.
        metric: its name.
        bootstrap: resamples.
        seed: of the resamples.

    Raises:
        UsageError: as `sweep`.
    """
    _check(replays, bootstrap)
    check_seed(seed)
    name = metric_name(replays[0].problem_type, metric)
    return draw_sample(replays, labels, name, bootstrap, np.random.default_rng(seed))


def swept(sample: Sample, *, metric: str | None = None, seed: int = 0) -> Sweep:
    """Return what each policy offers, from what was scored.

    Args:
        sample: from `sample`.
        metric: what the scores are; None takes the problem type's own.
        seed: of the resamples.
    """
    first = sample.replays[0]
    costs = [float(np.max(each.layer_0_cost)) for each in sample.replays]
    return Sweep(
        n=len(first.answers),
        metric=metric_name(first.problem_type, metric),
        layers=first.answers.shape[1],
        models=len(sample.replays),
        bootstrap=len(sample.drawn.score),
        confidence=CONFIDENCE,
        seed=seed,
        full_depth=sample.points([sample.full])[0],
        curves=sample.curves(),
        layer_0_cost=float(np.mean(costs)) or None,
    )


def _check(replays: Sequence[Replays], bootstrap: int) -> None:
    check_bootstrap(bootstrap)
    shapes = [each.answers.shape for each in replays]
    if len(set(shapes)) != 1 or len({(each.policies, each.problem_type) for each in replays}) != 1:
        words = ", ".join(f"{shape[0]} texts × {shape[1]} layers" for shape in shapes) or "none"
        raise UsageError(f"recordings of one task on the same texts are needed, in the same shape; given: {words}")
