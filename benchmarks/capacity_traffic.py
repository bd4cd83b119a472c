"""One core under simulated traffic: the real scheduler, whose backend computes nothing and moves a clock instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elbert.engine.requests import Arrival
from elbert.engine.rows.packed import Layout
from elbert.engine.scheduler import Mode, Scheduler
from elbert.exits import make
from elbert.modeling.weights import EncoderWeights

# Texts of a simulation that come before the first that counts: the queue has to fill first.
_WARM_UP = 0.1


@dataclass(frozen=True)
class Cost:
    """What a step takes.

    Attributes:
        fixed: seconds of any step.
        token: seconds more for each token in it.
    """

    fixed: float
    token: float

    @classmethod
    def of(cls, alone: float, together: float, batch: int, tokens: float, layers: int) -> Cost:
        """Return the cost that two measured rates at full depth amount to.

        Args:
            alone: seconds of a text that runs by itself.
            together: seconds of a text of `batch` in flight.
            batch: texts in flight, at least 2.
            tokens: of a text, on average.
            layers: that each of them ran.
        """
        one, many = alone / layers, together * batch / layers
        token = min(max((many - one) / ((batch - 1) * tokens), 0.0), one / tokens)
        return cls(one - token * tokens, token)


class Clock:
    """A backend for the scheduler: knows how long a step takes, and nothing of what it computes."""

    name = "clock"
    dtype = torch.float32
    device = torch.device("cpu")
    shared_heads = True

    def __init__(self, cost: Cost, labels: int) -> None:
        self.now = 0.0
        self._cost, self._labels = cost, labels

    def embed(self, ids: Tensor, token_types: Tensor | None, layout: Layout) -> Tensor:  # noqa: ARG002
        """Return a state for each token, which nobody reads."""
        return torch.zeros(len(ids), 1)

    def step(self, hidden: Tensor, layout: Layout, depth: int) -> tuple[Tensor, Layout]:  # noqa: ARG002
        """Let the time go by that a step takes."""
        self.now += self._cost.fixed + self._cost.token * layout.tokens
        return hidden, layout

    def head(self, cls: Tensor, depth: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return an answer for each row: none of them is ever sure, so all leave at the layer they came with."""
        return torch.zeros(len(cls), self._labels), cls


@dataclass(frozen=True)
class Traffic:
    """What became of simulated texts.

    Attributes:
        rate: texts a second from the first that left to the last.
        seconds: [texts] that each was on its way, from its coming to its leaving.
    """

    rate: float
    seconds: Any

    def milliseconds(self, share: float) -> float:
        """Return the time that this percentage of the texts stays below."""
        return 1000 * float(np.percentile(self.seconds[int(_WARM_UP * len(self.seconds)) :], share))


def simulate(
    weights: EncoderWeights,
    cost: Cost,
    lengths: Sequence[int],
    exits: Sequence[int],
    *,
    rate: float | None,
    texts: int,
    batch: int,
    seed: int = 0,
) -> Traffic:
    """Let texts come by a Poisson process, or all at once, and step until all have left.

    Args:
        weights: the model's: which layers are shared decides who may step together.
        cost: of a step.
        lengths: [N] tokens of the texts that are drawn from.
        exits: [N] layer after which each of them leaves, from 1 on.
        rate: texts a second, for latency; None when all are there from the start, for throughput.
        texts: how many come.
        batch: texts stepped together at most.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    which = random.integers(0, len(lengths), texts)
    due = np.zeros(texts) if rate is None else np.cumsum(random.exponential(1 / rate, texts))
    mode: Mode = "throughput" if rate is None else "latency"
    clock, left, following = Clock(cost, weights.num_labels), np.zeros(texts), 0
    scheduler = Scheduler(weights, clock, make("full"), batch_size=batch, mode=mode)
    while following < texts or scheduler.busy:
        if not scheduler.busy:
            clock.now = max(clock.now, float(due[following]))
        while following < texts and due[following] <= clock.now and not scheduler.full:
            row = which[following]
            scheduler.admit(Arrival(following, [1] * int(lengths[row]), last_layer=int(exits[row])))
            following += 1
        departures = scheduler.step(draining=following == texts)
        if departures is not None:
            left[departures.index.numpy()] = clock.now
    return Traffic(texts / float(left.max() - due[0]), left - due)
