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
    """Keeps every exit's logits of `rows` texts: `logits` [rows, M, C] fp32, `pooled` [rows, M, H] if asked for."""

    def __init__(self, rows: int, weights: EncoderWeights, *, pooled: bool) -> None:
        shape = (rows, weights.num_layers)
        self.logits = torch.empty(*shape, weights.num_labels)
        self.pooled = torch.empty(*shape, weights.hidden_size) if pooled else None

    def write(self, rows: Rows, logits: Tensor, pooled: Tensor) -> None:
        """Store what the exits just said of `rows`."""
        index, depth = torch.from_numpy(rows.index), torch.from_numpy(rows.depth) - 1
        self.logits[index, depth] = logits.cpu()
        if self.pooled is not None:
            self.pooled[index, depth] = pooled.cpu()
