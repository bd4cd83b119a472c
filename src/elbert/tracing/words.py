"""Word pieces back to words, as the reader of the text sees them. Knows a tokenizer's encoding, no model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from elbert.results import Word

# What a reader takes for one word although tokenizers cut it: don't, well-made, 3.5, 10:30.
# Each begins where a run begins, and gives nothing back: a text that is one long word is looked at once.
_COMPOUND = re.compile(r"(?<![^\W_])[^\W_]++(?:['’‘\-][^\W_]++)++|(?<!\d)\d++(?:[.,:/]\d++)++")

# One unit of a tokenizer: (half or None for a special token, its own word number, token places, start, end).
_Unit = tuple[int | None, int | None, list[int], int, int]


def words_of(text: str | tuple[str, str], encoding: Any, read: str | tuple[str, str] | None = None) -> tuple[Word, ...]:
    """Return the words of `text` in reading order; every token of `encoding` belongs to one of them.

    Args:
        text: a string or a pair.
        encoding: of the tokenizers library, for that text.
        read: the ends of `text` that were tokenised, where they were not all of it; None for the whole, or its
            beginning.
    """
    halves = (text,) if isinstance(text, str) else text
    parts = halves if read is None else (read,) if isinstance(read, str) else read
    skipped = [len(half) - len(part) for half, part in zip(halves, parts, strict=True)]
    compounds = [[match.span() for match in _COMPOUND.finditer(half)] for half in halves]
    words: list[Word] = []
    for half, _, tokens, start, end in _units(encoding):
        if half is None or not parts[half][start:end].strip():
            words.append(Word("".join(encoding.tokens[token] for token in tokens), None, 0, 0, tuple(tokens)))
            continue
        start, end = _stripped(halves[half], start + skipped[half], end + skipped[half])
        before = words[-1] if words else None
        if before is not None and before.half == half and _one_word(before, start, end, compounds[half]):
            words[-1] = _joined(before, halves[half], end, tokens)
        else:
            words.append(Word(halves[half][start:end], half, start, end, tuple(tokens)))
    return tuple(words)


def _units(encoding: Any) -> Iterator[_Unit]:
    """Yield runs of tokens that the tokenizer itself calls one word, and special tokens one by one."""
    unit: _Unit | None = None
    columns = zip(encoding.sequence_ids, encoding.word_ids, encoding.offsets, strict=True)
    for place, (half, number, (start, end)) in enumerate(columns):
        if unit is not None and half is not None and number is not None and unit[:2] == (half, number):
            unit = (half, number, [*unit[2], place], min(unit[3], start), max(unit[4], end))
            continue
        if unit is not None:
            yield unit
        unit = (half, number, [place], start, end)
    if unit is not None:
        yield unit


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out blanks at the ends: some tokenizers count the blank before a word in."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - (len(part) - len(part.rstrip()))


def _one_word(before: Word, start: int, end: int, compounds: list[tuple[int, int]]) -> bool:
    """Tell whether a unit goes on with the word before it: inside one compound, or inside the same characters."""
    if start < before.end:  # several tokens for the bytes of one character
        return True
    return any(first <= before.start and end <= last for first, last in compounds)


def _joined(before: Word, text: str, end: int, tokens: list[int]) -> Word:
    end = max(before.end, end)
    return Word(text[before.start : end], before.half, before.start, end, (*before.tokens, *tokens))
