"""Who leaves after a layer: what the exits say, what each row's policy makes of it, and whom nobody can ask any more.

Works on arrays of the host: an exit is a few numbers a row, and numpy's operations cost a fraction of a tensor's.
"""

from __future__ import annotations

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
    if len(rows.memory.groups) == 1:
        first: Any = rows.memory.groups[0].first
    else:
        first = np.array([group.first for group in rows.memory.groups])[rows.memory.member]
    if np.ndim(first) == 0 and first <= 1:
        return np.arange(rows.count)
    asked = (rows.depth >= first) | (rows.depth >= rows.last)
    return np.flatnonzero(asked if hurried is None else asked | hurried)


def decide(rows: Rows, said: Said, num_layers: int, hurried: Bools | None) -> Verdict:
    """Return what becomes of rows.

    A row whose exit is not finite fails, and where a policy's rule raises, the rows of that policy do; for all others
    it is as if those had not been there.

    Args:
        rows: they have just run a layer.
        said: by the exits of those that `to_ask` named.
        num_layers: M of the model, where everybody leaves.
        hurried: as in `to_ask`.
    """
    asked = _Asked(np.zeros(rows.count, bool), np.zeros(rows.count, bool))
    _fail_what_is_not_finite(rows, said, asked)
    groups = [_ask(rows, number, said, num_layers, asked) for number in range(len(rows.memory.groups))]
    leave = asked.fired | (rows.depth >= rows.last)
    if hurried is not None:
        leave |= hurried
    gone = np.flatnonzero(leave & ~asked.failed)
    stays = np.flatnonzero(~(leave | asked.failed))
    kept = [_kept(group, shown, stays) for group, shown in groups]
    cause = tuple(_cause(rows, row, num_layers, asked.fired, hurried) for row in gone.tolist())
    return Verdict(gone, cause, stays, without_empty(kept, rows.memory.member[stays]), asked.failures)


def _kept(group: Group, shown: Integers, stays: Integers) -> Group:
    """Return the group, whose state is of the rows `shown`, with the state of those that stay."""
    if not group.state or (len(shown) == len(stays) and np.array_equal(shown, stays)):
        return group
    return group.keep(np.flatnonzero(np.isin(shown, stays)))


def _cause(rows: Rows, row: int, num_layers: int, fired: Bools, hurried: Bools | None) -> Cause:
    if fired[row]:
        return "rule"
    if rows.depth[row] >= num_layers:
        return "last_layer"
    return "hurried" if hurried is not None and hurried[row] else "budget"


def _fail_what_is_not_finite(rows: Rows, said: Said, asked: _Asked) -> None:
    logits = said.output.logits
    if np.isfinite(logits.sum()):
        return
    bad = said.rows[~np.isfinite(logits).all(1)]
    names = [(f"text {rows.index[row] + 1}", int(rows.depth[row]), [int(rows.index[row])]) for row in bad]
    asked.fail(rows, bad, [NotFiniteError(*each) for each in names])


def _ask(rows: Rows, number: int, said: Said, num_layers: int, asked: _Asked) -> tuple[Group, Integers]:
    """Show a group's policy what was said of its rows.

    Returns:
        The group with its new state, and the rows, ascending, that this state is of.
    """
    memory = rows.memory
    group, alone = memory.groups[number], len(memory.groups) == 1
    shown = (rows.depth >= group.first) & (rows.depth < num_layers) & ~asked.failed
    which = np.flatnonzero(shown if alone else shown & (memory.member == number))
    own = np.arange(rows.count) if alone else memory.rows_of(number)
    if not len(which):
        return group, own
    at = which if len(said.rows) == rows.count else np.searchsorted(said.rows, which)
    state = group.state if len(which) == len(own) else group.keep(np.searchsorted(own, which)).state
    try:
        leave, state = group.policy.update(state, _part(said.output, at), rows.depth[which])
        asked.fired[which] = _checked(leave, len(which))
    except Exception as error:  # noqa: BLE001 - anybody's code: its mistakes are its own rows'
        asked.fail(
            rows, which, [failure(int(rows.index[row]), f"exit policy {group.policy.name!r}", error) for row in which]
        )
        return group, own
    return Group(group.policy, group.first, state), which


def _part(output: ExitOutput, at: Integers) -> ExitOutput:
    """Return what was said at these places, ascending."""
    if len(at) == len(output.logits):
        return output
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
