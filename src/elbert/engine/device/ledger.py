"""What lies on the device for one window of texts: their tokens on one side, what became of them on the other.

Texts are numbered 0 … in the order they are to be started; number `idle` is nobody. Every buffer keeps its address, so
that captured graphs may go on using it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from elbert.engine.device.launch import Launcher
from elbert.engine.requests import Arrival
from elbert.modeling.weights import EncoderWeights


class Ledger:
    """Buffers for at most `texts` texts.

    Args:
        weights: the model.
        launcher: brings values to the device.
        device: where the buffers lie.
        texts: texts of a window at most.
        longest: places of the longest row that is read, which may begin at the last token.
        recording: keep what every exit says.

    Attributes:
        idle: the number of nobody; rows of this number in the buffers below are scrap.
        starts: [texts + 1] int64, where each text's tokens begin.
        lengths: [texts + 1] int64 tokens; 1 for nobody.
        tokens: token ids of all texts, one behind another, int32.
        types: their token types, uint8.
        limit: scalar int64, texts from this number on may not be started yet.
        counters: [2] int64: texts started, texts that left.
        health: [1, C]: NaN as soon as a logit of a text was not finite.
    """

    def __init__(
        self,
        weights: EncoderWeights,
        launcher: Launcher,
        device: torch.device,
        *,
        texts: int,
        longest: int,
        recording: bool,
    ) -> None:
        self.idle = texts
        self._launcher = launcher
        layers, classes = weights.num_layers, weights.num_labels
        tokens = texts * weights.max_length + longest
        self.starts = torch.zeros(texts + 1, dtype=torch.int64, device=device)
        self.lengths = torch.ones(texts + 1, dtype=torch.int64, device=device)
        self.tokens = torch.zeros(tokens, dtype=torch.int32, device=device)
        self.types = torch.zeros(tokens, dtype=torch.uint8, device=device)
        self.limit = torch.zeros((), dtype=torch.int64, device=device)
        self.counters = torch.zeros(2, dtype=torch.int64, device=device)
        self.health = torch.zeros(1, classes, device=device)
        self._logits = torch.zeros(texts + 1, classes, device=device)
        self._exit_layer = torch.zeros(texts + 1, dtype=torch.int64, device=device)
        self._exits = torch.zeros(texts + 1, layers, classes, device=device) if recording else None

    def load(self, texts: Sequence[Arrival]) -> None:
        """Bring a window of texts to the device, to be numbered in this order; none may be started yet."""
        lengths = np.array([len(text.ids) for text in texts], np.int64)
        total = int(lengths.sum())
        self.limit.zero_()
        self.counters.zero_()
        self.health.zero_()
        self._launcher.upload(self.lengths, lengths)
        self._launcher.upload(self.starts, lengths.cumsum() - lengths)
        ids = chain.from_iterable(text.ids for text in texts)
        self._launcher.upload(self.tokens, np.fromiter(ids, np.int32, total))
        if typed(texts):
            types = chain.from_iterable(text.token_types or [0] * len(text.ids) for text in texts)
            self._launcher.upload(self.types, np.fromiter(types, np.uint8, total))

    def write(self, number: Tensor, layer: Tensor, logits: Tensor, leave: Tensor) -> None:
        """Keep what the exits just said; on the device, in fixed shapes.

        Args:
            number: [slots] the text of each row, or `idle`.
            layer: [slots] layers it has run.
            logits: [slots, C].
            leave: [slots] bool, who leaves; nobody does not.
        """
        places = torch.where(leave, number, self.idle)
        self._logits.index_copy_(0, places, logits)
        self._exit_layer.index_copy_(0, places, layer)
        self.counters[1].add_(leave.sum())
        theirs = logits.masked_fill((number == self.idle)[:, None], 0.0)  # idle rows may hold anything
        self.health.add_(theirs.sum(0, keepdim=True), alpha=0)  # 0 times NaN or infinity is NaN
        if self._exits is not None:
            exits = self._exits.shape[1]
            at = number * exits + layer - 1
            self._exits.view(-1, logits.shape[-1]).index_copy_(0, at, logits)

    def results(self, texts: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (logits [texts, C], exit_layer [texts], every exit's logits [texts, M, C] or None), on the device."""
        exits = None if self._exits is None else self._exits[:texts]
        return self._logits[:texts], self._exit_layer[:texts], exits


def typed(texts: Sequence[Arrival]) -> bool:
    """Tell whether any text has a token type other than the first."""
    return any(text.token_types and any(text.token_types) for text in texts)
