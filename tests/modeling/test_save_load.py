"""A saved model is a plain Hugging Face checkpoint, loads back equal, and is never half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
from transformers.utils import logging as transformers_logging

from elbert.errors import ElbertError, UsageError
from elbert.modeling import load_model
from elbert.modeling.files import saving
from elbert.modeling.files.open import open_model
from tests.conftest import FAMILIES
from tests.modeling.reference import assert_same_logits

PLAIN_FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "elbert.json",
}
LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
PAIRS = [("the film was dull", "a chore"), ("a warm and witty story", "great care and great music")]


def full_disk(*args: object) -> None:
    raise OSError(28, "No space left on device")


def saved(tokenizer: Any, folder: Path) -> Path:
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("heads", ["shared", "linear", "full", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_models_are_equal(tiny_model, tiny_tokenizer, tiny_texts, tmp_path, family, heads):
    model = tiny_model(family, heads=heads, **LABELS)
    model.save_pretrained(tmp_path / "model", tiny_tokenizer, {"default_policy": "elbert"})
    again, tokenizer, content = load_model(tmp_path / "model")
    types = model.pair_token_types
    assert content == {"default_policy": "elbert", "format": 1, "heads": heads, "pair_token_types": types}
    assert again.heads == heads
    assert not again.training
    for texts in (tiny_texts, PAIRS):
        inputs = tiny_tokenizer(texts, padding=True, return_tensors="pt")
        loaded = tokenizer(texts, padding=True, return_tensors="pt")
        assert set(inputs) - set(loaded) == (set() if types else {"token_type_ids"})  # a model that has none gets none
        assert all(torch.equal(tensor, inputs[name]) for name, tensor in loaded.items())
        with torch.no_grad():
            assert_same_logits(again(**loaded).logits, model(**inputs).logits, tolerance=0)


@pytest.mark.parametrize("heads", ["shared", "full"])
def test_transformers_loads_the_folder_unchanged_and_answers_as_the_last_exit(
    tiny_model, tiny_tokenizer, tiny_texts, tmp_path, heads
):
    model = tiny_model("albert", heads=heads, **LABELS)
    folder = model.save_pretrained(tmp_path / "model", tiny_tokenizer)
    assert names(folder) == PLAIN_FILES | ({"exit_heads.safetensors"} if heads == "full" else set())
    plain, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    inputs = AutoTokenizer.from_pretrained(folder)(tiny_texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        last = model(**inputs).logits[:, -1]
        assert_same_logits(plain(**inputs).logits, last)
    answers = pipeline("text-classification", str(folder))(tiny_texts)
    for answer, probs in zip(answers, last.softmax(-1), strict=True):
        assert answer["label"] == ("bad", "good")[int(probs.argmax())]
        assert answer["score"] == pytest.approx(float(probs.max()), abs=1e-5)


@pytest.mark.parametrize(
    ("given", "problem_type", "id2label"),
    [
        ({"labels": ["no", "yes"]}, "single_label_classification", {0: "no", 1: "yes"}),
        ({"num_labels": 3}, "single_label_classification", {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}),
        (
            {"labels": ["joy", "fear"], "problem_type": "multi_label_classification"},
            "multi_label_classification",
            {0: "joy", 1: "fear"},
        ),
        ({"problem_type": "regression", "labels": ()}, "regression", {0: "score"}),
        ({"num_labels": 1}, "regression", {0: "score"}),
    ],
)
def test_the_configuration_names_the_classes_and_the_problem(tiny_texts, tmp_path, given, problem_type, id2label):
    model, tokenizer, _ = load_model("random-tiny", texts=tiny_texts, **given)
    folder = model.save_pretrained(tmp_path / "model", tokenizer)
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == problem_type
    assert {int(index): name for index, name in config["id2label"].items()} == id2label
    assert config["label2id"] == {name: index for index, name in id2label.items()}
    again, _, _ = load_model(folder)
    assert again.problem_type == problem_type
    assert again.weights().id2label == id2label
    assert again.num_labels == len(id2label)


def test_150_labels_survive_the_round_trip(tiny_texts, tmp_path):
    labels = [f"intent {n}" for n in range(150)]
    model, tokenizer, _ = load_model("random-tiny", texts=tiny_texts, labels=labels)
    again, _, _ = load_model(model.save_pretrained(tmp_path / "model", tokenizer))
    assert list(again.weights().id2label.values()) == labels


def test_a_half_precision_checkpoint_is_loaded_in_fp32(tiny_model, tiny_tokenizer, tmp_path):
    folder = tiny_model("albert").half().save_pretrained(tmp_path / "model", tiny_tokenizer)
    assert load_file(folder / "model.safetensors")["classifier.weight"].dtype == torch.float16
    model, _, _ = load_model(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_checkpoint_without_elbert_json_has_shared_heads(tiny_model, tiny_tokenizer, tmp_path):
    tiny_model("bert").backbone.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model, _, content = load_model(tmp_path)
    assert content == {"format": 1, "heads": "shared"}
    assert model.exit_heads is None


def test_saving_again_replaces_the_model_and_leaves_other_files_alone(tiny_model, tiny_tokenizer, tmp_path):
    folder = tmp_path / "model"
    tiny_model("albert", heads="linear").save_pretrained(folder, tiny_tokenizer, card="first")
    (folder / "notes.txt").write_text("mine")
    second = tiny_model("albert", seed=1)
    second.save_pretrained(folder, card="second")
    assert names(folder) == PLAIN_FILES | {"notes.txt"}  # no stale exit heads, no temporary folder, tokenizer kept
    assert (folder / "README.md").read_text() == "second"
    again, _, _ = load_model(folder)
    assert torch.equal(again.backbone.classifier.weight, second.backbone.classifier.weight)


def test_a_file_of_an_older_model_does_not_change_the_tokens_of_the_new_one(tiny_model, tiny_tokenizer, tmp_path):
    folder = tmp_path / "model"
    tiny_model("bert").save_pretrained(folder, tiny_tokenizer)
    (folder / "special_tokens_map.json").write_text('{"unk_token": "film", "cls_token": "[SEP]"}')
    (folder / "added_tokens.json").write_text('{"wonderful": 299, "warm and": 298}')
    for name in ("vocab.txt", "spiece.model", "policies.safetensors", "words.safetensors", "pytorch_model.bin"):
        (folder / name).write_text("stale")
    wanted = tiny_tokenizer("a wonderful film")["input_ids"]
    tiny_model("bert", seed=1).save_pretrained(folder, tiny_tokenizer)
    assert names(folder) == PLAIN_FILES
    assert AutoTokenizer.from_pretrained(folder)("a wonderful film")["input_ids"] == wanted
    assert open_model(folder)[1](["a wonderful film"], truncation=True, max_length=9)["input_ids"] == [wanted]


@pytest.mark.parametrize("loaded", [False, True])
def test_the_tokenizers_file_says_what_transformers_4_knows(tiny_model, tiny_tokenizer, tmp_path, loaded):
    tokenizer = AutoTokenizer.from_pretrained(saved(tiny_tokenizer, tmp_path), local_files_only=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[X]"]})
    folder = tiny_model("bert").save_pretrained(tmp_path / "model", tokenizer if loaded else tiny_tokenizer)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["model_input_names"] == ["input_ids", "token_type_ids", "attention_mask"]
    assert not {"is_local", "local_files_only", "extra_special_tokens"} & set(settings)
    again = AutoTokenizer.from_pretrained(folder)
    assert again(PAIRS)["token_type_ids"] == tiny_tokenizer(PAIRS)["token_type_ids"]
    assert ("[X]" in again.all_special_tokens) == loaded


def test_what_is_no_models_stays_where_a_model_is_replaced(tiny_model, tiny_tokenizer, tmp_path):
    folder = tmp_path / "model"
    tiny_model("albert").save_pretrained(folder, tiny_tokenizer)
    (folder / "README.md").write_text("# What I know of this model")
    (folder / "plots").mkdir()
    (folder / "plots" / "loss.png").write_bytes(b"png")
    (folder / "link").symlink_to("plots/loss.png")
    tiny_model("albert", seed=1).save_pretrained(folder, tiny_tokenizer)
    assert names(folder) == PLAIN_FILES | {"plots", "link"}
    assert (folder / "README.md").read_text() == "# What I know of this model"
    assert (folder / "link").read_bytes() == b"png"
    tiny_model("albert").save_pretrained(folder, tiny_tokenizer, card="a card that was asked for")
    assert (folder / "README.md").read_text() == "a card that was asked for"


def test_a_folder_that_cannot_be_renamed_is_filled_in_place(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    tiny_model("albert", heads="full").save_pretrained(folder, tiny_tokenizer)
    (folder / "notes.txt").write_text("mine")
    monkeypatch.chdir(folder)
    inode = folder.stat().st_ino
    tiny_model("albert", seed=1).save_pretrained(".", tiny_tokenizer)
    assert folder.stat().st_ino == inode
    assert names(folder) == PLAIN_FILES | {"notes.txt"}
    load_model(folder)


def test_a_save_that_fails_half_way_leaves_nothing_behind(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "write_metadata", full_disk)
    with pytest.raises(ElbertError, match="No space left on device"):
        tiny_model("albert").save_pretrained(tmp_path / "model", tiny_tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_half_way_leaves_the_model_that_was_there(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    first = tiny_model("albert")
    folder = first.save_pretrained(tmp_path / "model", tiny_tokenizer)
    monkeypatch.setattr(saving, "write_metadata", full_disk)
    with pytest.raises(ElbertError, match="No space left on device"):
        tiny_model("albert", seed=1).save_pretrained(folder, tiny_tokenizer)
    assert names(folder) == PLAIN_FILES
    again, _, _ = load_model(folder)
    assert torch.equal(again.backbone.classifier.weight, first.backbone.classifier.weight)


def test_saving_over_a_file_is_refused(tiny_model, tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(UsageError, match="a file of that name exists"):
        tiny_model("albert").save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


def test_loading_and_saving_say_nothing_and_leave_the_logging_as_it_was(tiny_model, tiny_tokenizer, tmp_path, capfd):
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    folder = tiny_model("albert").save_pretrained(tmp_path / "model", tiny_tokenizer)
    load_model(folder)
    load_model(folder, labels=["a", "b", "c"])
    assert capfd.readouterr() == ("", "")
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before


def test_the_default_card_has_a_header_the_hub_reads(tiny_model, tmp_path):
    folder = tiny_model("albert", **LABELS).save_pretrained(tmp_path / "model")
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n")
    assert "bad, good" in card
