"""Rows in flight as packed tokens: the tokens of all rows lie behind one another, so matrix products see no padding.

Only attention needs rows of one length; `Layout` holds the indices that lay packed tokens out as a padded block and
bring them back. This module moves rows; it computes no layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where each row's tokens lie in the packed order.

    Attributes:
        lengths: [rows] int64, tokens per row, each >= 1.
    """

    lengths: Tensor

    @cached_property
    def rows(self) -> int:
        """Rows in flight."""
        return self.lengths.numel()

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max())

    @cached_property
    def starts(self) -> Tensor:
        """[rows] index of each row's first token ([CLS])."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def mask(self) -> Tensor | None:
        """[rows, longest] True at real tokens; None where all rows are equally long and nothing needs padding."""
        mask = torch.arange(self.longest, device=self.lengths.device) < self.lengths[:, None]
        return None if self.longest * self.rows == int(self.lengths.sum()) else mask

    @cached_property
    def pad(self) -> Tensor:
        """[rows * longest] packed index for every padded place; places past a row's end repeat its last token."""
        place = torch.arange(self.longest, device=self.lengths.device)
        return (self.starts[:, None] + torch.minimum(place, self.lengths[:, None] - 1)).flatten()

    @cached_property
    def unpad(self) -> Tensor:
        """[tokens] padded index of every packed token."""
        assert self.mask is not None  # only asked for where there is padding
        return self.mask.flatten().nonzero().squeeze(1)

    def positions(self) -> Tensor:
        """Return [tokens] int64, each token's place in its own row, 0-based."""
        tokens = torch.arange(int(self.lengths.sum()), device=self.lengths.device)
        return tokens - self.starts.repeat_interleave(self.lengths)


@dataclass(frozen=True)
class Rows:
    """Rows that are stepped together; they may stand at different depths.

    Attributes:
        hidden: [tokens, H] packed hidden states.
        layout: where each row's tokens are.
        index: [rows] int64, the caller's number of each row.
        layer: [rows] int64, layers run so far.
        state: the exit policy's memory, every tensor with leading dimension rows.
    """

    hidden: Tensor
    layout: Layout
    index: Tensor
    layer: Tensor
    state: dict[str, Tensor]

    @property
    def count(self) -> int:
        """Rows in flight."""
        return self.layout.rows

    @property
    def tokens(self) -> int:
        """Tokens in flight."""
        return self.hidden.shape[0]

    def keep(self, stays: Tensor) -> Rows:
        """Return only the rows where `stays` ([rows] bool) is True."""
        tokens = stays.repeat_interleave(self.layout.lengths).nonzero().squeeze(1)
        return Rows(
            hidden=self.hidden.index_select(0, tokens),
            layout=Layout(self.layout.lengths[stays]),
            index=self.index[stays],
            layer=self.layer[stays],
            state={name: value[stays] for name, value in self.state.items()},
        )

    def join(self, other: Rows) -> Rows:
        """Return these rows followed by `other`'s."""
        return Rows(
            hidden=torch.cat((self.hidden, other.hidden)),
            layout=Layout(torch.cat((self.layout.lengths, other.layout.lengths))),
            index=torch.cat((self.index, other.index)),
            layer=torch.cat((self.layer, other.layer)),
            state={name: torch.cat((value, other.state[name])) for name, value in self.state.items()},
        )
