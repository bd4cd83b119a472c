"""What layer 0 reads of a text that the encoder reads the beginning of."""

from __future__ import annotations

from typing import Any

import pytest

from elbert.engine.tokens import arrivals
from elbert.words import end_of_words, read_by_words

TEXT = "a warm and witty story told with great care , and poor music . "


def read(tokenizer: Any, text: Any, limit: int, reach: int) -> list[int]:
    encoded = tokenizer([text], truncation=True, max_length=limit, reach=reach)
    return read_by_words(encoded.encodings[0], reach)


@pytest.mark.parametrize("limit", [5, 12, 64])
@pytest.mark.parametrize("reach", [20, 100, 10_000])
def test_the_tokens_behind_those_the_encoder_reads_follow_in_order(
    plain_tokenizer: Any, limit: int, reach: int
) -> None:
    text = TEXT * 8
    whole = plain_tokenizer([text], truncation=False, max_length=0)["input_ids"][0]
    found = read(plain_tokenizer, text, limit, reach)
    cut = plain_tokenizer([text], truncation=True, max_length=limit)["input_ids"][0]
    assert found[:limit] == cut
    beyond = found[limit:]
    assert beyond == whole[limit - 1 : limit - 1 + len(beyond)], "the last of the cut ones is special"
    assert len(found) == (limit if reach <= limit else min(reach, len(whole)))


def test_of_a_short_text_a_pair_and_a_text_without_its_beginning_only_the_encoders_are_read(
    plain_tokenizer: Any,
) -> None:
    for text in ("a short one", (TEXT * 4, TEXT)):
        assert (
            read(plain_tokenizer, text, 32, 500)
            == plain_tokenizer([text], truncation=True, max_length=32)["input_ids"][0]
        )
    plain_tokenizer.truncation_side = "left"
    text = TEXT * 8
    assert (
        read(plain_tokenizer, text, 33, 500) == plain_tokenizer([text], truncation=True, max_length=33)["input_ids"][0]
    )


@pytest.mark.parametrize("text", [TEXT * 400, " " * 40_000 + TEXT * 8, "witty" * 8_000 + TEXT])
def test_of_a_text_of_many_pages_it_is_what_it_would_be_of_the_whole(plain_tokenizer: Any, text: str) -> None:
    whole = plain_tokenizer([text], truncation=False, max_length=0)["input_ids"][0]
    found = read(plain_tokenizer, text, 16, 300)
    assert found == [*whole[:15], whole[-1], *whole[15:299]][: len(found)]
    assert len(found) == min(300, len(whole))


def test_where_its_reading_ends_is_told_in_characters(plain_tokenizer: Any) -> None:
    text = TEXT * 8
    encoding = plain_tokenizer([text], truncation=True, max_length=16, reach=60).encodings[0]
    end = end_of_words(encoding, 60)
    assert end is not None
    whole = plain_tokenizer([text[:end]], truncation=False, max_length=0)["input_ids"][0]
    found = read_by_words(encoding, 60)
    assert whole == [*found[:15], *found[16:], found[15]]
    for text, limit in (("a short one", 16), (TEXT * 8, 64), ((TEXT * 4, TEXT), 16)):
        same = plain_tokenizer([text], truncation=True, max_length=limit, reach=60).encodings[0]
        assert end_of_words(same, 60) is None, "it reads what the encoder reads"


def test_an_arrival_has_them_beside_what_the_encoder_reads(plain_tokenizer: Any) -> None:
    short, long = arrivals(["a short one", TEXT * 8], plain_tokenizer, 16, {}, reach=100)
    assert (short.words, len(long.ids), len(long.words or [])) == (None, 16, 100)
    assert next(arrivals([TEXT * 8], plain_tokenizer, 16, {})).words is None
