"""State of rows that join and leave: pick rows, put rows side by side, and the tensors policies remember with.

A state is a dict of tensors whose leading dimension is rows. Nothing here is specific to one policy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from elbert.exits.base import State


def select(state: State, rows: Tensor) -> State:
    """Return the state of `rows` only: [n] int64 positions, or a [rows] bool mask."""
    return {name: values[rows] for name, values in state.items()}


def join(first: State, second: State) -> State:
    """Return the state of the rows of `first`, then those of `second`, of one and the same policy.

    Where one side was started without `num_labels` and has not been updated yet, it is widened to the other's width.
    """
    return {name: torch.cat(_one_width(values, second[name])) for name, values in first.items()}


def unseen(*shape: int, device: torch.device | str | None) -> Tensor:
    """Return memory [rows, ..., C] of outputs that have not come yet: NaN, which no comparison holds for."""
    return torch.full(shape, math.nan, dtype=torch.float32, device=device)


def widened(remembered: Tensor, width: int) -> Tensor:
    """Return `remembered` [rows, ..., 0] as unseen outputs of `width`; as it is where it has a width or needs none."""
    if remembered.dim() > 1 and remembered.shape[-1] == 0 and width:
        return unseen(*remembered.shape[:-1], width, device=remembered.device)
    return remembered


def no_streak(rows: int, device: torch.device | str | None) -> Tensor:
    """Return counters [rows] one below 0, so that the first output makes them 0 even if it looks like the unseen."""
    return torch.full((rows,), -1, dtype=torch.int64, device=device)


def _one_width(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return widened(first, second.shape[-1]), widened(second, first.shape[-1])
