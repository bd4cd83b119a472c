"""How long the texts of a race are, in tokens as the model reads them: half of what a rate means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.data import Text
from elbert.engine.tokens import arrivals


def token_counts(texts: Sequence[Text], tokenizer: Any, max_length: int) -> NDArray[np.int64]:
    """Return [N] tokens of each text in the order given, special tokens included, after truncation."""
    counts = np.zeros(len(texts), np.int64)
    for row in arrivals(texts, tokenizer, max_length, {}):
        counts[row.index] = len(row.ids)
    return counts


def lengths_of(texts: Sequence[Text], tokenizer: Any, max_length: int) -> dict[str, float]:
    """Return `mean`, `p50`, `p95` and `max` tokens per text, special tokens included, after truncation."""
    counts = token_counts(texts, tokenizer, max_length)
    middle, high = np.percentile(counts, (50, 95))
    return {"mean": float(counts.mean()), "p50": float(middle), "p95": float(high), "max": float(counts.max())}
