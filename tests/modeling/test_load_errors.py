"""Everything that can be wrong with a model's name or folder is one clear line, of the right class, on either road."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from elbert.classifier import Classifier
from elbert.errors import ElbertError, ModelError, UsageError
from elbert.modeling import load_model
from elbert.modeling.files import sources
from elbert.modeling.files.open import open_model

LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}


@pytest.fixture
def folder(tiny_model, tiny_tokenizer, tmp_path) -> Path:
    """A whole, trained model, to be damaged."""
    return tiny_model("albert", heads="linear", **LABELS).save_pretrained(tmp_path / "model", tiny_tokenizer)


def edit_json(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def refused(kind: type[ElbertError], name: object, **arguments: object) -> str:
    """Return the error of `load_model`, which without arguments is that of `open_model` too."""
    messages = []
    for road in (load_model, open_model) if not arguments else (load_model,):
        with pytest.raises(kind) as caught:
            road(name, **arguments)
        messages.append(str(caught.value))
    assert len(set(messages)) == 1, messages
    assert "\n" not in messages[0]
    return messages[0]


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such", "a/b/c", "~/none", Path("nothing")])
def test_an_unknown_folder_names_what_there_is(name):
    message = refused(UsageError, name)
    assert "there is no model folder" in message
    assert "random-tiny" in message


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model"])
def test_an_unknown_hub_id_offline_names_the_cache_and_the_bundled_checkpoints(name, monkeypatch):
    monkeypatch.setattr(sources, "bundled_names", lambda: ["mini-sentiment"])
    message = refused(UsageError, name)
    assert "offline" in message
    assert constants.HF_HUB_CACHE in message
    assert "mini-sentiment" in message


def test_a_bundled_checkpoint_is_found_by_name(folder, monkeypatch):
    monkeypatch.setattr(sources, "CHECKPOINTS", folder.parent)
    model, _, _ = load_model("model")
    assert model.weights().id2label == {0: "bad", 1: "good"}


def test_a_file_is_not_a_model(folder):
    assert "is a file" in refused(UsageError, folder / "config.json")


def test_a_folder_without_config_json(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refused(ModelError, folder)


@pytest.mark.parametrize("content", ["{", "[1]", "\udcff", ""])
def test_a_broken_config_json(folder, content):
    (folder / "config.json").write_text(content, errors="surrogateescape")
    assert "config.json" in refused(ModelError, folder)


def test_a_config_json_with_a_field_of_the_wrong_type(folder):
    edit_json(folder / "config.json", hidden_size="wide")
    assert str(folder) in refused(ModelError, folder)  # which line depends on the transformers version


@pytest.mark.parametrize("model_type", ["gpt2", "deberta", None, ["albert"]])
def test_an_unsupported_family_names_the_supported_ones(folder, model_type):
    edit_json(folder / "config.json", model_type=model_type)
    assert "albert, bert, roberta, distilbert, electra" in refused(ModelError, folder)


def test_a_decoder_is_refused(tiny_model, tiny_tokenizer, tmp_path):
    folder = tiny_model("bert").save_pretrained(tmp_path / "model", tiny_tokenizer)
    edit_json(folder / "config.json", is_decoder=True)
    assert "is_decoder" in refused(ModelError, folder)


def test_relative_positions_are_refused_as_transformers_would_ignore_them(tiny_model, tiny_tokenizer, tmp_path):
    folder = tiny_model("bert").save_pretrained(tmp_path / "model", tiny_tokenizer)
    edit_json(folder / "config.json", position_embedding_type="relative_key")
    assert "relative_key" in refused(ModelError, folder)


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refused(ModelError, folder)


def test_pickled_weights_are_never_read_and_the_way_out_is_named(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refused(ModelError, folder)
    assert "pytorch_model.bin" in message
    assert "never read" in message
    assert "save_pretrained" in message


@pytest.mark.parametrize("keep", [0, 4, 100, 3000])
def test_cut_off_weights(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "cannot be read" in refused(ModelError, folder)


def test_weights_that_are_not_safetensors(folder):
    (folder / "model.safetensors").write_bytes(b"PK\x03\x04" + bytes(200))
    assert "cannot be read" in refused(ModelError, folder)


def test_a_missing_tensor_is_named(folder):
    name = "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"
    edit_tensors(folder / "model.safetensors", lambda tensors: tensors.pop(name))
    assert name in refused(ModelError, folder)
    assert name in refused(ModelError, folder, labels=["a", "b", "c"])


def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(folder):
    name = "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.bias"
    edit_tensors(folder / "model.safetensors", lambda tensors: tensors.update({name: torch.zeros(5)}))
    message = refused(ModelError, folder)
    assert f"tensor {name} has shape [5], config.json asks for [24]" in message


def test_a_pretrained_encoder_without_a_head_is_no_classifier_but_can_be_trained(folder):
    edit_tensors(
        folder / "model.safetensors", lambda tensors: [tensors.pop(f"classifier.{part}") for part in ("weight", "bias")]
    )
    message = refused(ModelError, folder)
    assert "no trained classification head" in message
    assert "elbert train" in message
    model, _, _ = load_model(folder, labels=["a", "b", "c"])
    assert model.num_labels == 3


def test_a_tokenizer_larger_than_the_embedding(folder, tiny_tokenizer):
    edit_json(folder / "config.json", vocab_size=50)
    assert f"has {len(tiny_tokenizer)} entries but the model embeds 50" in refused(ModelError, folder)


def test_a_folder_without_a_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer" in refused(ModelError, folder)


def test_a_broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer" in refused(ModelError, folder)


@pytest.mark.parametrize("content", ["{", "[]", "null", ""])
def test_a_broken_elbert_json(folder, content):
    (folder / "elbert.json").write_text(content)
    assert "elbert.json" in refused(ModelError, folder)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("max_length", "x", "a whole number of 3 or more"),
        ("max_length", -4, "a whole number of 3 or more"),
        ("policies", [1], "an object of exit policies by name"),
        ("default_policy", 3, "the name of an exit policy"),
    ],
)
def test_an_elbert_json_with_a_field_of_the_wrong_kind(folder, field, value, allowed):
    edit_json(folder / "elbert.json", **{field: value})
    message = refused(ModelError, folder)
    assert f"elbert.json: {field} is {value!r}; allowed: {allowed}" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_named(folder, value):
    edit_tensors(folder / "model.safetensors", lambda tensors: tensors["classifier.weight"].fill_(value))
    assert "tensor classifier.weight holds NaN or infinity" in refused(ModelError, folder)


def test_an_elbert_json_of_a_newer_format_asks_for_an_upgrade(folder):
    edit_json(folder / "elbert.json", format=2)
    assert "format is 2, this elbert reads up to 1: upgrade elbert" in refused(ModelError, folder)


@pytest.mark.parametrize("number", [None, "1", 0, True, 1.5])
def test_an_elbert_json_with_a_senseless_format(folder, number):
    edit_json(folder / "elbert.json", format=number)
    assert "format" in refused(ModelError, folder)


@pytest.mark.parametrize("heads", ["several", None, 3, []])
def test_an_elbert_json_with_unknown_heads(folder, heads):
    edit_json(folder / "elbert.json", heads=heads)
    assert "allowed: shared, linear, full" in refused(ModelError, folder)


def test_missing_exit_heads(folder):
    (folder / "exit_heads.safetensors").unlink()
    assert "exit_heads.safetensors is missing" in refused(ModelError, folder)


def test_exit_heads_of_another_model(folder):
    edit_tensors(
        folder / "exit_heads.safetensors", lambda tensors: tensors.update({"out_weight": torch.zeros(9, 2, 16)})
    )
    assert "out_weight should have shape [2, 2, 16], found [9, 2, 16]" in refused(ModelError, folder)


def test_corrupt_exit_heads(folder):
    (folder / "exit_heads.safetensors").write_bytes(b"nothing")
    assert "exit_heads.safetensors cannot be read" in refused(ModelError, folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labels": ["a"]}, "two classes or more"),
        ({"labels": ["a", "a"]}, "'a' is there twice"),
        ({"labels": []}, "needs its classes"),
        ({"labels": "ab"}, "not the string 'ab'"),
        ({"labels": ["a", "b"], "num_labels": 3}, "num_labels is 3 but 2 labels"),
        ({"num_labels": 0}, "needs its classes"),
        ({"num_labels": -1}, "needs its classes"),
        ({"problem_type": "regresion"}, "did you mean 'regression'"),
        ({"problem_type": "regression", "num_labels": 2}, "one output"),
        ({"problem_type": "regression", "labels": ["a", "b"]}, "one output"),
        ({"problem_type": "multi_label_classification"}, "needs its classes"),
        ({"num_labels": 2, "heads": "ful"}, "did you mean 'full'"),
    ],
)
def test_senseless_arguments(arguments, words):
    assert words in refused(UsageError, "random-tiny", **arguments)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"problem_type": ["regression"]}, "unknown problem_type ['regression']; did you mean 'regression'?"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0, which does not divide hidden_size"),
        ({"num_attention_heads": 5}, "num_attention_heads is 5, which does not divide hidden_size"),
        (
            {"id2label": {"bad": 0, "good": 1}},
            "id2label is {'bad': 0, 'good': 1}; allowed: an object of names by class",
        ),
        ({"id2label": ["bad", "good"]}, "id2label is ['bad', 'good']; allowed: an object of names by class"),
        ({"id2label": {"0.0": "bad", "1.0": "good"}}, "id2label is {'0.0': 'bad', '1.0': 'good'}; allowed"),
        ({"num_labels": "2"}, "num_labels is '2'; allowed: a whole number"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps' expected float"),
    ],
)
def test_an_edited_config_json_names_file_field_and_remedy(folder, fields, said):
    edit_json(folder / "config.json", **fields)
    message = refused(ModelError, folder)
    assert message.startswith(f"{folder}/config.json")
    assert said in message


def test_more_names_than_the_head_has_outputs_says_how_many_it_has(folder):
    edit_json(folder / "config.json", id2label={"0": "bad", "1": "so so", "2": "good"}, label2id={})
    assert refused(ModelError, folder).endswith(": give id2label there 2 names")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "[]", "null", '{"version"'])
def test_a_damaged_file_of_the_tokenizer_is_named(folder, name, content):
    (folder / name).write_text(content)
    message = refused(ModelError, folder)
    assert message.startswith(f"{folder / name} ")
    assert "restore it or save the model again" in message


def test_damaged_weights_name_their_file_and_the_remedy(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert refused(ModelError, folder).startswith(f"the weights in {path} cannot be read")
    assert refused(ModelError, folder).endswith(": restore the file, or save the model again")


@pytest.mark.parametrize("name", ["full", "entropy"])
def test_a_policy_under_another_rules_name_is_refused(folder, name):
    edit_json(folder / "elbert.json", policies={name: {"name": "fixed", "layer": 1}})
    with pytest.raises(ModelError, match=f"of the rule 'fixed' has the name of another rule, '{name}': rename it"):
        Classifier.from_pretrained(folder)
    edit_json(folder / "elbert.json", policies={"full": {"name": "full"}})
    assert Classifier.from_pretrained(folder).policy.name == "full"
