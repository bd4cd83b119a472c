"""From texts to tokens, lazily and in order, for the engine."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from elbert.data import Text
from elbert.data.columns import half_surrogate
from elbert.data.dataset import check_text, each_text
from elbert.engine.requests import Arrival
from elbert.errors import UsageError
from elbert.words import read_by_words

# Texts tokenised together: enough to keep the tokenizer's threads busy, few enough to stay small in memory.
_AT_ONCE = 256


class Reading(NamedTuple):
    """One text, tokenised: more of it than the layers need, for whoever shows it.

    Attributes:
        text: as it was given.
        arrival: as the engine takes it.
        encoding: what the tokenizers library said of it, with tokens and offsets.
        source: what the offsets are of: the text, or what was tokenised of a very long one.
        truncated: its end was cut off.
    """

    text: Text
    arrival: Arrival
    encoding: Any
    source: Text
    truncated: bool


def readings(texts: Iterable[Text], tokenizer: Any, max_length: int, *, reach: int = 0) -> Iterator[Reading]:
    """Tokenise.

    Args:
        texts: strings, or `(text, text_pair)` tuples.
        tokenizer: the model's `PlainTokenizer`.
        max_length: tokens read of a text.
        reach: tokens that layer 0 reads of a text, where those are more.

    Raises:
        UsageError: one string or a table is given for texts; or a text is something else, or holds what is no character
            or what the model cannot read, and the line names its place.
    """
    source = enumerate(each_text(texts))
    while chunk := list(islice(source, _AT_ONCE)):
        yield from _tokenize(chunk, tokenizer, max_length, reach)


def arrivals(
    texts: Iterable[Text], tokenizer: Any, max_length: int, truncated: dict[int, bool], *, reach: int = 0
) -> Iterator[Arrival]:
    """Tokenise as `readings` does, for the engine alone, and note in `truncated`, by place, which texts were cut."""
    for reading in readings(texts, tokenizer, max_length, reach=reach):
        truncated[reading.arrival.index] = reading.truncated
        yield reading.arrival


def _tokenize(chunk: list[tuple[int, Text]], tokenizer: Any, max_length: int, reach: int) -> Iterator[Reading]:
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
        for place, (index, text) in enumerate(part):
            ids, encoding = encoded["input_ids"][place], encoded.encodings[place]
            if problem := tokenizer.problem(ids):
                raise UsageError(f"text {index + 1}: {problem}")
            cut = bool(encoding.overflowing)
            words = read_by_words(encoding, reach) if cut and reach > max_length else None
            arrival = Arrival(index, ids, types[place] if types else None, words=words)
            yield Reading(text, arrival, encoding, encoded.texts[place], cut)
