"""A text of megabytes costs no more than its beginning, and its tokens are those of the whole text."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import BertTokenizer

from elbert.data import Text
from elbert.modeling.files.long_texts import encode
from tests.modeling.test_plain_tokenizer import byte_pairs, pieces

SIZE = 9_000  # characters: enough to be cut, few enough to tokenise whole for comparison
NOISE = base64.b64encode(random.Random(0).randbytes(SIZE)).decode()[:SIZE]

TEXTS: dict[str, str] = {
    "words": "the film was warm and dull , " * (SIZE // 29),
    "two letters": "ab " * (SIZE // 3),
    "no blank": NOISE,
    "letters only": "".join(character for character in NOISE if character.isalpha()),
    "one letter": "a" * SIZE,
    "blanks before words": " " * (SIZE - 500) + "the film was dull " * 20,
    "words before blanks": "the film was dull " * 3 + "\n" * SIZE,
    "words, blanks, words": "the film " * 9 + " " * SIZE + "was dull " * 200,
    "one token before the limit": "the film was warm and dull , " * 3 + " " * SIZE,
    "other alphabets": "电影很好看 🙂 Ärger " * (SIZE // 14),
    "special tokens": "[SEP] <s> film </s> [MASK] " * (SIZE // 27),
    "short": "the film was dull",
}
TOKENIZERS = {
    "wordpiece": lambda tiny: BertTokenizer(vocab=tiny.get_vocab()),
    "unigram": lambda _: pieces(),
    "byte-level": lambda _: byte_pairs(),
}


class Counting:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.total, self.most = tokenizer, 0, 0

    def encode_batch(self, texts: list[Text]) -> Any:
        size = sum(len(half) for text in texts for half in ((text,) if isinstance(text, str) else text))
        self.total, self.most = self.total + size, max(self.most, size)
        return self.tokenizer.encode_batch(texts)


def backend(kind: str, tiny: Any, limit: int, side: str) -> Tokenizer:
    tokenizer: Tokenizer = TOKENIZERS[kind](tiny).backend_tokenizer
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit, strategy="longest_first", direction=side)
    return tokenizer


def seen(encoding: Any) -> tuple[Any, ...]:
    return encoding.ids, encoding.type_ids, bool(encoding.overflowing)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokens_and_truncation_are_those_of_the_whole_text(tiny_tokenizer, kind, side):
    tokenizer = backend(kind, tiny_tokenizer, 100, side)
    for name, text in TEXTS.items():
        (mine,), (read,) = encode(tokenizer, [text], 100, side)
        whole = tokenizer.encode(text)
        assert seen(mine) == seen(whole), name
        assert text.startswith(read) if side == "right" else text.endswith(read)
        spelt = [read[start:end] for start, end in mine.offsets]
        assert spelt == [text[start:end] for start, end in whole.offsets], name


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_pairs_with_one_endless_half_are_cut_as_whole_ones(tiny_tokenizer, kind, side):
    tokenizer = backend(kind, tiny_tokenizer, 96, side)
    names = ["words", "no blank", "blanks before words", "words, blanks, words"]
    pairs: list[Text] = [(TEXTS[name], half) for name in names for half in ("", "the film", "a dull film " * 30)]
    pairs += [(second, first) for first, second in pairs]
    encodings, _ = encode(tokenizer, pairs, 96, side)
    for pair, mine in zip(pairs, encodings, strict=True):
        assert seen(mine) == seen(tokenizer.encode(*pair)), [half[:20] for half in pair]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_no_more_is_tokenised_than_can_reach_the_model(tiny_tokenizer, kind):
    counting = Counting(backend(kind, tiny_tokenizer, 128, "right"))
    texts = ["ab " * 700_000, NOISE * 30, ("the film " * 200_000, "was dull " * 200_000)] * 8
    for paired in (False, True):
        encodings, _ = encode(counting, [text for text in texts if isinstance(text, tuple) is paired], 128, "right")
        assert all(len(encoding.ids) == 128 and encoding.overflowing for encoding in encodings)
    assert counting.total <= 32 * 2048
    assert counting.most <= 1 << 18


def test_without_a_limit_every_text_stays_whole(tiny_tokenizer):
    tokenizer = TOKENIZERS["wordpiece"](tiny_tokenizer).backend_tokenizer
    tokenizer.no_truncation()
    (encoding,), (read,) = encode(tokenizer, [TEXTS["words"]], None, "right")
    assert read == TEXTS["words"]
    assert len(encoding.ids) > 2_000
