"""From planned sequences to the tensors of one micro-batch: special tokens, segments, masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elbert.pretraining.corpus import IntArray, TokenCorpus
from elbert.pretraining.masking import make_masker
from elbert.pretraining.sequences import MIDDLE, START, STOP, cut_sequences, plan_batches
from elbert.pretraining.settings import PretrainSettings


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The micro-batches of one pass.

    Attributes:
        epoch: the number all draws of this pass come from.
        sequences: [S, 3] start, middle and stop of each sequence in the corpus.
        batches: index arrays into `sequences`, in the order they are trained on.
        sizes: [batches] tokens of each, special tokens included.
    """

    epoch: int
    sequences: IntArray
    batches: list[IntArray]
    sizes: IntArray

    def __len__(self) -> int:
        """Return the number of micro-batches."""
        return len(self.batches)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One micro-batch: B sequences of the same length L.

    Attributes:
        ids: [B, L] the text.
        masked_ids: [B, L] the text with masks; the same tensor as `ids` where no words are masked.
        labels: [B, L] masked words, -100 elsewhere.
        token_types: [B, L] 0 for the first segment, 1 for the second.
        swapped: [B] 1 where the segments changed places.
        shift: first position of the embedding match, so that every position row is trained on short texts too.
    """

    ids: Tensor
    masked_ids: Tensor
    labels: Tensor
    token_types: Tensor
    swapped: Tensor
    shift: int = 0

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        ids, masked, labels, types, swapped = (
            tensor.to(device) for tensor in (self.ids, self.masked_ids, self.labels, self.token_types, self.swapped)
        )
        return Batch(ids, masked, labels, types, swapped, self.shift)


class Batcher:
    """Makes plans and micro-batches of a tokenised corpus; all draws come from the seed and the place in the run.

    Args:
        corpus: the tokens.
        tokenizer: for its special tokens and its way of continuing a word.
        settings: lengths, masks, objectives.
        positions: positions that student and teacher both know, at least `settings.max_length`.
    """

    def __init__(self, corpus: TokenCorpus, tokenizer: Any, settings: PretrainSettings, positions: int) -> None:
        self.corpus, self.settings, self.positions = corpus, settings, positions
        self.cls, self.sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.special_tokens = 3 if settings.sentence_order else 2
        self.masker = make_masker(tokenizer, settings.mask_fraction, settings.max_ngram)

    def plan(self, documents: IntArray, epoch: int) -> Plan:
        """Cut and group documents anew for one pass; the same epoch gives the same plan."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, epoch])
        sequences = cut_sequences(
            self.corpus,
            documents,
            room=settings.max_length - self.special_tokens,
            single_sentences=settings.single_sentences,
            rng=rng,
        )
        lengths = sequences[:, STOP] - sequences[:, START] + self.special_tokens
        batches = plan_batches(lengths, settings.micro_tokens, rng)
        sizes = np.fromiter((len(rows) * lengths[rows[0]] for rows in batches), np.int64, len(batches))
        return Plan(epoch, sequences, batches, sizes)

    def batch(self, plan: Plan, index: int) -> Batch:
        """Make micro-batch `index` of a plan; the same place gives the same batch."""
        rng = np.random.default_rng([self.settings.seed, plan.epoch, index])
        chosen = plan.sequences[plan.batches[index]]
        if self.settings.sentence_order:
            swapped = rng.integers(0, 2, len(chosen))
            pair = self._pairs(chosen, swapped)
        else:
            swapped = np.zeros(len(chosen), np.int64)
            pair = self._singles(chosen)
        ids, types = map(torch.from_numpy, pair)
        masked, labels = self.masker(ids, rng) if self.settings.masked_words else (ids, ids)
        shift = int(rng.integers(0, self.positions - ids.shape[1] + 1))
        return Batch(ids, masked, labels, types, torch.from_numpy(swapped), shift)

    def _singles(self, chosen: IntArray) -> tuple[IntArray, IntArray]:
        """Return ids and token types [B, L] of `[CLS] text [SEP]` for B sequences [B, 3] of one length."""
        places = chosen[:, START, None] + np.arange(chosen[0, STOP] - chosen[0, START])
        ids = np.full((len(chosen), places.shape[1] + 2), self.sep, np.int64)
        ids[:, 0], ids[:, 1:-1] = self.cls, self.corpus.tokens[places]
        return ids, np.zeros_like(ids)

    def _pairs(self, chosen: IntArray, swapped: IntArray) -> tuple[IntArray, IntArray]:
        """Return ids and token types [B, L] of `[CLS] first [SEP] second [SEP]`; `swapped` [B] says whose order turns.

        B sequences [B, 3] of one length. Swapped halves are the same tokens, rotated.
        """
        rows, count = np.arange(len(chosen))[:, None], int(chosen[0, STOP] - chosen[0, START])
        head = (chosen[:, MIDDLE] - chosen[:, START])[:, None]  # [B, 1] tokens of the first half as it was written
        turn = swapped[:, None] == 1
        lead = np.where(turn, count - head, head)  # [B, 1] tokens of the half that now comes first
        number = np.arange(count)
        places = chosen[:, START, None] + (number + np.where(turn, head, 0)) % count
        ids = np.full((len(chosen), count + 3), self.sep, np.int64)
        ids[:, 0] = self.cls
        ids[rows, number + np.where(number < lead, 1, 2)] = self.corpus.tokens[places]
        return ids, (np.arange(count + 3) >= lead + 2).astype(np.int64)
