"""Word pieces become words again as a reader sees them, whatever the tokenizer."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from elbert.modeling.tokenizer import train_tokenizer
from elbert.tracing.words import words_of

TEXT = "Don't miss this well-made film, it's déjà vu \U0001f600! It cost 3.5 or 1,000."


def wordpiece(texts: list[str]) -> Any:
    return train_tokenizer(texts, 120).backend_tokenizer


def sentencepiece(texts: list[str]) -> Any:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=["[CLS]", "[SEP]", "<unk>"], unk_token="<unk>")
    return _trained(tokenizer, trainer, texts)


def byte_level(texts: list[str]) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["[CLS]", "[SEP]"], initial_alphabet=alphabet, show_progress=False
    )
    return _trained(tokenizer, trainer, texts)


def _trained(tokenizer: Any, trainer: Any, texts: list[str]) -> Any:
    tokenizer.train_from_iterator(texts, trainer)
    special = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    return tokenizer


KINDS = [wordpiece, sentencepiece, byte_level]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    "text", [TEXT, "", "   ", "unbelievabley zzz", "\u4e2d\u6587 and עברית", ("a film", "its pair")]
)
def test_every_token_belongs_to_exactly_one_word_in_reading_order(make: Any, text: Any, tiny_texts: list[str]) -> None:
    encoding = make(tiny_texts).encode(*((text,) if isinstance(text, str) else text))
    words = words_of(text, encoding)
    assert [token for word in words for token in word.tokens] == list(range(len(encoding.ids)))
    halves = (text,) if isinstance(text, str) else text
    for word in words:
        if word.half is None:
            assert word.text in "".join(encoding.tokens)
        else:
            assert word.text == halves[word.half][word.start : word.end]
            assert word.text == word.text.strip() != ""


@pytest.mark.parametrize("make", KINDS)
def test_compounds_numbers_and_accents_are_single_words(make: Any, tiny_texts: list[str]) -> None:
    words = [word.text for word in words_of(TEXT, make(tiny_texts).encode(TEXT))]
    for whole in ("Don't", "miss", "well-made", "déjà", "it's"):
        assert whole in words
    assert any(word.startswith("3.5") for word in words)
    assert any(word.startswith("1,000") for word in words)
    assert any("\U0001f600" in word for word in words)


def test_special_tokens_stand_for_themselves_and_halves_are_kept_apart(tiny_texts: list[str]) -> None:
    words = words_of(("a film", "a film"), wordpiece(tiny_texts).encode("a film", "a film"))
    assert [(word.text, word.half) for word in words] == [
        ("[CLS]", None),
        *(("a", 0), ("film", 0), ("[SEP]", None)),
        *(("a", 1), ("film", 1), ("[SEP]", None)),
    ]


def test_pieces_of_one_word_are_joined(tiny_texts: list[str]) -> None:
    encoding = wordpiece(tiny_texts).encode("warmth film")
    words = words_of("warmth film", encoding)
    assert [word.text for word in words] == ["[CLS]", "warmth", "film", "[SEP]"]
    assert len(words[1].tokens) > 1


def test_a_text_that_is_one_long_word_is_looked_at_once() -> None:
    """Of 200,000 characters: begun anew at each of them, the search for words with hyphens took minutes."""
    tokenizer = wordpiece([TEXT])
    for text in ("w" * 200_000, "7" * 200_000, "a-" * 100_000):
        tokenizer.enable_truncation(8)
        words = words_of(text, tokenizer.encode(text))
        assert {place for word in words for place in word.tokens} == set(range(len(tokenizer.encode(text).ids)))
