"""What the exit policies of rows in flight remember: rows of one policy share a group, and states move with their rows.

Knows policies by what every one of them is, and no layer, no exit and no rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elbert.engine.rows.blocks import Integers
from elbert.exits import ExitPolicy, State
from elbert.exits.state import join, select


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one policy.

    Attributes:
        policy: who decides on them.
        first: the first layer, 1-based, whose exit it has to be shown. A policy that keeps state is shown every one,
            whatever its `earliest` says, as in a replay.
        state: of these rows, in their order.
    """

    policy: ExitPolicy
    first: int
    state: State

    @classmethod
    def start(cls, policy: ExitPolicy, rows: int, num_layers: int, num_labels: int) -> Group:
        """Return the group of `rows` rows that have run no layer."""
        state = policy.start(rows, num_labels)
        return cls(policy, 1 if state else policy.earliest(num_layers), state)

    def keep(self, places: Integers) -> Group:
        """Return the group of the rows at these places of it only."""
        return Group(self.policy, self.first, select(self.state, places)) if self.state else self

    def join(self, other: Group) -> Group:
        """Return the group of these rows, then `other`'s, which have the same policy."""
        return Group(self.policy, self.first, join(self.state, other.state)) if self.state else self


@dataclass(frozen=True, slots=True)
class Memory:
    """The groups of all rows that are stepped together.

    Attributes:
        groups: none without a row.
        member: [rows] int64, which group each row belongs to.
    """

    groups: tuple[Group, ...]
    member: Integers

    @classmethod
    def start(cls, policies: Sequence[ExitPolicy], num_layers: int, num_labels: int) -> Memory:
        """Return the memory of rows that have run no layer.

        Args:
            policies: of each row; rows of the very same object share a group.
            num_layers: M of the model.
            num_labels: C of the model.
        """
        distinct = {id(policy): policy for policy in policies}
        if len(distinct) == 1:
            group = Group.start(policies[0], len(policies), num_layers, num_labels)
            return cls((group,), np.zeros(len(policies), np.int64))
        number = {key: place for place, key in enumerate(distinct)}
        member = np.array([number[id(policy)] for policy in policies])
        counts = np.bincount(member).tolist()
        started = (Group.start(*each, num_layers, num_labels) for each in zip(distinct.values(), counts, strict=True))
        return cls(tuple(started), member)

    def rows_of(self, group: int) -> Integers:
        """Return the numbers of a group's rows, ascending."""
        return np.arange(len(self.member)) if len(self.groups) == 1 else np.flatnonzero(self.member == group)

    def keep(self, stays: Integers) -> Memory:
        """Return the memory of the rows `stays` ([n] row numbers, ascending)."""
        if len(self.groups) == 1:
            return Memory((self.groups[0].keep(stays),), self.member[stays])
        staying = np.zeros(len(self.member), bool)
        staying[stays] = True
        kept = [group.keep(np.flatnonzero(staying[self.rows_of(n)])) for n, group in enumerate(self.groups)]
        return without_empty(kept, self.member[stays])

    def join(self, other: Memory) -> Memory:
        """Return the memory of these rows, followed by `other`'s."""
        groups = list(self.groups)
        number = {id(group.policy): place for place, group in enumerate(groups)}
        places = []
        for group in other.groups:
            place = number.get(id(group.policy))
            if place is None:
                place = len(groups)
                groups.append(group)
            else:
                groups[place] = groups[place].join(group)
            places.append(place)
        return Memory(tuple(groups), np.concatenate((self.member, np.array(places)[other.member])))


def without_empty(groups: Sequence[Group], member: Integers) -> Memory:
    """Return the memory of these groups, but for those that no row is a `member` of any more."""
    if len(groups) == 1:
        return Memory(tuple(groups) if len(member) else (), member)
    counts = np.bincount(member, minlength=len(groups))
    kept = np.flatnonzero(counts)
    if len(kept) == len(groups):
        return Memory(tuple(groups), member)
    return Memory(tuple(groups[number] for number in kept.tolist()), (np.cumsum(counts > 0) - 1)[member])
