"""What a model does not get to read is told before training, with the length that would do."""

from __future__ import annotations

from typing import Any

import pytest

from elbert.data import TextDataset
from elbert.training.encoding import encode
from elbert.training.truncation import choose_length, tell_truncation


def told(texts: list[Any], tokenizer: Any, max_length: int, most: int, caplog: pytest.LogCaptureFixture) -> str:
    data = TextDataset(texts)
    caplog.clear()
    cut = encode(data, tokenizer, max_length, progress=False).truncated
    tell_truncation(data, cut, tokenizer, max_length, most)
    return caplog.text


def test_the_share_is_told_with_the_first_length_that_is_long_enough(
    plain_tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["film " * 5] * 38 + ["film " * 25] * 59 + ["film " * 60] * 3  # two special tokens more each
    said = told(texts, plain_tokenizer, 16, 512, caplog)
    assert "62% of the texts are cut at 16 tokens; --max-length 32 would cut 3%" in said


def test_what_the_model_cannot_read_at_all_is_told_too(plain_tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["film " * 90] * 3 + ["film"] * 7
    said = told(texts, plain_tokenizer, 16, 50, caplog)
    assert "30% of the texts are cut at 16 tokens; --max-length 50 would cut 30%" in said
    assert "30% of the texts are cut at 50 tokens, the most that this model reads" in told(
        texts, plain_tokenizer, 50, 50, caplog
    )


def test_pairs_are_counted_whole(plain_tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    said = told([("film " * 20, "film " * 20)] * 4, plain_tokenizer, 16, 512, caplog)
    assert "100% of the texts are cut at 16 tokens; --max-length 64 would cut 0%" in said


def test_nothing_is_said_where_next_to_nothing_is_cut(plain_tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert told(["film"] * 199 + ["film " * 90], plain_tokenizer, 16, 512, caplog) == ""


@pytest.mark.parametrize(("long", "most", "wanted"), [(26, 512, 256), (25, 512, 128), (26, 200, 200), (0, 64, 64)])
def test_twice_as_much_is_read_where_more_than_a_quarter_would_be_cut(
    plain_tokenizer: Any, caplog: pytest.LogCaptureFixture, long: int, most: int, wanted: int
) -> None:
    data = TextDataset(["film " * 200] * long + ["film"] * (100 - long))
    assert choose_length(None, data, plain_tokenizer, most) == wanted
    told = f"{wanted} tokens of a text are read, since 128 would cut {long}% of them; --max-length 128 takes about half"
    assert (told in caplog.text) == (wanted > 128)
    caplog.clear()
    assert choose_length(96, data, plain_tokenizer, most) == min(96, most)
    too_long = "64 tokens of a text are read, the most that this model reads, not 96"
    assert (too_long in caplog.text) == (most < 96)
