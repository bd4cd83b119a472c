"""N-gram masks as ALBERT draws them: runs of whole words, short runs more often than long ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elbert.pretraining.objectives import IGNORED

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

# Marks that a tokenizer family puts on tokens which continue a word, or on those which begin one.
CONTINUES = "##"
BEGINS = ("▁", "Ġ")

# Of the chosen places, these parts become the mask token and a random word; the rest stay as they are.
MASKED, RANDOM = 0.8, 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Masker:
    """Masks word runs in batches of token ids. V words of the vocabulary.

    A run of n words is drawn with probability ∝ 1/n (ALBERT, arXiv 1909.11942, section 4.1).

    Attributes:
        mask_id: id of the mask token.
        special: [V] tokens that are never masked.
        ordinary: ids of all other tokens, one of which a place may become.
        continues: [V] tokens that continue a word.
        fraction: part of the places to mask, in (0, 1).
        max_ngram: longest run, in words.
    """

    mask_id: int
    special: BoolArray
    ordinary: IntArray
    continues: BoolArray
    fraction: float
    max_ngram: int

    def __call__(self, ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return masked ids [B, L], and labels [B, L] with -100 where nothing was chosen.

        Args:
            ids: [B, L] token ids; not changed.
            rng: source of every draw.
        """
        original = ids.numpy()
        chosen = self.choose(original, rng)
        fate = rng.random(original.shape)
        masked = np.where(chosen & (fate < MASKED), self.mask_id, original)
        words = rng.choice(self.ordinary, original.shape)
        masked = np.where(chosen & (fate >= 1 - RANDOM), words, masked)
        return torch.from_numpy(masked), torch.from_numpy(np.where(chosen, original, IGNORED))

    def choose(self, ids: IntArray, rng: np.random.Generator) -> BoolArray:
        """Return [B, L] bool: the places to predict, whole words, at least one in every row where there is a word.

        Every row tries runs at its words in random order and takes those that touch no other and fit what is left of
        its budget; the rows take turns side by side, so the loop is as long as a row, not as a batch.

        Args:
            ids: [B, L] token ids.
            rng: source of every draw.
        """
        begins, ends, counts = self._words(ids)  # [B, W], [B, W], [B]
        budget = np.maximum(1, np.rint(self.fraction * (~self.special[ids]).sum(axis=1))).astype(np.int64)
        order = np.argsort(rng.random(begins.shape) + (np.arange(begins.shape[1]) >= counts[:, None]), axis=1)
        lengths = np.arange(1, self.max_ngram + 1)
        runs = rng.choice(lengths, begins.shape, p=(1 / lengths) / (1 / lengths).sum())
        left, taken = budget.copy(), np.zeros((len(ids), begins.shape[1] + self.max_ngram), np.bool_)
        edges = np.zeros((len(ids), ids.shape[1] + 1), np.int64)  # +1 where a chosen run begins, -1 behind its end
        for turn in range(begins.shape[1]):
            rows = np.flatnonzero((left > 0) & (turn < counts))
            if not len(rows):
                break
            first = order[rows, turn]
            last = np.minimum(first + runs[rows, turn], counts[rows]) - 1
            start, stop = begins[rows, first], ends[rows, last]
            words = first[:, None] + lengths - 1  # [rows, max_ngram], of which those up to the last are meant
            touching = (taken[rows[:, None], words] & (words <= last[:, None])).any(axis=1)
            fits = ~touching & ((stop - start <= left[rows]) | (left[rows] == budget[rows]))
            rows, start, stop = rows[fits], start[fits], stop[fits]
            taken[rows[:, None], words[fits]] |= words[fits] <= last[fits, None]
            edges[rows, start] += 1
            edges[rows, stop] -= 1
            left[rows] -= stop - start
        return (edges.cumsum(axis=1)[:, :-1] > 0) & ~self.special[ids]

    def _words(self, ids: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return where the words of each row begin [B, W] and end [B, W], 0 behind its last word, and how many [B]."""
        length = ids.shape[1]
        breaks = ~self.continues[ids]  # special tokens break a word too
        starts = breaks & ~self.special[ids]
        # A word ends where the next one, or a special token, begins.
        next_break = np.full((len(ids), length + 1), length)
        next_break[:, :-1] = np.where(breaks, np.arange(length), length)
        next_break = np.minimum.accumulate(next_break[:, ::-1], axis=1)[:, ::-1]
        counts = starts.sum(axis=1)
        rows, places = np.nonzero(starts)
        number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # of each word in its row
        begins = np.zeros((len(ids), int(counts.max(initial=0))), np.int64)
        ends = np.zeros_like(begins)
        begins[rows, number], ends[rows, number] = places, next_break[rows, places + 1]
        return begins, ends, counts


def make_masker(tokenizer: Any, fraction: float, max_ngram: int) -> Masker:
    """Return a masker that knows which tokens of a tokenizer are special and which continue a word.

    Args:
        tokenizer: a fast tokenizer of transformers: WordPiece, or one that marks the beginnings of words.
        fraction: part of the places to mask, in (0, 1).
        max_ngram: longest run, in words.
    """
    words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = np.zeros(len(words), np.bool_)
    special[tokenizer.all_special_ids] = True
    continues = np.array([word.startswith(CONTINUES) for word in words])
    if not continues.any():
        continues = np.array([not word.startswith(BEGINS) for word in words])
    ordinary = np.flatnonzero(~special)
    return Masker(tokenizer.mask_token_id, special, ordinary, continues & ~special, fraction, max_ngram)
