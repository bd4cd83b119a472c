"""Folders that other tools made either answer as transformers would, or end in one line with file, field and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
)

from elbert.classifier import Classifier
from elbert.errors import ElbertError, MissingExtraError, ModelError, UsageError
from elbert.modeling import load_model
from elbert.modeling.files.open import open_model
from tests.conftest import TEXTS
from tests.modeling.test_load_errors import edit_json
from tests.modeling.test_plain_tokenizer import byte_pairs, pieces

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "a", "good", "bad", "film", "story", "was", "the", "##s", "dull", "warm", "and", "of"]
PAIR = ("a good film", "the story was dull")
FULL = {"name": "full"}


def make(tiny_model: Any, folder: Path, family: str, **shape: Any) -> Path:
    """Write a classifier as transformers does, without a tokenizer."""
    tiny_model(family, **shape).backbone.save_pretrained(folder)
    return folder


def words_of(folder: Path, words: list[str] = WORDS, **settings: Any) -> Path:
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def refused(folder: Path, kind: type[ElbertError] = ModelError) -> str:
    """Return the line that opening a folder ends in."""
    with pytest.raises(kind) as caught:
        open_model(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert str(folder) in line or kind is MissingExtraError
    return line


def by_transformers(folder: Path, *text: str, **tokenizer: Any) -> torch.Tensor:
    """Return the logits [C] of a text, or of a pair."""
    inputs = AutoTokenizer.from_pretrained(folder)(*text, return_tensors="pt", **tokenizer)
    with torch.no_grad():
        return AutoModelForSequenceClassification.from_pretrained(folder).eval()(**inputs).logits[0]


def ours(folder: Path, text: Any) -> torch.Tensor:
    return Classifier.from_pretrained(folder).record([text]).logits[0, -1]


# Tokenizers.


@pytest.mark.parametrize("kind", ["BertweetTokenizer", "PhobertTokenizer"])
def test_a_tokenizer_written_in_python_is_refused_at_load(tiny_model, tmp_path, kind):
    folder = make(tiny_model, tmp_path / "model", "roberta", pad_token_id=1, max_position_embeddings=130)
    words_of(folder, ["good 10", "bad 9", "film 5", *(f"{letter}@@ 1" for letter in "abcdefgh")], tokenizer_class=kind)
    (folder / "bpe.codes").write_text("g o 3\n")
    assert f"{kind}, which exists in Python only" in refused(folder)
    with pytest.raises(ModelError, match="exists in Python only"):
        load_model(folder, labels=["a", "b"])


@pytest.mark.parametrize("family", ["albert", "roberta", "bert", "electra", "distilbert"])
def test_a_model_that_came_with_a_word_list_reads_it(tiny_model, tmp_path, family):
    folder = words_of(make(tiny_model, tmp_path / "model", family))
    tokenizer = open_model(folder).tokenizer
    wanted = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    texts = ["a good film", "The films, unknown"]
    assert tokenizer(texts, truncation=True, max_length=20)["input_ids"] == wanted(texts)["input_ids"]
    assert Classifier.from_pretrained(folder).predict(texts[:1], policy=FULL)[0].exit_layer == 3


def test_files_that_do_not_fit_the_tokenizers_class_are_named(tiny_model, tmp_path):
    folder = words_of(make(tiny_model, tmp_path / "a", "albert"), tokenizer_class="AlbertTokenizer")
    line = refused(folder)
    assert "do not fit its AlbertTokenizer, which needs spiece.model or a tokenizer.json; found: vocab.txt" in line
    assert "name BertTokenizer as tokenizer_class in tokenizer_config.json" in line
    edit_json(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    open_model(folder)

    folder = make(tiny_model, tmp_path / "b", "bert")
    (folder / "spiece.model").write_bytes(b"pieces")
    assert "needs vocab.txt or a tokenizer.json; found: spiece.model" in refused(folder)

    folder = make(tiny_model, tmp_path / "c", "roberta")
    (folder / "vocab.json").write_text('{"a": 0}')
    assert "needs vocab.json and merges.txt or a tokenizer.json; found: vocab.json" in refused(folder)


def test_a_sentencepiece_model_names_the_package_it_needs(tiny_model, tmp_path, monkeypatch):
    folder = make(tiny_model, tmp_path / "model", "albert")
    (folder / "spiece.model").write_bytes(b"pieces")
    monkeypatch.setattr("elbert.modeling.files.foreign.find_spec", lambda _: None)
    assert "sentencepiece is needed" in refused(folder, MissingExtraError)
    assert "pip install 'elbert[sentencepiece]'" in refused(folder, MissingExtraError)


@pytest.fixture(scope="module")
def unigrams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained SentencePiece model, as such checkpoints come with it: unigrams, padding at 0."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="the extra sentencepiece is not installed")
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("\n".join(TEXTS * 4), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "unigrams"), vocab_size=90, hard_vocab_limit=False,
        pad_id=0, unk_id=1, bos_id=2, eos_id=3, control_symbols=["[CLS]", "[SEP]", "[MASK]"], minloglevel=2,
    )  # fmt: skip
    return folder / "unigrams.model"


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("albert", "spiece.model"),
        ("xlm-roberta", "sentencepiece.bpe.model"),
        ("camembert", "sentencepiece.bpe.model"),
        ("deberta-v2", "spm.model"),
    ],
)
def test_a_model_that_came_with_sentencepieces_alone_reads_them_and_is_saved_so_that_nothing_more_is_needed(
    tiny_model, tmp_path, monkeypatch, unigrams, family, name
):
    folder = make(tiny_model, tmp_path / "model", family, vocab_size=120)
    (folder / name).write_bytes(unigrams.read_bytes())
    wanted, opened = AutoTokenizer.from_pretrained(folder), open_model(folder).tokenizer
    texts = ["the film was wonderful", "a dull and careless story, unheard of"]
    assert opened(texts, truncation=True, max_length=64)["input_ids"] == wanted(texts)["input_ids"]
    assert len(set(opened(texts, truncation=True, max_length=64)["input_ids"][0])) > 4
    torch.testing.assert_close(ours(folder, texts[0]), by_transformers(folder, texts[0]), atol=1e-5, rtol=0)

    classifier = Classifier.from_pretrained(folder)
    classifier.save_pretrained(tmp_path / "saved")
    monkeypatch.setattr("elbert.modeling.files.foreign.find_spec", lambda _: None)  # as without the package
    again = Classifier.from_pretrained(tmp_path / "saved")
    assert again.predict(texts, policy=FULL) == classifier.predict(texts, policy=FULL)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "vocab.txt is empty"),
        ("\n", "vocab.txt is empty"),
        ("\ufeff" + "\n".join(WORDS), "byte order mark"),
        ("\n".join(word for word in WORDS if word != "[UNK]"), "has no [UNK]"),
    ],
)
def test_a_word_list_that_is_not_whole_is_refused(tiny_model, tmp_path, content, line):
    folder = make(tiny_model, tmp_path / "model", "bert")
    (folder / "vocab.txt").write_text(content, encoding="utf-8")
    assert line in refused(folder)


@pytest.mark.parametrize("extra", ["blank line", "added token", "added twice"])
def test_a_few_entries_that_no_row_stands_for_harm_only_texts_that_hold_them(tiny_model, tmp_path, extra):
    folder = words_of(make(tiny_model, tmp_path / "model", "bert", vocab_size=len(WORDS)))
    if extra == "blank line":
        words_of(folder, [*WORDS, ""])
    else:
        spare = {"<extra>": len(WORDS), "<more>": len(WORDS) + 1}
        (folder / "added_tokens.json").write_text(json.dumps(dict(list(spare.items())[: 1 + (extra == "added twice")])))
    assert torch.allclose(ours(folder, "a good film"), by_transformers(folder, "a good film"), atol=1e-5)
    if extra != "blank line":
        classifier = Classifier.from_pretrained(folder)
        with pytest.raises(UsageError, match=r"text 2: it holds '<extra>', which the tokenizer knows \(id 17\)"):
            classifier.predict(["a good film", "a <extra> film"], policy=FULL)


def test_an_entry_with_a_far_too_large_id_is_named_where_a_text_holds_it(tiny_model, tmp_path):
    folder = make(tiny_model, tmp_path / "model", "bert", vocab_size=len(WORDS))
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["dull"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(content))
    classifier = Classifier.from_pretrained(folder)
    classifier.predict("a good film", policy=FULL)
    with pytest.raises(UsageError, match=r"it holds 'dull', which the tokenizer knows \(id 5000\)"):
        classifier.predict("a dull film", policy=FULL)


def test_a_special_token_that_no_row_stands_for_is_refused_at_load(tiny_model, tmp_path):
    words = [*(word for word in WORDS if word != "[SEP]"), "[SEP]"]
    folder = words_of(make(tiny_model, tmp_path / "model", "bert", vocab_size=len(words) - 1), words)
    assert "puts '[SEP]' (id 16) into every text" in refused(folder)


# Token types of pairs.


@pytest.mark.parametrize("family", ["roberta", "bert", "electra", "albert"])
def test_a_model_with_one_token_type_gives_every_token_that_one(tiny_model, tmp_path, family):
    folder = words_of(make(tiny_model, tmp_path / "model", family, type_vocab_size=1, pad_token_id=0))
    edit_json(folder / "config.json", tokenizer_class="BertTokenizer")
    wanted = by_transformers(folder, *PAIR, return_token_type_ids=False)
    assert torch.allclose(ours(folder, PAIR), wanted, atol=1e-5)


def typed_apart(model: Any) -> Any:
    with torch.no_grad():
        model.backbone.albert.embeddings.token_type_embeddings.weight[1].add_(3.0)
    return model


@pytest.mark.parametrize("tokenizer", [pieces, lambda: BertTokenizer(vocab={w: n for n, w in enumerate(WORDS)})])
def test_an_albert_is_told_the_texts_of_a_pair_apart(tiny_model, tmp_path, tokenizer):
    typed_apart(tiny_model("albert")).backbone.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    wanted = by_transformers(tmp_path, *PAIR, return_token_type_ids=True)
    assert not torch.allclose(wanted, by_transformers(tmp_path, *PAIR, return_token_type_ids=False), atol=1e-2)
    assert torch.allclose(ours(tmp_path, PAIR), wanted, atol=1e-5)
    classifier = Classifier.from_pretrained(tmp_path)
    classifier.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "elbert.json").read_text())["pair_token_types"] is True
    assert torch.allclose(by_transformers(tmp_path / "saved", *PAIR), wanted, atol=1e-5)
    classifier.save_policies(tmp_path)  # beside the foreign checkpoint: it is no older model of elbert's from then on
    assert torch.allclose(ours(tmp_path, PAIR), wanted, atol=1e-5)


def test_an_albert_that_elbert_trained_without_token_types_scores_as_it_did(tiny_model, tmp_path):
    folder = tmp_path / "model"
    model, tokenizer = typed_apart(tiny_model("albert")), pieces()
    model.save_pretrained(folder, tokenizer)
    tokenizer.save_pretrained(folder)  # as it was written before: inputs unnamed, nothing recorded
    (folder / "elbert.json").write_text('{"format": 1, "heads": "shared"}')
    wanted = by_transformers(folder, *PAIR, return_token_type_ids=False)
    assert torch.allclose(ours(folder, PAIR), wanted, atol=1e-5)
    Classifier.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert torch.allclose(ours(tmp_path / "again", PAIR), wanted, atol=1e-5)


def test_a_file_that_names_the_inputs_without_token_types_is_believed(tiny_model, tmp_path):
    folder = words_of(make(tiny_model, tmp_path, "bert"), model_input_names=["input_ids", "attention_mask"])
    assert torch.allclose(ours(folder, PAIR), by_transformers(folder, *PAIR), atol=1e-5)


# Lengths.


@pytest.mark.parametrize(("family", "paired"), [("bert", 5), ("roberta", 6)])
def test_a_length_without_room_for_words_is_refused_with_the_least_that_has(tiny_model, tmp_path, family, paired):
    tokenizer = byte_pairs() if family == "roberta" else BertTokenizer(vocab={w: n for n, w in enumerate(WORDS)})
    model = tiny_model(family)
    classifier = Classifier(model, tokenizer, {"max_length": paired - 1})
    classifier.predict(["a good film", ""], policy=FULL)
    for pair in (PAIR, ("", ""), ("a", "film " * 500)):
        with pytest.raises(UsageError, match=f"for pairs with this tokenizer: {paired} or more"):
            classifier.predict(pair, policy=FULL)
    assert Classifier(model, tokenizer, {"max_length": paired}).predict(PAIR, policy=FULL).truncated


# Whole folders.


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "elbert.json"]
)
def test_a_git_lfs_pointer_is_called_one(tiny_model, tiny_tokenizer, tmp_path, name):
    folder = tiny_model("bert").save_pretrained(tmp_path / "model", tiny_tokenizer)
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n")
    assert f"{name} is a Git LFS pointer, not the file itself: run git lfs pull" in refused(folder)


def test_a_pointer_in_the_place_of_a_shard_or_a_vocabulary(tiny_model, tmp_path):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    folder = tmp_path / "model"
    tiny_model("bert").backbone.save_pretrained(folder, max_shard_size="10KB")
    words_of(folder)
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.write_text(pointer)
    assert f"{shard.name} is a Git LFS pointer" in refused(folder)
    folder = make(tiny_model, tmp_path / "albert", "albert")
    (folder / "spiece.model").write_text(pointer)
    assert "spiece.model is a Git LFS pointer" in refused(folder)


def masked_lm(folder: Path) -> Path:
    config = BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    BertForMaskedLM(config).save_pretrained(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return words_of(folder)


def test_the_way_out_of_a_pickle_makes_no_classifier_of_an_encoder(tmp_path):
    folder = masked_lm(tmp_path / "model")
    line = refused(folder)
    assert "BertForMaskedLM.from_pretrained(folder, use_safetensors=False).save_pretrained(folder)" in line
    assert "fine-tune it with elbert train" in line
    BertForMaskedLM.from_pretrained(folder, use_safetensors=False).save_pretrained(folder)
    assert "no trained classification head" in refused(folder)
    load_model(folder, labels=["a", "b"])


def test_weights_for_another_library_and_none_at_all(tiny_model, tmp_path):
    folder = words_of(make(tiny_model, tmp_path / "model", "bert"))
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    assert "weights for another library only (tf_model.h5)" in refused(folder)
    (folder / "tf_model.h5").unlink()
    assert "model.safetensors is missing (a pytorch_model.bin, on the hub or elsewhere, is a pickle" in refused(folder)


def test_an_adapter_is_called_one(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base", "peft_type": "LORA"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    line = refused(tmp_path)
    assert "holds an adapter (adapter_config.json)" in line
    assert "'some/base'" in line
    assert "merge_and_unload" in line


def test_a_setfit_model_is_called_one_and_its_encoder_can_be_trained(tiny_model, tmp_path):
    folder = words_of(tmp_path)
    tiny_model("bert").backbone.bert.save_pretrained(folder)
    (folder / "modules.json").write_text("[]")
    assert "no trained classification head" in refused(folder)
    (folder / "model_head.pkl").write_bytes(b"pickle")
    assert "is a SetFit model: its classifier is a pickle (model_head.pkl)" in refused(folder)
    assert load_model(folder, labels=["a", "b", "c"])[0].num_labels == 3


def test_a_model_that_lies_a_folder_deeper_is_found(tiny_model, tmp_path):
    (tmp_path / "modules.json").write_text("[]")
    make(tiny_model, tmp_path / "0_Transformer", "bert")
    assert f"it has no config.json; name {tmp_path / '0_Transformer'}, which has one" in refused(tmp_path)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module.model."])
def test_tensors_with_a_wrappers_prefix_are_called_that(tiny_model, tmp_path, prefix):
    folder = words_of(make(tiny_model, tmp_path, "bert"))
    path = folder / "model.safetensors"
    save_file({prefix + name: each for name, each in load_file(path).items()}, path, metadata={"format": "pt"})
    assert f"every tensor of its checkpoint is called {prefix}…" in refused(folder)


ODD: dict[str, tuple[dict[str, Any], str]] = {
    "gap": ({"id2label": {"0": "a", "2": "b"}}, "id2label"),
    "from one": ({"id2label": {"1": "a", "2": "b"}}, "id2label"),
    "words": ({"id2label": {"a": "0", "b": "1"}}, "id2label"),
    "list": ({"id2label": ["a", "b"]}, "id2label"),
    "twice": ({"id2label": {"0": "a", "1": "a"}}, "id2label calls two classes 'a'"),
    "twice but for a blank": ({"id2label": {"0": "a", "1": "a "}}, "id2label calls two classes 'a'"),
    "no problem": ({"problem_type": "sentiment"}, "unknown problem_type 'sentiment'"),
    "three for two": ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "classifier.bias"),
    "none": ({"id2label": {}}, "id2label"),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_id2label_is_one_line_at_load(tiny_model, tmp_path, case):
    fields, word = ODD[case]
    folder = words_of(make(tiny_model, tmp_path / "model", "bert"))
    edit_json(folder / "config.json", **fields)
    assert word in refused(folder)


@pytest.mark.parametrize("settings", [{"quant_method": "bitsandbytes", "load_in_8bit": True}, {"bits": 4}, "gptq"])
def test_quantised_weights_are_refused_with_the_way_out(tiny_model, tmp_path, settings):
    folder = words_of(make(tiny_model, tmp_path / "model", "bert"))
    edit_json(folder / "config.json", quantization_config=settings)
    assert "the weights are quantised" in refused(folder)


def test_whole_numbers_in_the_place_of_weights_are_never_read_as_such(tiny_model, tmp_path):
    folder = words_of(make(tiny_model, tmp_path / "model", "bert"))
    path = folder / "model.safetensors"
    tensors = load_file(path)
    position_ids = {"bert.embeddings.position_ids": torch.arange(64)[None]}  # as older versions stored them
    save_file({**tensors, **position_ids}, path, metadata={"format": "pt"})
    assert Classifier.from_pretrained(folder).predict("a good film", policy=FULL).score > 0
    save_file({name: tensor.to(torch.int8) for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    assert "holds whole numbers (I8)" in refused(folder)


def in_parts(folder: Path, **places: Any) -> Path:
    """Save a model's tensors in two files; `places` are what the index says of all tensors of the second."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {}
    for number, rest in ((1, True), (2, False)):
        name = f"model-0000{number}-of-00002.safetensors"
        part = {key: tensor for key, tensor in tensors.items() if ("encoder" in key) is rest}
        save_file(part, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(part, places.get("second", name) if number == 2 else name)
    content = places.get("index", {"metadata": {}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    return folder


def test_a_model_in_parts_is_read_and_one_with_a_part_missing_names_it(tiny_model, tmp_path):
    whole = words_of(make(tiny_model, tmp_path / "whole", "bert"))
    parts = in_parts(words_of(make(tiny_model, tmp_path / "parts", "bert")))
    assert torch.equal(ours(parts, "a good film"), ours(whole, "a good film"))
    (parts / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors is missing" in refused(parts)
    (parts / "model.safetensors.index.json").unlink()
    assert "has its weights in parts (model-00001-of-00002.safetensors), but model.safetensors.index.json" in refused(
        parts
    )


@pytest.mark.parametrize(
    "places",
    [{"second": "../whole/model.safetensors"}, {"second": "/model.safetensors"}, {"second": 3}, {"index": {}}],
)
def test_an_index_reads_no_file_outside_its_folder(tiny_model, tmp_path, places):
    make(tiny_model, tmp_path / "whole", "bert")
    parts = in_parts(words_of(make(tiny_model, tmp_path / "parts", "bert")), **places)
    assert "weight_map names" in refused(parts)


@pytest.mark.parametrize("name", ["model.gguf", "model.onnx"])
def test_weights_in_a_format_of_others_are_called_that(tiny_model, tmp_path, name):
    folder = words_of(make(tiny_model, tmp_path / "model", "bert"))
    (folder / "model.safetensors").rename(folder / name)
    assert f"has weights for another library only ({name})" in refused(folder)


def test_labels_that_are_no_strings_are_their_spelling(tiny_model, tmp_path):
    folder = words_of(make(tiny_model, tmp_path / "model", "bert"))
    edit_json(folder / "config.json", id2label={"0": 1, "1": 5}, label2id={"1": 0, "5": 1})
    assert Classifier.from_pretrained(folder).predict("a good film", policy=FULL).label in ("1", "5")


def test_special_tokens_spelt_in_a_text_are_what_transformers_takes_them_for(tiny_model, tmp_path):
    folder = words_of(make(tiny_model, tmp_path / "model", "bert"))
    for text in ("a [SEP] good [MASK] film", "[CLS]", "[PAD] a [UNK]"):
        assert torch.allclose(ours(folder, text), by_transformers(folder, text), atol=1e-5)


def test_how_logits_are_read_can_be_said_where_the_model_does_not(tiny_model, tmp_path):
    folder = words_of(make(tiny_model, tmp_path / "model", "bert", num_labels=6))
    edit_json(folder / "config.json", problem_type=None)
    classifier = Classifier.from_pretrained(folder, problem_type="multi_label_classification")
    recorded = classifier.record(["a good film"])
    assert torch.allclose(recorded.probs, recorded.logits.sigmoid())
    assert isinstance(classifier.predict("a good film", policy=FULL).label, tuple)
    classifier.save_pretrained(tmp_path / "saved")
    assert Classifier.from_pretrained(tmp_path / "saved").problem_type == "multi_label_classification"
    with pytest.raises(UsageError, match="unknown problem_type 'multi_label'"):
        Classifier.from_pretrained(folder, problem_type="multi_label")
