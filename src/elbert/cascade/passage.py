"""Texts on their way from one model of a cascade to the next. Asks no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from elbert.cascade.member import Member, Said
from elbert.exits import ExitPolicy
from elbert.exits.state import select
from elbert.results import ExitOutput


class Passage:
    """Who is still to be asked, by which model, and what each text has cost so far.

    It begins at the first model whose answer the policy looks at: where that is `full`, the last one is asked alone.

    Args:
        policy: which model answers.
        members: the models, in order.
        texts: how many there are.

    Attributes:
        number: of the model that is asked now, 1 the first.
        rows: the texts that are still there, ascending.
        layers: [texts] that each ran, of whichever model.
        costs: [texts] the same in layers of the last model, see `Member.costs`.
    """

    def __init__(self, policy: ExitPolicy, members: Sequence[Member], texts: int) -> None:
        self._policy, self._members = policy, members
        self.number = policy.earliest(len(members))
        self.rows: NDArray[np.int64] = np.arange(texts)
        self.layers = np.zeros(texts, np.int64)
        self.costs = np.zeros(texts, np.float64)
        self._state = policy.start(texts, len(members[-1].order))

    def hear(self, said: Said) -> NDArray[np.bool_]:
        """Take the answers of the model that was asked, one beside each of `rows`; return which of these are final.

        The others are the rows of the next model.
        """
        member = self._members[self.number - 1]
        self.layers[self.rows] += said.layers
        self.costs[self.rows] += member.costs[said.layers]
        leave: NDArray[np.bool_] = np.ones(len(self.rows), bool)
        if self.number < len(self._members):
            output = ExitOutput(said.probs, said.logits, None, member.model.problem_type)
            leave, self._state = self._policy.update(self._state, output, np.full(len(self.rows), self.number))
        self.keep(~leave)
        self.number += 1
        return leave

    def keep(self, stay: NDArray[np.bool_]) -> None:
        """Let only those of `rows` go on that `stay` says."""
        self.rows, self._state = self.rows[stay], select(self._state, stay)
