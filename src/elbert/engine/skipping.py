"""Rows that skip layers: where each goes on, by its policy's gates. A skipped layer is a step that the row isn't in.

Whether it leaves is decided before, at the exit of the layer it has run; exits of skipped layers are not asked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from elbert.engine.rows.blocks import Integers
from elbert.engine.rows.packed import Rows


def going_on_at(rows: Rows) -> Integers | None:
    """Return the depth, 0-based, at which each row goes on, [rows]; None where nobody has gates.

    Args:
        rows: they have just run a layer.
    """
    groups = rows.memory.groups
    if all(group.policy.gates is None for group in groups):
        return None
    ahead = rows.depth.copy()
    for number, group in enumerate(groups):
        if group.policy.gates is not None:
            own = rows.memory.rows_of(number)
            means = rows.layout.means(rows.hidden, own).cpu().numpy()
            ahead[own] = group.policy.gates.following(means, rows.depth[own]) - 1
    return ahead


def ended_by_policy(rows: Rows, ahead: Integers, num_layers: int) -> NDArray[np.bool_]:
    """Return which rows would next run a layer beyond their policy's last, [rows].

    Args:
        rows: they have just run a layer.
        ahead: from `going_on_at`.
        num_layers: M of the model.
    """
    latest = np.array([group.policy.latest(num_layers) for group in rows.memory.groups])[rows.memory.member]
    return np.asarray(ahead + 1 > latest)


def leaving_in_time(rows: Rows, ahead: Integers, num_layers: int) -> Rows:
    """Return rows so that those leave now that would next run a layer beyond the last they may; arguments as above."""
    beyond = (ahead + 1 > rows.last) | ended_by_policy(rows, ahead, num_layers)
    return replace(rows, last=np.where(beyond, np.minimum(rows.last, rows.depth), rows.last))
