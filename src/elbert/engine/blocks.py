"""How packed rows are laid out for attention: in blocks of rows of about one length, padded to the block's longest.

On a CPU a block is also kept small enough for its scores to stay in the cache; elsewhere all rows are one block, since
there many small calls cost more than padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]

# Attention scores of one head that a block holds at most, unless one row alone has more.
MOST_SCORES = 32_768

# Scores of one head that padding may add to a block before another block is cheaper.
_PADDING = 4096


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
        pad: [places] packed index for every padded place; places past a row's end repeat its last token. None where
            padded and packed order are the same.
        unpad: [tokens] padded index of every packed token; None likewise.
    """

    blocks: tuple[Block, ...]
    places: int
    pad: Integers | None
    unpad: Integers | None


def blocks_of(lengths: Integers, starts: Integers, device: torch.device) -> Blocks:
    """Divide rows into blocks.

    Args:
        lengths: [rows] tokens of each row.
        starts: [rows] packed index of each row's first token.
        device: where the blocks are computed.
    """
    order = np.argsort(-lengths, kind="stable") if len(lengths) > 1 else np.zeros(1, np.int64)
    ordered = lengths[order]
    sizes = _sizes(ordered) if device.type == "cpu" else [len(ordered)]
    blocks: list[Block] = []
    place = row = 0
    for size in sizes:
        length = int(ordered[row])
        blocks.append(Block(place, size, length, _closed(ordered[row : row + size], device)))
        place += size * length
        row += size
    if ordered[0] == ordered[-1]:
        return Blocks(tuple(blocks), place, None, None)
    width = np.repeat([block.length for block in blocks], sizes)  # [rows] padded places of each row, in order
    begin = width.cumsum() - width
    inside = np.arange(place) - np.repeat(begin, width)
    pad = np.repeat(starts[order], width) + np.minimum(inside, np.repeat(ordered - 1, width))
    padded_start = np.empty_like(begin)
    padded_start[order] = begin
    unpad = np.arange(int(ordered.sum())) + np.repeat(padded_start - starts, lengths)
    return Blocks(tuple(blocks), place, pad, unpad)


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


def _closed(lengths: Integers, device: torch.device) -> Tensor | None:
    if lengths[0] == lengths[-1]:
        return None
    real = np.arange(lengths[0]) < lengths[:, None]
    closed = torch.from_numpy(np.where(real, np.float32(0), np.float32(-np.inf))[:, None])
    return closed if device.type == "cpu" else closed.to(device)
