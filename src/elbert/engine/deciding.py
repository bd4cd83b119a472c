"""Who leaves after a layer: what the exits say, what each row's policy makes of it, and whom nobody can ask any more.

Works on arrays of the host: an exit is a few numbers a row, and numpy's operations cost a fraction of a tensor's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.engine.requests import Cause, Failure
from elbert.engine.rows.blocks import Integers
from elbert.engine.rows.memory import Group, Memory, without_empty
from elbert.engine.rows.packed import Rows
from elbert.errors import ElbertError, NotFiniteError
from elbert.results import ExitOutput

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Said:
    """What the exits said after a layer.

    Attributes:
        rows: [n] int64, the numbers of the rows whose exits were asked.
        output: of those, in numpy's fp32.
    """

    rows: Integers
    output: ExitOutput

    def places(self, rows: Integers) -> Integers:
        """Return where in `output` what was said of these rows is, for rows that were asked, ascending."""
        if len(self.rows) == self.rows[-1] + 1:
            return rows  # everybody up to the last one was asked
        return np.searchsorted(self.rows, rows)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of rows after a layer.

    Attributes:
        gone: the numbers of the rows that leave with an answer, ascending.
        cause: why, beside `gone`.
        stays: the numbers of those that go on, ascending.
        memory: of those that go on.
        failed: the others.
    """

    gone: Integers
    cause: tuple[Cause, ...]
    stays: Integers
    memory: Memory
    failed: list[Failure]


@dataclass(slots=True)
class _Asked:
    """What the groups made of what was said; every array is over all rows."""

    fired: Bools
    failed: Bools
    failures: list[Failure] = field(default_factory=list)

    def fail(self, rows: Rows, which: Integers, errors: list[ElbertError]) -> None:
        self.failed[which] = True
        self.failures += [Failure(int(rows.index[row]), error) for row, error in zip(which, errors, strict=True)]


def to_ask(rows: Rows, hurried: Bools | None) -> Integers:
    """Return the numbers of the rows whose exits are worth asking: where its policy looks, or where it leaves anyway.

    Args:
        rows: they have just run a layer.
        hurried: [rows] who is to leave at once; None for nobody.
    """
    groups = rows.memory.groups
    firsts = [group.first for group in groups]
    if max(firsts) <= 1:
        return np.arange(rows.count)
    first = np.array(firsts)[rows.memory.member]
    asked = (rows.depth >= first) | (rows.depth >= rows.last)
    return np.flatnonzero(asked if hurried is None else asked | hurried)


def decide(rows: Rows, said: Said, num_layers: int, hurried: Bools | None, ended: Bools | None = None) -> Verdict:
    """Return what becomes of rows.

    A row whose exit is not finite fails, and where a policy's rule raises, the rows of that policy do; for all others
    it is as if those had not been there.

    Args:
        rows: they have just run a layer.
        said: by the exits of those that `to_ask` named.
        num_layers: M of the model, where everybody leaves.
        hurried: as in `to_ask`.
        ended: [rows] whose gates lead beyond their policy's last layer, which is the policy's word as much as its rule;
            None for nobody.
    """
    asked = _Asked(np.zeros(rows.count, bool), np.zeros(rows.count, bool))
    _fail_what_is_not_finite(rows, said, asked)
    groups = [_ask(rows, number, said, num_layers, asked) for number in range(len(rows.memory.groups))]
    if ended is not None:
        asked.fired |= ended & (rows.depth < num_layers)
    leave = asked.fired | (rows.depth >= rows.last)
    if hurried is not None:
        leave |= hurried
    staying = ~(leave | asked.failed)
    gone, stays = (leave & ~asked.failed).nonzero()[0], staying.nonzero()[0]
    kept = [_kept(group, staying[shown]) for group, shown in groups]
    cause = tuple(_cause(rows, row, num_layers, asked.fired, hurried) for row in gone.tolist())
    return Verdict(gone, cause, stays, without_empty(kept, rows.memory.member[stays]), asked.failures)


def _kept(group: Group, staying: Bools) -> Group:
    """Return the group with the state of those of its rows that stay."""
    return group if not group.state or staying.all() else group.keep(staying.nonzero()[0])


def _cause(rows: Rows, row: int, num_layers: int, fired: Bools, hurried: Bools | None) -> Cause:
    if fired[row]:
        return "rule"
    if rows.depth[row] >= num_layers:
        return "last_layer"
    return "hurried" if hurried is not None and hurried[row] else "budget"


def _fail_what_is_not_finite(rows: Rows, said: Said, asked: _Asked) -> None:
    logits = said.output.logits
    if math.isfinite(logits.sum()):
        return
    bad = said.rows[~np.isfinite(logits).all(1)]
    names = [(f"text {rows.index[row] + 1}", int(rows.depth[row]), [int(rows.index[row])]) for row in bad]
    asked.fail(rows, bad, [NotFiniteError(*each) for each in names])


def _ask(rows: Rows, number: int, said: Said, num_layers: int, asked: _Asked) -> tuple[Group, Integers]:
    """Show a group's policy what was said of its rows.

    Returns:
        The group with its new state, and the rows, ascending, that this state is of.
    """
    group, own = rows.memory.groups[number], rows.memory.rows_of(number)
    which = _shown(rows, group, own, num_layers, asked)
    if not len(which):
        return group, own
    state = group.state if len(which) == len(own) else group.keep(np.searchsorted(own, which)).state
    try:
        depth = rows.depth if len(which) == rows.count else rows.depth[which]
        leave, state = group.policy.update(state, _part(said, which), depth)
        asked.fired[which] = _checked(leave, len(which))
    except Exception as error:  # noqa: BLE001 - anybody's code: its mistakes are its own rows'
        asked.fail(
            rows, which, [failure(int(rows.index[row]), f"exit policy {group.policy.name!r}", error) for row in which]
        )
        return group, own
    return Group(group.policy, group.first, state), which


def _shown(rows: Rows, group: Group, own: Integers, num_layers: int, asked: _Asked) -> Integers:
    """Return the rows, of a group's `own`, whose exits its policy is shown."""
    if len(own) == rows.count and not asked.failures:
        depths = rows.depth.tolist()
        if group.first <= min(depths) and max(depths) < num_layers:
            return own
    depth = rows.depth[own]
    return own[(depth >= group.first) & (depth < num_layers) & ~asked.failed[own]]


def _part(said: Said, which: Integers) -> ExitOutput:
    """Return what was said of these rows."""
    output = said.output
    if len(which) == len(said.rows):
        return output
    at = said.places(which)
    pooled = None if output.pooled is None else output.pooled[at]
    return ExitOutput(output.probs[at], output.logits[at], pooled, output.problem_type)


def _checked(leave: Any, rows: int) -> Bools:
    """Return who leaves as the policy said it; raises ValueError where it isn't a bool a row."""
    found = np.asarray(leave)
    if found.shape != (rows,) or found.dtype != bool:
        raise ValueError(f"it returned {found.dtype} of shape {found.shape} for {rows} rows; allowed: one bool per row")
    return found


def failure(index: int, where: str, error: Exception) -> ElbertError:
    """Return the one line that says of a text what was raised, and where."""
    said = " ".join(str(error).split())[:200]
    told = ElbertError(f"text {index + 1} failed in {where}: {type(error).__name__}: {said or 'no message'}")
    told.__cause__ = error
    return told
