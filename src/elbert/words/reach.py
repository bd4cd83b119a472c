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
    return [*encoding.ids, *(token for token, _ in _beyond(encoding, reach))]


def end_of_words(encoding: Any, reach: int) -> int | None:
    """Return where in a text the reading of layer 0 ends, in characters; None where it reads what the encoder reads.

    Args:
        encoding: as in `read_by_words`.
        reach: likewise.
    """
    beyond = _beyond(encoding, reach)
    return beyond[-1][1] if beyond else None


def _beyond(encoding: Any, reach: int) -> list[tuple[int, int]]:
    """Return the tokens that layer 0 reads behind those that the encoder reads, each with its end in characters."""
    room = reach - len(encoding.ids)
    if room <= 0 or encoding.n_sequences != 1:
        return []
    beyond: list[tuple[int, int]] = []
    last = max(end for _, end in encoding.offsets)
    for each in encoding.overflowing:
        tokens = zip(each.ids, each.offsets, each.special_tokens_mask, strict=True)
        beyond += [(token, end) for token, (start, end), special in tokens if not special and start >= last]
        if len(beyond) >= room:
            break
    return beyond[:room]
