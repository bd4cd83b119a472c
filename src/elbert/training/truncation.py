"""How much of a text a model reads: chosen from the texts where nobody says, and what is cut off is told."""

from __future__ import annotations

import logging
from typing import Any

from elbert.data import TextDataset

logger = logging.getLogger(__name__)

# Below this share of cut texts nothing is said; a length that cuts no more than so many is long enough.
_WORTH_A_LINE, _LONG_ENOUGH = 0.01, 0.05
# Texts that are read again, to their model's most, for the shares at other lengths.
_SAMPLE = 500

# Tokens read of a text where nobody says: the first, for a layer's cost grows with them, unless it cuts more than that
# share of the texts. Reviews say what they think at their end, too.
_LENGTHS, _MAY_BE_CUT = (128, 256), 0.25


def choose_length(asked: int | None, dataset: TextDataset, tokenizer: Any, most: int) -> int:
    """Return how many tokens of a text a model will read, at most as many as it can.

    Args:
        asked: by the user; None takes 128, or 256 where 128 would cut more than a quarter of the texts.
        dataset: the texts to learn from.
        tokenizer: a fast tokenizer.
        most: the most that the model can read.
    """
    usual, longer = _LENGTHS
    if asked is not None:
        if asked > most:
            logger.warning("%d tokens of a text are read, the most that this model reads, not %d", most, asked)
        return min(asked, most)
    cut = _shares(dataset, tokenizer, [usual])[usual]
    if cut <= _MAY_BE_CUT or most <= usual:
        return min(usual, most)
    chosen = min(longer, most)
    told = "%d tokens of a text are read, since %d would cut %s of them; --max-length %d takes about half the time"
    logger.warning(told, chosen, usual, _percent(cut), usual)
    return chosen


def tell_truncation(dataset: TextDataset, cut: int, tokenizer: Any, max_length: int, most: int) -> None:
    """Log a line on how many texts are cut off, and how many a greater length would cut.

    Args:
        dataset: the texts.
        cut: how many of them are cut at `max_length`.
        tokenizer: a fast tokenizer.
        max_length: tokens read of a text.
        most: the most that the model can read.
    """
    share = cut / max(len(dataset), 1)
    if share < _WORTH_A_LINE:
        return
    told = f"{_percent(share)} of the texts are cut at {max_length} tokens"
    longer = _longer(dataset, tokenizer, max_length, most)
    if longer is None:
        logger.warning("%s, the most that this model reads", told)
    else:
        logger.warning("%s; --max-length %d would cut %s", told, longer[0], _percent(longer[1]))


def _longer(dataset: TextDataset, tokenizer: Any, max_length: int, most: int) -> tuple[int, float] | None:
    """Return the shortest greater length that is long enough, or else the most, and the share of texts it cuts."""
    candidates = sorted({most, *(2**power for power in range(2, 20) if 2**power < most)})
    candidates = [length for length in candidates if length > max_length]
    if not candidates:
        return None
    shares = _shares(dataset, tokenizer, candidates)
    best = next((length for length, share in shares.items() if share <= _LONG_ENOUGH), candidates[-1])
    return best, shares[best]


def _shares(dataset: TextDataset, tokenizer: Any, candidates: list[int]) -> dict[int, float]:
    """Return the share of texts, of a sample of them, that each length would cut."""
    texts, most = dataset.texts[:: -(-len(dataset) // _SAMPLE)], max(candidates)
    encoded = tokenizer(list(texts), truncation=True, max_length=most)
    lengths = [most + 1 if one.overflowing else len(one.ids) for one in encoded.encodings or ()]
    return {length: sum(each > length for each in lengths) / len(lengths) for length in candidates}


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 or not share else "under 1%"
