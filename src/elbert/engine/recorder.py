"""Keeps what every exit said, for replays, calibration and traces."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from elbert.engine.rows.packed import Rows
from elbert.modeling.weights import EncoderWeights


class Watcher(Protocol):
    """Is shown what every exit says, whether or not anybody may leave there."""

    def write(self, rows: Rows, logits: Tensor, pooled: Tensor) -> None:
        """Take in what the exits just said of `rows`."""


class Recorder:
    """Keeps what every exit said, by the layers a text had run.

    Attributes:
        logits: [rows, M, C] fp32.
        pooled: [rows, M, H] if asked for.
        depth: [rows, M] int64, the layer behind which the exit is; M where no exit was asked.
    """

    def __init__(self, rows: int, weights: EncoderWeights, *, pooled: bool) -> None:
        shape = (rows, weights.num_layers)
        self.logits = torch.empty(*shape, weights.num_labels)
        self.pooled = torch.empty(*shape, weights.hidden_size) if pooled else None
        self.depth = torch.full(shape, weights.num_layers)

    def write(self, rows: Rows, logits: Tensor, pooled: Tensor) -> None:
        """Store what the exits just said of `rows`."""
        index, place = torch.from_numpy(rows.index), torch.from_numpy(rows.ran) - 1
        self.logits[index, place] = logits.cpu()
        self.depth[index, place] = torch.from_numpy(rows.depth)
        if self.pooled is not None:
            self.pooled[index, place] = pooled.cpu()

    def repeat_last(self, ran: Tensor) -> None:
        """Repeat what was said last of texts that have run `ran` [rows] layers at the places behind."""
        places = torch.arange(self.logits.shape[1]).minimum(ran[:, None] - 1)[..., None]  # [rows, M, 1]
        self.logits = self.logits.take_along_dim(places, 1)
        if self.pooled is not None:
            self.pooled = self.pooled.take_along_dim(places, 1)
