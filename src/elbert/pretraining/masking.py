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
        continues: [V] tokens that continue a word.
        fraction: part of the places to mask, in (0, 1).
        max_ngram: longest run, in words.
    """

    mask_id: int
    special: BoolArray
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
        chosen = np.stack([self.choose(row, rng) for row in original])
        fate = rng.random(original.shape)
        masked = np.where(chosen & (fate < MASKED), self.mask_id, original)
        words = rng.choice(np.flatnonzero(~self.special), original.shape)
        masked = np.where(chosen & (fate >= 1 - RANDOM), words, masked)
        return torch.from_numpy(masked), torch.from_numpy(np.where(chosen, original, IGNORED))

    def choose(self, row: NDArray[np.int64], rng: np.random.Generator) -> BoolArray:
        """Return [L] bool: the places of one sequence to predict, whole words, at least one where there is a word.

        Args:
            row: [L] token ids.
            rng: source of every draw.
        """
        chosen = np.zeros(len(row), np.bool_)
        ordinary = ~self.special[row]
        starts = np.flatnonzero(ordinary & ~self.continues[row])
        if not len(starts):
            return chosen
        # A word ends where the next one, or a special token, begins.
        breaks = np.append(np.flatnonzero(~self.continues[row] | ~ordinary), len(row))
        ends = breaks[np.searchsorted(breaks, starts, side="right")]
        budget = max(1, round(self.fraction * int(ordinary.sum())))
        lengths = np.arange(1, self.max_ngram + 1)
        runs = rng.choice(lengths, size=len(starts), p=(1 / lengths) / (1 / lengths).sum())
        for word, run in zip(rng.permutation(len(starts)), runs, strict=True):
            start, stop = starts[word], ends[min(word + run, len(starts)) - 1]
            left = budget - int(chosen.sum())
            if left <= 0:
                break
            if not chosen[start:stop].any() and (stop - start <= left or not chosen.any()):
                chosen[start:stop] = True
        return chosen & ordinary


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
    return Masker(tokenizer.mask_token_id, special, continues & ~special, fraction, max_ngram)
