"""Tokenising with bounded memory: of a text of megabytes no more is tokenised than can reach the model.

The tokenizers library needs 40 to 110 bytes of memory per character and cuts only what it has tokenised. A text that is
far longer than `max_length` tokens can take is therefore cut beforehand, generously: what stays has to give more tokens
than are kept, and the last kept one has to lie well before the cut, so that tokens and `truncated` are those of the
whole text. Where it does not (long blanks, one endless word), eight times as much is tried, up to the whole text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tokenizers import Encoding, Tokenizer

from elbert.data import Text

# Characters tried at first, per token that the model reads: four times what a token of common languages has.
_PER_TOKEN = 16
_AT_LEAST = 2048  # characters tried at first for the shortest limits
_GROWTH = 8
# Characters between the last kept token and the cut: a cut word may become other tokens, and no word piece is as long.
_MARGIN = 256
# Tokens that a character may become at most: its bytes.
_BYTES = 4
# Characters tokenised together. Of a pair the library keeps every part of one half with every part of the other.
_TOGETHER = 1 << 18


def encode(
    tokenizer: Tokenizer, texts: Sequence[Text], limit: int | None, side: str, *, reach: int = 0
) -> tuple[list[Encoding], list[Text]]:
    """Tokenise texts of one kind: all single, or all pairs.

    Args:
        tokenizer: of the tokenizers library, which truncates by itself.
        texts: N strings, or N tuples of two.
        limit: tokens it keeps, or None where it does not truncate.
        side: the end of a text that is cut off, "right" or "left".
        reach: tokens of a single text that have to be those of the whole one, where they are more than the limit.

    Returns:
        N encodings, and the N texts that their offsets are of, which may be cut.
    """
    read = list(texts)
    encodings: list[Any] = [None] * len(read)
    places, most = list(range(len(read))), max(_AT_LEAST, _PER_TOKEN * max(limit or 0, reach))
    while places:
        for place in places:
            read[place] = texts[place] if limit is None else _cut(texts[place], most, side)
        for group in _groups(read, places, limit):
            for place, encoding in zip(group, tokenizer.encode_batch([read[each] for each in group]), strict=True):
                encodings[place] = encoding
        places = [place for place in places if not _enough(encodings[place], texts[place], read[place], side, reach)]
        most *= _GROWTH
    return encodings, read


def _groups(texts: Sequence[Text], places: Sequence[int], limit: int | None) -> Iterator[list[int]]:
    group: list[int] = []
    total = 0
    for place in places:
        sizes = [len(half) for half in _halves(texts[place])]
        size = sum(sizes) + (4 * math.prod(sizes) // limit if limit and len(sizes) == 2 else 0)
        if group and total + size > _TOGETHER:
            yield group
            group, total = [], 0
        group.append(place)
        total += size
    if group:
        yield group


def _halves(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _cut(text: Text, most: int, side: str) -> Text:
    if all(len(half) <= most for half in _halves(text)):
        return text
    first, *second = (half[-most:] if side == "left" else half[:most] for half in _halves(text))
    return (first, second[0]) if second else first


def _enough(encoding: Encoding, text: Text, read: Text, side: str, reach: int) -> bool:
    """Say whether every half that was cut gave more tokens than are kept, the last of them far from the cut."""
    wholes, parts = _halves(text), _halves(read)
    cut = [half for half, (whole, part) in enumerate(zip(wholes, parts, strict=True)) if len(part) < len(whole)]
    for half in cut:
        kept = _reach(encoding, half, side)
        if len(parts) == 1 and side == "right" and reach > len(encoding):
            ends = [end for _, end in sorted(_spans(encoding, half))]
            kept = ends[reach - 1] if reach <= len(ends) else len(parts[half])
        if (kept < _MARGIN if side == "left" else kept > len(parts[half]) - _MARGIN) or not _more(encoding, half, side):
            return False
    if len(cut) == 1 and len(parts) == 2 and _more(encoding, 1 - cut[0], side):
        # Of two halves that are both truncated the longer one may keep a token more: which it is has to be certain.
        return len(_spans(encoding, cut[0])) > _BYTES * len(parts[1 - cut[0]])
    return True


def _more(encoding: Encoding, half: int, side: str) -> bool:
    """Say whether a half has tokens beyond those that are kept."""
    kept, beyond = _reach(encoding, half, side), [_reach(each, half, side) for each in encoding.overflowing]
    return any(each < kept if side == "left" else each > kept for each in beyond)


def _spans(encoding: Encoding, half: int) -> set[tuple[int, int]]:
    """Return the places of a half's tokens, those beyond the limit included."""
    return {
        span
        for each in (encoding, *encoding.overflowing)
        for span, number in zip(each.offsets, each.sequence_ids, strict=True)
        if number == half
    }


def _reach(encoding: Encoding, half: int, side: str) -> int:
    """Return the place in a half of a text up to which, or from which on, its tokens reach."""
    spans = [span for span, number in zip(encoding.offsets, encoding.sequence_ids, strict=True) if number == half]
    if side == "left":
        return min((start for start, _ in spans), default=1 << 62)
    return max((end for _, end in spans), default=0)
