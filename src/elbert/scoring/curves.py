"""What every depth and every setting of a policy would have scored, from one full-depth recording. Runs no model.

N texts, M exits, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from elbert.errors import UsageError
from elbert.exits import ExitPolicy, replay
from elbert.exits.gates import Shortcut
from elbert.exits.replay import leaving_at_layer_0
from elbert.exits.tokens import token_layers
from elbert.results import LayerOutputs, ProblemType
from elbert.scoring.metrics import score
from elbert.tasks import task_of

# Texts replayed together: a window of eight outputs over 150 classes takes 40 MB for them.
_ROWS_AT_ONCE = 8192

# What layer 0 takes of every text under a policy, in layers; 0 where it isn't asked. It adds to the layers that a text
# ran, as in `Evaluation.mean_exit_layer`: a recording alone cannot know it, a clock has to.
LayerZeroCost: TypeAlias = Callable[[ExitPolicy], float]


def uncounted(policy: ExitPolicy) -> float:
    """Return 0: layer 0 is counted at nothing, for recordings without one or layers alone."""
    del policy
    return 0.0


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where one policy stands between quality and depth.

    Attributes:
        policy: the policy.
        score: what the texts scored at the exits it chose.
        mean_exit_layer: layers a text ran on average, 0 .. M; where layer 0 is asked, its cost is in it.
        changed: share of the texts whose answer differs from the one at full depth.
        n: texts behind these numbers.
    """

    policy: ExitPolicy
    score: float
    mean_exit_layer: float
    changed: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "policy": self.policy.to_dict()}


def scores_by_layer(outputs: LayerOutputs, labels: ArrayLike, metric: str | None = None) -> list[float]:
    """Return the score of each layer's exit, [M]: what a model cut off after that layer would reach.

    Args:
        outputs: a full-depth recording of N texts.
        labels: [N] or [N, C], encoded as the metric wants them.
        metric: its name; None takes the problem type's own.
    """
    return [_score(outputs, outputs.probs[:, layer], labels, metric) for layer in range(outputs.probs.shape[1])]


@dataclass(frozen=True, slots=True)
class Replays:
    """Where every policy let every text leave, and what every exit answered: all of a recording that a sweep keeps.

    Attributes:
        policies: P of them.
        exit_layer: [P, N], 1 .. M, or 0 for layer 0, in as small an integer as holds M.
        answers: [N, M] class indices or values; [N, M, C] decisions 0 and 1, or values where there are several.
        problem_type: how to read them.
        layer_0_cost: [P] what layer 0 takes of every text, in layers; 0 where it isn't asked.
        ran: [P, N] layers, each counted by the share of the text's tokens that it ran; None where all ran all.
        shortened: by schedule of tokens or skip gates, what was answered under them, as `answers`.
        words: [N], or [N, C], what layer 0 answered; None where the model has none.
    """

    policies: tuple[ExitPolicy, ...]
    exit_layer: NDArray[Any]
    answers: NDArray[Any]
    problem_type: ProblemType
    layer_0_cost: NDArray[Any]
    ran: NDArray[Any] | None = None
    shortened: Mapping[Shortcut, NDArray[Any]] = field(default_factory=dict)
    words: NDArray[Any] | None = None

    def answered(self, policy: int) -> NDArray[Any]:
        """Return the answers at the exits of the policy at this place, [N] or [N, C]."""
        shortcut = self.policies[policy].shortcut
        said = self.answers if shortcut is None else self.shortened.get(shortcut, self.answers)
        layers = self.exit_layer[policy].astype(np.int64)
        chosen: NDArray[Any] = said[np.arange(len(said)), layers - 1]
        if self.words is not None:
            chosen[layers == 0] = self.words[layers == 0]
        return chosen

    @property
    def every_answer(self) -> NDArray[Any]:
        """[N, K] or [N, K, C], `answers`, then those of every schedule beside, and layer 0's last."""
        last = [] if self.words is None else [self.words[:, None]]
        beside = [*self.shortened.values(), *last]
        return np.concatenate([self.answers, *beside], 1) if beside else self.answers

    @property
    def columns(self) -> NDArray[Any]:
        """[P, N] place, from 1, of what each policy answered among `every_answer`."""
        if not self.shortened and self.words is None:
            return self.exit_layer
        layers, runs = self.answers.shape[1], (None, *self.shortened)
        begins = {shortcut: run * layers for run, shortcut in enumerate(runs)} if self.shortened else {}
        begin = np.array([begins.get(policy.shortcut, 0) for policy in self.policies], np.int32)[:, None]
        return np.where(self.exit_layer == 0, np.int32(len(runs) * layers + 1), self.exit_layer + begin)

    def changed(self, policy: int) -> float:
        """Return the share of texts whose answer differs from the one at full depth."""
        differs = self.answered(policy) != self.answers[:, -1]
        return float(differs.reshape(len(differs), -1).any(1).mean())


def joined(whole: Replays, shortened: Sequence[Replays]) -> Replays:
    """Return replays of one model's texts under several schedules of tokens, or gates, as one.

    Args:
        whole: of recordings with all tokens through all layers.
        shortened: of the same texts, each of recordings with another schedule or other gates.
    """
    if not shortened:
        return whole
    every = [whole, *shortened]
    ways = [(each.policies[0].shortcut, each.answers) for each in shortened]
    return Replays(
        policies=tuple(policy for each in every for policy in each.policies),
        exit_layer=np.concatenate([each.exit_layer for each in every]),
        answers=whole.answers,
        problem_type=whole.problem_type,
        ran=np.concatenate([(each.exit_layer if each.ran is None else each.ran).astype(np.float32) for each in every]),
        shortened={way: answers for way, answers in ways if way is not None},
        words=whole.words,
        layer_0_cost=np.concatenate([each.layer_0_cost for each in every]),
    )


def replay_all(
    policies: Iterable[ExitPolicy],
    outputs: LayerOutputs | Iterable[LayerOutputs],
    layer_0_cost: LayerZeroCost = uncounted,
) -> Replays:
    """Replay every policy over one recording.

    Args:
        policies: what to replay; the thresholds of layer 0 of one setting cost no further replay of its exits.
        outputs: a full-depth recording of N texts, whole or in parts, which are read once and not kept: what is kept
            of a text is one number per policy and its answers, not its probabilities.
        layer_0_cost: what layer 0 takes of every text under each policy.

    Raises:
        UsageError: there are no texts.
        ModelError: an output is NaN or infinite.
    """
    settings = tuple(policies)
    return of_all_texts([_replayed(settings, part, layer_0_cost) for part in _rows_at_once(outputs)])


def of_all_texts(parts: Sequence[Replays]) -> Replays:
    """Return replays of the same settings over some texts at a time as one.

    Args:
        parts: one model's, in the order of the texts.

    Raises:
        UsageError: there are none.
    """
    if not parts:
        raise UsageError("there are 0 recorded texts to replay; give at least one")
    first = parts[0]
    if len(parts) == 1:
        return first
    return replace(
        first,
        exit_layer=np.concatenate([each.exit_layer for each in parts], 1),
        answers=np.concatenate([each.answers for each in parts]),
        ran=None if first.ran is None else np.concatenate([each.ran for each in parts if each.ran is not None], 1),
        words=None if first.words is None else np.concatenate([each.words for each in parts if each.words is not None]),
    )


def _replayed(settings: tuple[ExitPolicy, ...], outputs: LayerOutputs, layer_0_cost: LayerZeroCost) -> Replays:
    """Return the replays of some texts."""
    task, layers = task_of(outputs.problem_type), outputs.probs.shape[1]
    small = np.uint8 if layers < 256 else np.uint16
    rows = [each.astype(small) for each in _exit_layers(settings, outputs)]
    exits = np.stack(rows) if rows else np.zeros((0, len(outputs.probs)), small)
    ran = None
    if outputs.tokens is not None:
        lengths = outputs.lengths.numpy()
        spent = [token_layers(outputs.tokens, lengths, each.astype(np.int64)) / lengths for each in exits]
        ran = np.stack(spent).astype(np.float32)

    def answers(probs: Tensor) -> NDArray[Any]:
        return np.asarray(task.decisions(probs), task.answer_dtype)

    return Replays(
        settings,
        exits,
        answers(outputs.probs),
        outputs.problem_type,
        np.array([layer_0_cost(policy) for policy in settings]),
        ran=ran,
        words=None if outputs.words is None else answers(outputs.words),
    )


def _exit_layers(policies: Iterable[ExitPolicy], outputs: LayerOutputs) -> Iterator[NDArray[np.int64]]:
    """Yield where every text leaves under each policy, [N] from 0 to M; exits are replayed once for all thresholds."""
    replayed: dict[Any, NDArray[np.int64]] = {}
    for policy in policies:
        exits = replace(policy, words=None)
        key = (exits, *map(id, policy.tensors().values()))  # weights are no part of `==`
        if key not in replayed:
            replayed[key] = replay(exits, outputs).numpy()
        yield np.where(leaving_at_layer_0(policy, outputs), 0, replayed[key])


def operating_points(
    outputs: LayerOutputs,
    labels: ArrayLike,
    policies: Iterable[ExitPolicy],
    metric: str | None = None,
    layer_0_cost: LayerZeroCost = uncounted,
) -> list[OperatingPoint]:
    """Replay every policy over one recording and return where each stands, in the order given.

    Args:
        outputs: a full-depth recording of N texts.
        labels: [N] or [N, C], encoded as the metric wants them.
        policies: what to replay.
        metric: its name; None takes the problem type's own.
        layer_0_cost: what layer 0 takes of every text under each policy.
    """
    replays = replay_all(policies, outputs, layer_0_cost)
    points = []
    for place, (policy, cost) in enumerate(zip(replays.policies, replays.layer_0_cost.tolist(), strict=True)):
        value = score(replays.problem_type, replays.answered(place), labels, metric)[1]
        depth = float(replays.exit_layer[place].mean(dtype=np.float64)) + cost
        points.append(OperatingPoint(policy, value, depth, replays.changed(place), len(replays.answers)))
    return points


def fastest_within(
    points: Sequence[OperatingPoint], full_depth_score: float, max_drop: float, *, margin: float = 1.0
) -> OperatingPoint | None:
    """Return the point with the fewest layers whose drop from full depth, with a margin, is at most `max_drop`.

    The drop of an accuracy can't be known better than by its standard error, at most sqrt(changed / n): each changed
    answer is one right answer lost, one won, or neither. A point must keep within `max_drop` with `margin` times that
    added. This is caution, not a guarantee: choose on held-out texts, report on others.

    Args:
        points: from `operating_points`.
        full_depth_score: an accuracy.
        max_drop: accuracy that may be given up, >= 0.
        margin: standard errors added; 0 takes the numbers as they are.

    Returns:
        The point, of equally deep ones the better; None where no point is good enough.
    """

    def drop(point: OperatingPoint) -> float:
        return full_depth_score - point.score + margin * sqrt(point.changed / point.n)

    # Accuracies are ratios of counts: a hair of rounding must not turn "exactly at the limit" into "beyond".
    good = [point for point in points if drop(point) <= max_drop + 1e-9]
    return min(good, key=lambda point: (point.mean_exit_layer, -point.score), default=None)


def _rows_at_once(outputs: LayerOutputs | Iterable[LayerOutputs]) -> Iterator[LayerOutputs]:
    """Yield a recording in parts of a bounded number of texts; parts without texts are left out."""
    for part in [outputs] if isinstance(outputs, LayerOutputs) else outputs:
        for begin in range(0, len(part.probs), _ROWS_AT_ONCE):
            rows = slice(begin, begin + _ROWS_AT_ONCE)
            yield part.select(rows)


def _score(outputs: LayerOutputs, probs: Tensor, labels: ArrayLike, metric: str | None) -> float:
    return score(outputs.problem_type, task_of(outputs.problem_type).decisions(probs).numpy(), labels, metric)[1]
