"""A model read without transformers is to the bit the model that transformers reads, and its import is spared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from elbert.classifier import Classifier
from elbert.modeling.files.load import load_model
from elbert.modeling.files.open import open_model
from elbert.modeling.files.plain import PlainModel
from elbert.modeling.model import MultiExitModel
from elbert.modeling.tokenizer import train_tokenizer
from elbert.modeling.weights import EncoderWeights
from tests.conftest import FAMILIES
from tests.modeling.test_parity import CASES

LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
UNWANTED = ("transformers", "scipy", "sklearn", "matplotlib", "huggingface_hub", "torch._dynamo")


@pytest.fixture
def folder(tiny_model, tiny_tokenizer, tmp_path) -> Path:
    """A whole, trained model."""
    return tiny_model("bert", **LABELS).save_pretrained(tmp_path / "model", tiny_tokenizer)


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def assert_same(mine: Any, theirs: Any) -> None:
    """Compare two values of the plain matrices' dataclasses, tensors to the bit."""
    assert type(mine) is type(theirs)
    if isinstance(mine, torch.Tensor):
        assert mine.dtype == theirs.dtype
        assert mine.dtype == torch.float32 or not mine.is_floating_point()
        assert torch.equal(mine, theirs)
    elif isinstance(mine, tuple):
        assert [mine.index(each) for each in mine] == [theirs.index(each) for each in theirs]  # shared in both, or not
        for a, b in zip(mine, theirs, strict=True):
            assert_same(a, b)
    elif is_dataclass(mine):
        for field in fields(mine):
            assert_same(getattr(mine, field.name), getattr(theirs, field.name))
    else:
        assert mine == theirs


def plain_weights(folder: Path) -> EncoderWeights:
    model = open_model(folder).model
    assert isinstance(model, PlainModel)
    return model.weights()


@pytest.mark.parametrize("heads", ["shared", "linear", "full", "mean"])
@pytest.mark.parametrize(("family", "shape"), CASES)
def test_the_matrices_are_those_of_load_model(tiny_model, tiny_tokenizer, tmp_path, family, shape, heads):
    tiny_model(family, heads=heads, **shape).save_pretrained(tmp_path, tiny_tokenizer)
    model, _, content = load_model(tmp_path)
    assert_same(plain_weights(tmp_path), model.weights())
    assert open_model(tmp_path)[2] == content


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_a_family_names_every_tensor_of_its_checkpoints_with_its_shape(tiny_model, family, shape):
    model = tiny_model(family, **shape)
    parameters = {name: tuple(tensor.shape) for name, tensor in model.backbone.named_parameters()}
    assert model.family.shapes(model.config) == parameters


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(folder, dtype):
    path = folder / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    assert_same(plain_weights(folder), load_model(folder)[0].weights())


def test_a_checkpoint_in_several_files(folder, tiny_model, tiny_tokenizer, tmp_path):
    whole = plain_weights(folder)
    (folder / "model.safetensors").unlink()
    tiny_model("bert", **LABELS).backbone.save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert_same(plain_weights(folder), whole)


def test_matrices_do_not_hang_on_the_file(folder):
    weights, again = plain_weights(folder), plain_weights(folder)
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert_same(weights, again)


@pytest.mark.parametrize("heads", ["shared", "linear"])
def test_the_classifier_answers_as_with_the_modules_of_transformers(tiny_model, tiny_tokenizer, tmp_path, heads):
    for family in FAMILIES:
        folder = tiny_model(family, heads=heads, **LABELS).save_pretrained(tmp_path / family, tiny_tokenizer)
        lean, full = Classifier.from_pretrained(folder), Classifier(*load_model(folder))
        texts = ["a warm and witty film", ("a warm film", "a dull end"), "great " * 90]
        assert lean.predict(texts) == full.predict(texts)
        assert lean.max_length == full.max_length
        assert lean.labels == full.labels


def test_modules_and_tokenizer_of_transformers_come_on_first_use(folder, tmp_path):
    classifier = Classifier.from_pretrained(folder)
    before = classifier.predict("a warm film")
    assert isinstance(classifier.model, MultiExitModel)
    assert classifier.model is classifier.model
    assert classifier.tokenizer.model_input_names == ["input_ids", "token_type_ids", "attention_mask"]
    assert classifier.predict("a warm film") == before
    classifier.save_pretrained(tmp_path / "again")
    assert_same(plain_weights(tmp_path / "again"), plain_weights(folder))


def test_what_is_saved_is_what_answered_whatever_lies_in_the_folder_by_now(
    folder, tiny_model, tiny_tokenizer, tmp_path
):
    classifier = Classifier.from_pretrained(folder)
    texts = ["a warm film", ("a dull end", "great care")]
    before, ids = classifier.predict(texts), tiny_tokenizer("a warm film")["input_ids"]
    other = train_tokenizer(["another corpus altogether"], vocab_size=60)
    tiny_model("albert", heads="full", seed=5, num_labels=3).save_pretrained(folder, other)  # retrained into it
    classifier.save_pretrained(tmp_path / "saved")
    assert classifier.tokenizer("a warm film")["input_ids"] == ids
    assert Classifier.from_pretrained(tmp_path / "saved").predict(texts) == before


@pytest.mark.parametrize("heads", ["linear", "full", "mean"])
def test_exit_heads_are_saved_as_they_answered(tiny_model, tiny_tokenizer, tmp_path, heads):
    folder = tiny_model("bert", heads=heads, **LABELS).save_pretrained(tmp_path / "model", tiny_tokenizer)
    classifier = Classifier.from_pretrained(folder)
    before = plain_weights(folder)
    shutil.rmtree(folder)
    classifier.save_pretrained(folder)
    assert_same(plain_weights(folder), before)


@pytest.mark.parametrize("old", [False, True], ids=["plain", "by transformers"])
def test_whoever_calls_the_tokenizer_meanwhile_changes_no_answer(folder, old):
    if old:
        (folder / "added_tokens.json").write_text("{}")
    classifier = Classifier.from_pretrained(folder)
    texts = ["a warm and witty film " * 12, ("a warm film " * 9, "a dull end")]
    wanted = classifier.predict(texts)
    classifier.tokenizer(["a"], padding="max_length", truncation=True, max_length=4)
    assert classifier.predict(texts) == wanted
    classifier.tokenizer.add_tokens(["witty film"])
    assert classifier.predict(texts) == wanted
    assert classifier.tokenizer.backend_tokenizer is not classifier._tokenizer.backend


def _old_names(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})


UNUSUAL: dict[str, Callable[[Path], object]] = {
    "tensor names of old": _old_names,
    "a field left to its default": lambda folder: edit_json(folder / "config.json", lambda c: c.pop("type_vocab_size")),
    "an old tokenizer": lambda folder: edit_json(folder / "tokenizer_config.json", lambda c: c.pop("backend")),
}


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_of_no_usual_form_is_read_by_transformers(folder, change):
    usual = plain_weights(folder)
    change(folder)
    model = open_model(folder).model
    assert isinstance(model, MultiExitModel)
    assert_same(model.weights(), usual)


def test_two_classes_without_names(folder):
    edit_json(folder / "config.json", lambda config: [config.pop("id2label"), config.pop("label2id")])
    assert plain_weights(folder).id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert_same(plain_weights(folder), load_model(folder)[0].weights())


def loaded_by(code: str, *arguments: object) -> str:
    """Run `code` in a fresh interpreter and return which unwanted modules it left loaded."""
    show = f"print('loaded:', [name for name in {UNWANTED} if name in sys.modules])"
    command = [sys.executable, "-c", f"import sys\n{code}\n{show}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_predicting_imports_no_transformers(folder):
    code = "from elbert import Classifier\nClassifier.from_pretrained(sys.argv[1]).predict('a warm film')"
    assert loaded_by(code, folder) == "loaded: []"


def test_the_predict_verb_imports_no_transformers(folder):
    code = "from elbert.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end"
    assert loaded_by(code, "predict", folder, "a warm film") == "loaded: []"
