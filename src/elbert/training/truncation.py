"""How much of the texts a model does not get to read, told before it is trained, with the length that would do."""

from __future__ import annotations

import logging
from typing import Any

from elbert.data import TextDataset

logger = logging.getLogger(__name__)

# Below this share of cut texts nothing is said; a length that cuts no more than so many is long enough.
_WORTH_A_LINE, _LONG_ENOUGH = 0.01, 0.05
# Texts that are read again, to their model's most, for the shares at other lengths.
_SAMPLE = 500


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
    texts = dataset.texts[:: -(-len(dataset) // _SAMPLE)]
    encoded = tokenizer(list(texts), truncation=True, max_length=most)
    lengths = [most + 1 if one.overflowing else len(one.ids) for one in encoded.encodings or ()]
    shares = {length: sum(each > length for each in lengths) / len(lengths) for length in candidates}
    best = next((length for length, share in shares.items() if share <= _LONG_ENOUGH), candidates[-1])
    return best, shares[best]


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 or not share else "under 1%"
