"""Models made ready for training: fresh heads, kept heads, random weights, and the tokenizer these learn."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AlbertForMaskedLM, AutoTokenizer

from elbert.errors import UsageError
from elbert.modeling import load_model
from elbert.modeling.configs import RANDOM_CONFIGS, random_config
from elbert.modeling.tokenizer import SPECIAL_TOKENS, train_tokenizer

LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}


@pytest.fixture
def trained(tiny_model, tiny_tokenizer, tmp_path):
    return tiny_model("albert", **LABELS).save_pretrained(tmp_path / "model", tiny_tokenizer)


def test_a_head_trained_for_the_same_classes_is_kept(trained):
    kept, _, _ = load_model(trained, labels=["bad", "good"])
    before, _, _ = load_model(trained)
    assert torch.equal(kept.backbone.classifier.weight, before.backbone.classifier.weight)


@pytest.mark.parametrize(
    "task",
    [
        {"labels": ["no", "yes"]},
        {"labels": ["bad", "good"], "problem_type": "multi_label_classification"},
        {"num_labels": 2},
        {"num_labels": 7},
        {"problem_type": "regression"},
    ],
)
def test_a_head_for_other_classes_starts_fresh_and_the_encoder_is_kept(trained, task):
    before, _, _ = load_model(trained)
    model, _, _ = load_model(trained, **task)
    assert not torch.equal(model.backbone.classifier.weight[:1], before.backbone.classifier.weight[:1])
    assert model.backbone.classifier.bias.abs().max() == 0
    assert torch.equal(model.backbone.albert.pooler.weight, before.backbone.albert.pooler.weight)
    step = "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"
    assert torch.equal(model.backbone.state_dict()[step], before.backbone.state_dict()[step])


def test_a_pretrained_encoder_gets_a_pooler_and_a_head(tiny_config, tiny_tokenizer, tmp_path):
    AlbertForMaskedLM(tiny_config("albert")).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model, _, content = load_model(tmp_path, labels=["a", "b", "c"])
    assert model.num_labels == 3
    assert content["heads"] == "shared"
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("heads", ["linear", "full", "mean"])
def test_a_trained_backbone_can_be_given_own_heads(trained, heads):
    model, _, content = load_model(trained, heads=heads)
    assert model.heads == content["heads"] == heads
    assert torch.equal(model.exit_heads.out_weight[0], model.backbone.classifier.weight)


def test_saved_own_heads_are_kept_by_default_and_given_up_for_a_training_that_asks_for_shared_ones(
    tiny_model, tiny_tokenizer, tmp_path
):
    saved = tiny_model("albert", heads="linear", **LABELS)
    folder = saved.save_pretrained(tmp_path / "model", tiny_tokenizer)
    same = {"labels": ["bad", "good"]}
    for arguments in ({}, same, {"heads": "linear"}, {"heads": "linear", **same}):
        model, _, _ = load_model(folder, **arguments)
        assert torch.equal(model.exit_heads.out_weight, saved.exit_heads.out_weight)
    model, _, content = load_model(folder, heads="shared", **same)
    assert model.exit_heads is None
    assert content["heads"] == "shared"


def test_policies_calibrated_for_other_classes_are_not_carried_over(tiny_model, tiny_tokenizer, tmp_path):
    model = tiny_model("albert", **LABELS)
    folder = model.save_pretrained(tmp_path / "model", tiny_tokenizer, {"policies": {"elbert": {}}, "max_length": 32})
    assert load_model(folder)[2]["policies"] == {"elbert": {}}
    assert load_model(folder, labels=["a", "b", "c"])[2] == {"format": 1, "heads": "shared"}


@pytest.mark.parametrize("name", RANDOM_CONFIGS)
def test_built_in_shapes_are_those_of_the_papers(name):
    config = random_config(name)
    assert config.hidden_size % config.num_attention_heads == 0
    assert config.intermediate_size in (2 * config.hidden_size, 4 * config.hidden_size)
    assert config.hidden_act == "gelu_new"


def test_a_random_model_learns_its_tokenizer_from_the_texts(tiny_texts):
    model, tokenizer, content = load_model("random-tiny", labels=["a", "b"], texts=tiny_texts)
    assert model.config.vocab_size == len(tokenizer)
    assert "wonderful" in tokenizer.get_vocab()
    assert content == {"format": 1, "heads": "shared"}
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (
        tokenizer.pad_token_id,
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
    )


def test_a_random_model_without_texts_reads_single_characters():
    model, tokenizer, _ = load_model("random-tiny")
    inputs = tokenizer("Ab c!", return_tensors="pt")
    assert tokenizer.convert_ids_to_tokens(inputs["input_ids"][0]) == ["[CLS]", "a", "##b", "c", "!", "[SEP]"]
    assert model(**inputs).logits.shape == (1, 4, 2)


def test_an_unknown_built_in_shape_names_the_closest():
    with pytest.raises(UsageError, match="did you mean 'random-small'"):
        random_config("random-smal")


def test_the_tokenizer_writes_single_texts_and_pairs(tiny_tokenizer):
    single, pair = tiny_tokenizer("The END"), tiny_tokenizer("The END", "a joy")
    assert tiny_tokenizer.convert_ids_to_tokens(single["input_ids"]) == ["[CLS]", "the", "end", "[SEP]"]
    assert tiny_tokenizer.convert_ids_to_tokens(pair["input_ids"])[3:] == ["[SEP]", "a", "joy", "[SEP]"]
    assert pair["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]


def test_the_tokenizer_has_its_special_tokens_first_and_keeps_to_its_size(tiny_texts):
    tokenizer = train_tokenizer(tiny_texts, vocab_size=120)
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIAL_TOKENS)
    assert len(tokenizer) == 120


def test_the_tokenizer_knows_what_it_does_not_know(tiny_tokenizer):
    assert tiny_tokenizer.unk_token_id in tiny_tokenizer("\u4e16")["input_ids"]
    assert tiny_tokenizer("")["input_ids"] == [tiny_tokenizer.cls_token_id, tiny_tokenizer.sep_token_id]


def test_long_texts_are_cut_to_the_tokenizers_length(tiny_tokenizer):
    assert len(tiny_tokenizer("the " * 500, truncation=True)["input_ids"]) == 64


def test_the_tokenizer_is_the_same_after_saving(tiny_tokenizer, tiny_texts, tmp_path):
    tiny_tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(tiny_texts)["input_ids"] == tiny_tokenizer(tiny_texts)["input_ids"]
    assert again.model_max_length == 64


def test_the_same_texts_give_the_same_tokenizer(tiny_texts):
    learned = {json.dumps(train_tokenizer(iter(tiny_texts), 190).get_vocab(), sort_keys=True) for _ in range(8)}
    assert len(learned) == 1


def test_rare_characters_give_way_where_there_is_no_room(tiny_texts):
    tokenizer = train_tokenizer(tiny_texts, vocab_size=9)
    assert tokenizer.convert_ids_to_tokens(range(5, 9)) == ["##t", "##a", "a", "t"]
    with pytest.raises(UsageError, match="vocab_size 6 is too small"):
        train_tokenizer(tiny_texts, vocab_size=6)
