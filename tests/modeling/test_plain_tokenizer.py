"""Without transformers a text becomes the very tokens that transformers makes of it, for every family's tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram
from tokenizers.pre_tokenizers import ByteLevel, Metaspace
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import (
    AlbertTokenizer,
    AutoTokenizer,
    BertTokenizer,
    DistilBertTokenizer,
    RobertaTokenizer,
)

from elbert.modeling.files.beside import tokenizer_from
from elbert.modeling.files.plain_tokenizer import PlainTokenizer, read_plain_tokenizer
from elbert.modeling.files.sources import CHECKPOINTS
from tests.conftest import TEXTS

ODD = ["", "Ärger [SEP] <s> </s> [MASK]<mask> 你好 \n\t x", "A" * 300, "naïve café – “quoted” 🙂", "  The Film  was"]
SINGLE = [*TEXTS, *ODD]
PAIRS = [(first, second) for first in SINGLE for second in SINGLE[::3]]


def byte_pairs() -> Any:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=290, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return RobertaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])


def pieces() -> Any:
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = Metaspace()
    names = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    trainer = UnigramTrainer(vocab_size=150, special_tokens=names, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return AlbertTokenizer(vocab=[tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]])


def enlarged(vocabulary: dict[str, int]) -> Any:
    tokenizer = BertTokenizer(vocab=vocabulary)
    tokenizer.add_tokens(["wonderful film"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["[X]"]})
    return tokenizer


MAKERS: dict[str, Callable[[Any], Any]] = {
    "elbert": lambda tiny: tiny,
    "bert": lambda tiny: BertTokenizer(vocab=tiny.get_vocab()),
    "cased": lambda tiny: BertTokenizer(vocab=tiny.get_vocab(), do_lower_case=False, strip_accents=False),
    "left": lambda tiny: BertTokenizer(vocab=tiny.get_vocab(), truncation_side="left"),
    "added": lambda tiny: enlarged(tiny.get_vocab()),
    "distilbert": lambda tiny: DistilBertTokenizer(vocab=tiny.get_vocab()),
    "roberta": lambda _: byte_pairs(),
    "albert": lambda _: pieces(),
}


def read(folder: Path) -> PlainTokenizer | None:
    config = folder / "config.json"
    if not config.exists():
        config.write_text('{"model_type": "bert"}')
    return read_plain_tokenizer(folder, tokenizer_from)


def assert_same_tokens(folder: Path) -> None:
    plain, full = read(folder), AutoTokenizer.from_pretrained(folder)
    assert plain is not None
    assert len(plain) == len(full)
    for limit in (6, 16, 64):
        for texts in (SINGLE, PAIRS):
            mine, theirs = (each(texts, truncation=True, max_length=limit) for each in (plain, full))
            assert mine["input_ids"] == theirs["input_ids"]
            assert mine.get("token_type_ids") == theirs.get("token_type_ids")
            for a, b in zip(mine.encodings, theirs.encodings, strict=True):
                assert (a.tokens, a.offsets, a.word_ids) == (b.tokens, b.offsets, b.word_ids)
                assert [cut.ids for cut in a.overflowing] == [cut.ids for cut in b.overflowing]


@pytest.mark.parametrize("kind", MAKERS)
def test_tokens_are_those_of_transformers(kind, tiny_tokenizer, tmp_path):
    MAKERS[kind](tiny_tokenizer).save_pretrained(tmp_path)
    assert_same_tokens(tmp_path)


def test_the_bundled_tokenizer_gives_the_tokens_of_transformers():
    assert_same_tokens(CHECKPOINTS / "mini")


def test_without_truncation_a_text_stays_whole(tiny_tokenizer, tmp_path):
    tiny_tokenizer.save_pretrained(tmp_path)
    plain = read(tmp_path)
    assert plain is not None
    cut = plain(TEXTS, truncation=True, max_length=5)
    whole = plain(TEXTS, truncation=False, max_length=5)
    assert {len(ids) for ids in cut["input_ids"]} == {5}
    assert whole["input_ids"] == tiny_tokenizer(TEXTS)["input_ids"]
    assert not any(encoding.overflowing for encoding in whole.encodings)


@pytest.mark.parametrize(
    "fields",
    [
        {"backend": None},
        {"tokenizer_class": "SomeTokenizer", "model_input_names": None},
        {"split_special_tokens": True},
        {"add_bos_token": True},
        {"truncation_side": "middle"},
        {"model_input_names": 3},
    ],
)
def test_settings_only_transformers_understands_are_left_to_it(tiny_tokenizer, tmp_path, fields):
    tiny_tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("bert", {"do_lower_case": False}),
        ("cased", {"do_lower_case": True}),
        ("cased", {"strip_accents": True}),
        ("bert", {"tokenize_chinese_chars": False}),
        ("distilbert", {"do_lower_case": False}),
        ("roberta", {"add_prefix_space": True}),
        ("albert", {"do_lower_case": False}),
        ("albert", {"keep_accents": True}),
    ],
)
def test_settings_that_somebody_has_edited_are_left_to_transformers_which_goes_by_them(
    tiny_tokenizer, tmp_path, kind, fields
):
    MAKERS[kind](tiny_tokenizer).save_pretrained(tmp_path)
    assert read(tmp_path) is not None
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    assert read(tmp_path) is None


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
def test_files_of_older_versions_are_left_to_transformers(tiny_tokenizer, tmp_path, name):
    tiny_tokenizer.save_pretrained(tmp_path)
    (tmp_path / name).write_text("{}")
    assert read(tmp_path) is None


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, "{", "[]", "null"])
def test_missing_and_broken_files_are_left_to_transformers(tiny_tokenizer, tmp_path, name, content):
    tiny_tokenizer.save_pretrained(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    assert read(tmp_path) is None
