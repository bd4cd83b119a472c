"""From texts to tokens, lazily and in order, for the engine."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from elbert.data import Text
from elbert.data.columns import half_surrogate
from elbert.data.dataset import check_text, check_texts
from elbert.engine.requests import Arrival
from elbert.errors import UsageError
from elbert.words import read_by_words

# Texts tokenised together: enough to keep the tokenizer's threads busy, few enough to stay small in memory.
_AT_ONCE = 256


def arrivals(
    texts: Iterable[Text], tokenizer: Any, max_length: int, truncated: dict[int, bool], *, reach: int = 0
) -> Iterator[Arrival]:
    """Tokenise, and note in `truncated` which texts were cut.

    Args:
        texts: strings, or `(text, text_pair)` tuples.
        tokenizer: the model's `PlainTokenizer`.
        max_length: tokens read of a text.
        truncated: filled by the place of the text.
        reach: tokens that layer 0 reads of a text, where those are more.

    Raises:
        UsageError: one string or a table is given for texts; or a text is something else, or holds what is no character
            or what the model cannot read, and the line names its place.
    """
    check_texts(texts)
    try:
        source = enumerate(texts)
    except TypeError:  # one thing that is no text, where one text may be given
        check_text(texts, 1)
        raise
    while chunk := list(islice(source, _AT_ONCE)):
        yield from _tokenize(chunk, tokenizer, max_length, truncated, reach)


def _tokenize(
    chunk: list[tuple[int, Text]], tokenizer: Any, max_length: int, truncated: dict[int, bool], reach: int
) -> Iterator[Arrival]:
    for index, text in chunk:
        check_text(text, index + 1)
        for half in (text,) if isinstance(text, str) else text:
            if not half.isascii() and (problem := half_surrogate(half)):
                raise UsageError(f"text {index + 1} is {reprlib.repr(text)}: {problem}")
    # A chunk may mix single texts and pairs; the tokenizer wants one kind a call.
    for paired in (False, True):
        part = [(index, text) for index, text in chunk if isinstance(text, tuple) is paired]
        if not part:
            continue
        encoded = tokenizer([text for _, text in part], truncation=True, max_length=max_length, reach=reach)
        types = encoded.get("token_type_ids") if paired else None
        for place, (index, _) in enumerate(part):
            encoding = encoded.encodings[place]
            truncated[index] = cut = bool(encoding.overflowing)
            if problem := tokenizer.problem(encoded["input_ids"][place]):
                raise UsageError(f"text {index + 1}: {problem}")
            words = read_by_words(encoding, reach) if cut and reach > max_length else None
            yield Arrival(index, encoded["input_ids"][place], types[place] if types else None, words=words)
