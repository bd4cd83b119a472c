"""How packed rows are laid out for attention: in blocks of rows of about one length, padded to the block's longest.

On a CPU a block is also kept small enough for its scores to stay in the cache; elsewhere all rows are one block, since
there many small calls cost more than padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]

# Attention scores of one head that a block holds at most, unless one row alone has more.
MOST_SCORES = 32_768

# Scores of one head that padding may add to a block before another block is cheaper.
_PADDING = 4096

# Rows longer than this may be asked to keep to themselves, in blocks whose lengths are multiples of the second number.
SHORT = 64
_STEP = 16


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that attention computes together.

    Attributes:
        first: padded place of the first token.
        rows: how many rows.
        length: places of each row.
        closed: [rows, 1, length] fp32 to add to scores: 0 at real tokens, minus infinity elsewhere; None where all are.
    """

    first: int
    rows: int
    length: int
    closed: Tensor | None

    @property
    def end(self) -> int:
        """One past the padded place of the last token."""
        return self.first + self.rows * self.length


@dataclass(frozen=True, slots=True)
class Blocks:
    """All blocks of the rows in flight, one after another in padded order.

    Attributes:
        blocks: longest rows first.
        places: padded places of all of them.
        pad: [places] int64 packed index for every padded place; places past a row's end repeat its last token. None
            where padded and packed order are the same.
        unpad: [size] int64 padded index of every packed place, filler repeating the first; None likewise.
    """

    blocks: tuple[Block, ...]
    places: int
    pad: Tensor | None
    unpad: Tensor | None


def blocks_of(lengths: Integers, starts: Integers, size: int, device: torch.device, *, apart: bool) -> Blocks:
    """Divide rows into blocks.

    Args:
        lengths: [rows] tokens of each row.
        starts: [rows] packed index of each row's first token.
        size: packed places; those behind the last token are filler.
        device: where the blocks are computed.
        apart: never put a row of more than `SHORT` tokens beside one of fewer, and make the lengths of their blocks
            few. They can then be computed by kernels that plan for every shape, and no row is computed otherwise for
            who is beside it.
    """
    if len(lengths) == 1 and not (apart and lengths[0] > SHORT):
        return Blocks((Block(0, 1, int(lengths[0]), None),), size, None, None)
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    long = int((ordered > SHORT).sum()) if apart else 0
    sizes = _sizes(ordered[:long]) + _sizes(ordered[long:]) if device.type == "cpu" else [len(ordered)]
    blocks: list[Block] = []
    place = row = 0
    for rows in sizes:
        length = int(ordered[row])
        if row < long:
            length += -length % _STEP
        blocks.append(Block(place, rows, length, _closed(ordered[row : row + rows], length, device)))
        place += rows * length
        row += rows
    if ordered[0] == ordered[-1] == blocks[0].length:
        return Blocks(tuple(blocks), size, None, None)
    width = np.repeat([block.length for block in blocks], sizes)  # [rows] padded places of each row, in order
    begin = width.cumsum() - width
    inside = np.arange(place) - np.repeat(begin, width)
    pad = np.repeat(starts[order], width) + np.minimum(inside, np.repeat(ordered - 1, width))
    padded_start = np.empty_like(begin)
    padded_start[order] = begin
    unpad = np.arange(int(ordered.sum())) + np.repeat(padded_start - starts, lengths)
    return Blocks(tuple(blocks), place, on_device(pad, device), on_device(filled(unpad, size), device))


def filled(values: Integers, size: int) -> Integers:
    """Return `values` with zeros behind them up to `size`."""
    filled = np.zeros(size, np.int64)
    filled[: len(values)] = values
    return filled


def on_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array of the host as a tensor; on a CPU it is the same memory."""
    tensor = torch.from_numpy(values)
    return tensor if device.type == "cpu" else tensor.to(device)


def _sizes(ordered: Integers) -> list[int]:
    """Return the rows of each block, for lengths that never grow."""
    squares = np.concatenate(([0], (ordered * ordered).cumsum()))
    sizes, row = [], 0
    while row < len(ordered):
        square = int(ordered[row]) ** 2
        most = max(1, min(MOST_SCORES // square, len(ordered) - row))
        added = np.arange(1, most + 1) * square - (squares[row + 1 : row + most + 1] - squares[row])
        sizes.append(max(1, int(np.searchsorted(added, _PADDING, side="right"))))
        row += sizes[-1]
    return sizes


def _closed(lengths: Integers, length: int, device: torch.device) -> Tensor | None:
    if length == lengths[-1]:
        return None
    real = np.arange(length) < lengths[:, None]
    return on_device(np.where(real, np.float32(0), np.float32(-np.inf))[:, None], device)
