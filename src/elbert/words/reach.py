"""What layer 0 reads of a text: the tokens the encoder reads and, of a long one, those behind them."""

from __future__ import annotations

from typing import Any


def read_by_words(encoding: Any, reach: int) -> list[int]:
    """Return the token ids of a text that layer 0 looks at.

    Args:
        encoding: of the tokenizers library, truncated to what the encoder reads; of a single text whose end was cut off
            the rest is read too, of a pair and of a text without its beginning only what the encoder reads.
        reach: tokens in all, special ones included; what the encoder reads is never cut.
    """
    ids = list(encoding.ids)
    if reach <= len(ids) or encoding.n_sequences != 1:
        return ids
    beyond, last = [], max(end for _, end in encoding.offsets)
    for each in encoding.overflowing:
        tokens = zip(each.ids, each.offsets, each.special_tokens_mask, strict=True)
        beyond += [token for token, (start, _), special in tokens if not special and start >= last]
        if len(ids) + len(beyond) >= reach:
            break
    return ids + beyond[: reach - len(ids)]
