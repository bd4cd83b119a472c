"""State of rows that join and leave: pick rows, put rows side by side, and the memory policies begin with.

A state is a dict of numpy arrays (of tensors where a device keeps it) whose leading dimension is rows. Nothing here is
specific to one policy.
"""

from __future__ import annotations

import math

import numpy as np

from elbert.arrays import Array
from elbert.exits.base import State


def select(state: State, rows: Array) -> State:
    """Return the state of `rows` only: [n] int64 positions, or a [rows] bool mask."""
    return {name: values[rows] for name, values in state.items()}


def join(first: State, second: State) -> State:
    """Return the state of the rows of `first`, then those of `second`, of one and the same policy.

    Memory that a policy adds with its first update is unseen, NaN, in rows that have run no layer.
    """
    return {
        name: np.concatenate((_memory(first, name, second), _memory(second, name, first)))
        for name in first.keys() | second.keys()
    }


def _memory(state: State, name: str, other: State) -> Array:
    if name in state:
        return state[name]
    rows = len(next(iter(state.values())))
    return np.full((rows, *other[name].shape[1:]), math.nan, other[name].dtype)


def unseen(*shape: int) -> Array:
    """Return memory [rows, ..., C] of outputs that have not come yet: NaN, which no comparison holds for."""
    return np.full(shape, math.nan, np.float32)


def no_streak(rows: int) -> Array:
    """Return counters [rows] one below 0, so that the first output makes them 0 even if it looks like the unseen."""
    return np.full(rows, -1, np.int64)
