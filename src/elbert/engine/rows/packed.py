"""Rows in flight as packed tokens: the tokens of all rows lie behind one another, so matrix products see no padding.

Only attention needs rows of one length; `Layout` holds the indices that lay packed tokens out in padded blocks and
bring them back. A few filler places behind the last token round their number up, because every new number of tokens
costs a matrix library a new plan. The arithmetic is over a few hundred small integers and is done in numpy on the host,
where a call costs a fraction of a tensor operation. This module moves rows; it computes no layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, repeat

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from elbert.engine.rows.blocks import Blocks, Integers, blocks_of, filled, on_device
from elbert.engine.rows.memory import Memory

_CPU = torch.device("cpu")

# Tokens in flight are rounded up to a multiple of the second number while they are at most the first.
_STEPS = ((64, 8), (512, 16), (4096, 64))
_LAST_STEP = 256


def rounded_up(tokens: int) -> int:
    """Return the number of packed places for `tokens` tokens: at most 96 different numbers up to 4,096 tokens."""
    step = next((step for limit, step in _STEPS if tokens <= limit), _LAST_STEP)
    return -(-tokens // step) * step


@dataclass(frozen=True)
class Layout:
    """Where each row's tokens lie in the packed order.

    Attributes:
        lengths: [rows] int64 on the host, tokens per row, each >= 1.
        device: where the index tensors are wanted.
    """

    lengths: Integers
    device: torch.device = field(default=_CPU)

    @cached_property
    def rows(self) -> int:
        """Rows in flight."""
        return len(self.lengths)

    @cached_property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return int(self.lengths.sum())

    @cached_property
    def size(self) -> int:
        """Packed places: the tokens and the filler behind them."""
        return rounded_up(self.tokens)

    @cached_property
    def starts(self) -> Tensor:
        """[rows] index of each row's first token ([CLS])."""
        return on_device(self._starts, self.device)

    @cached_property
    def blocks(self) -> Blocks:
        """What attention computes together, see `elbert.engine.rows.blocks`."""
        return blocks_of(self.lengths, self._starts, self.size, self.device, apart=False)

    @cached_property
    def blocks_apart(self) -> Blocks:
        """The same with long rows apart from short ones."""
        return blocks_of(self.lengths, self._starts, self.size, self.device, apart=True)

    def positions(self) -> Tensor:
        """Return [size] int64, each token's place in its own row, 0-based; filler is at 0."""
        places = np.arange(self.tokens) - np.repeat(self._starts, self.lengths)
        return on_device(filled(places, self.size), self.device)

    def packed(self, numbers: Iterable[Sequence[int]]) -> Tensor:
        """Return [size] int64: the numbers of every row's tokens, such as their ids; filler is 0."""
        filler = repeat(0, self.size - self.tokens)
        return on_device(np.fromiter(chain(chain.from_iterable(numbers), filler), np.int64, self.size), self.device)

    def tokens_of(self, rows: Integers) -> Tensor:
        """Return where the tokens of `rows` ([n] row numbers) lie, in that order of rows, with filler behind."""
        counts = self.lengths[rows]
        ends = counts.cumsum()
        places = np.arange(ends[-1]) + np.repeat(self._starts[rows] - ends + counts, counts)
        return on_device(filled(places, rounded_up(int(ends[-1]))), self.device)

    def means(self, hidden: Tensor, rows: Integers, eps: float | None = None) -> Tensor:
        """Return [n, H] fp32, of each of `rows` ([n] row numbers) the mean of `hidden` [size, H] over its tokens.

        With `eps` every token's state is normed first, with that much added to its variance. A row's mean is the same
        to the bit whatever other rows there are.
        """
        counts = self.lengths[rows]
        starts = on_device(counts.cumsum() - counts, self.device)
        states = hidden.float() if eps is None else F.layer_norm(hidden.float(), hidden.shape[1:], eps=eps)
        return F.embedding_bag(self.tokens_of(rows)[: int(counts.sum())], states, starts, mode="mean")

    @cached_property
    def _starts(self) -> Integers:
        starts: Integers = self.lengths.cumsum() - self.lengths
        return starts


@dataclass(frozen=True)
class Rows:
    """Rows that are stepped together; they may stand at different depths and have different policies.

    Attributes:
        hidden: [size, H] packed hidden states, those of the filler without meaning.
        layout: where each row's tokens are.
        length: [rows] int64 on the host, tokens that each came with.
        index: [rows] int64 on the host, the caller's number of each row.
        arrived: [rows] int64 on the host, how many rows came before each.
        depth: [rows] int64 on the host, which layer's weights come next, 0-based.
        ran: [rows] int64 on the host, layers run so far.
        last: [rows] int64 on the host, the depth at which each leaves whatever its policy says.
        memory: what the exit policies remember.
        added: [rows, C] fp32 on the host, what layer 0 adds to every exit's logits; None for nothing.
    """

    hidden: Tensor
    layout: Layout
    length: Integers
    index: Integers
    arrived: Integers
    depth: Integers
    ran: Integers
    last: Integers
    memory: Memory
    added: NDArray[np.float32] | None = None

    @property
    def count(self) -> int:
        """Rows in flight."""
        return self.layout.rows

    @property
    def tokens(self) -> int:
        """Tokens in flight."""
        return self.layout.tokens

    def stepped(self, hidden: Tensor, layout: Layout) -> Rows:
        """Return the rows after a layer that left them so."""
        depth, ran = self.depth + 1, self.ran + 1
        return replace(self, hidden=hidden, layout=layout, depth=depth, ran=ran)

    def at(self, depth: Integers | None) -> Rows:
        """Return the rows so that each goes on at that depth ([rows], 0-based); None leaves them at their own."""
        return self if depth is None else replace(self, depth=depth)

    def going_on(self, stays: Integers, memory: Memory) -> Rows:
        """Return the rows `stays` ([n] row numbers, ascending, n >= 1) with their new memory."""
        if len(stays) < self.count:
            return self.keep(stays, memory)
        return replace(self, memory=memory)

    def keep(self, stays: Integers, memory: Memory | None = None) -> Rows:
        """Return only the rows `stays` ([n] row numbers, ascending, n >= 1), with their memory where it is another."""
        return Rows(
            hidden=self.hidden.index_select(0, self.layout.tokens_of(stays)),
            layout=Layout(self.layout.lengths[stays], self.layout.device),
            length=self.length[stays],
            index=self.index[stays],
            arrived=self.arrived[stays],
            depth=self.depth[stays],
            ran=self.ran[stays],
            last=self.last[stays],
            memory=self.memory.keep(stays) if memory is None else memory,
            added=None if self.added is None else self.added[stays],
        )

    def join(self, other: Rows, start: int = 0, end: int | None = None) -> Rows:
        """Return these rows followed by `other`'s, or by those from number `start` up to `end`."""
        part = slice(start, end)
        lengths = other.layout.lengths[part]
        first = int(other.layout.lengths[:start].sum())
        layout = Layout(np.concatenate((self.layout.lengths, lengths)), self.layout.device)
        pieces = [self.hidden[: self.tokens], other.hidden[first : first + int(lengths.sum())]]
        if layout.size > layout.tokens:
            pieces.append(self.hidden[:1].expand(layout.size - layout.tokens, -1))
        memory = other.memory if len(lengths) == other.count else other.memory.keep(np.arange(other.count)[part])
        return Rows(
            hidden=torch.cat(pieces),
            layout=layout,
            length=np.concatenate((self.length, other.length[part])),
            index=np.concatenate((self.index, other.index[part])),
            arrived=np.concatenate((self.arrived, other.arrived[part])),
            depth=np.concatenate((self.depth, other.depth[part])),
            ran=np.concatenate((self.ran, other.ran[part])),
            last=np.concatenate((self.last, other.last[part])),
            memory=self.memory.join(memory),
            added=None
            if self.added is None or other.added is None
            else np.concatenate((self.added, other.added[part])),
        )
