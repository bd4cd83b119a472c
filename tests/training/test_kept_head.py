"""Going on with a trained classifier keeps its head wherever the data has its classes, and says so where it has not."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from elbert.data import Labels, TextDataset
from elbert.training import TrainSettings, start_model
from elbert.training.prepare import check_datasets

TEXTS = ["a fine film", "a dull film", "so good", "so bad"]


def classifier(tiny_model: Any, tiny_tokenizer: Any, folder: Any, names: list[str], **fields: Any) -> Any:
    """Save a trained classifier of these classes and return it."""
    label2id = {name: number for number, name in enumerate(names)}
    model = tiny_model("bert", id2label=dict(enumerate(names)), label2id=label2id, **fields)
    model.save_pretrained(folder, tiny_tokenizer)
    return model


def data(names: tuple[str, ...], problem_type: Any = "single_label_classification") -> TextDataset:
    if problem_type == "multi_label_classification":
        labels: Any = [[float(place == row % len(names)) for place in range(len(names))] for row in range(4)]
    else:
        labels = [row % len(names) for row in range(4)]
    return TextDataset(TEXTS, labels, Labels(problem_type, names))


def decoded(dataset: TextDataset) -> list[Any]:
    assert dataset.label_space is not None
    assert dataset.labels is not None
    names = dataset.label_space.names
    if dataset.label_space.problem_type == "multi_label_classification":
        return [{names[place] for place, on in enumerate(row) if on} for row in dataset.labels]
    return [names[label] for label in dataset.labels]


@pytest.mark.parametrize(
    ("own", "given", "kept_as"),
    [
        (["positive", "negative"], ("negative", "positive"), ["positive", "negative"]),
        (["LABEL_0", "LABEL_1"], ("0", "1"), ["0", "1"]),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ("0", "1", "2"), ["0", "1", "2"]),
        (["1", "0"], ("LABEL_0", "LABEL_1"), ["LABEL_1", "LABEL_0"]),
        (["POSITIVE", "NEGATIVE"], ("negative", "positive"), ["positive", "negative"]),
        (["not_toxic", "Toxic"], ("not toxic", "toxic"), ["not toxic", "toxic"]),
        (["US", "us"], ("US", "us"), ["US", "us"]),
    ],
)
@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_the_same_classes_keep_the_head_and_the_models_order(
    tiny_model, tiny_tokenizer, tmp_path, own, given, kept_as, problem_type
):
    model = classifier(tiny_model, tiny_tokenizer, tmp_path, own, problem_type=problem_type)
    rows = data(given, problem_type)
    loaded, _ = start_model(tmp_path, rows, TrainSettings())
    assert torch.equal(loaded.backbone.classifier.weight, model.backbone.classifier.weight)
    assert torch.equal(loaded.backbone.classifier.bias, model.backbone.classifier.bias)
    assert list(loaded.config.id2label.values()) == kept_as
    assert loaded.config.label2id == {name: number for number, name in enumerate(kept_as)}
    learnt, scored = check_datasets(loaded, rows, rows)
    for part in (learnt, scored):
        assert part.label_space is not None
        assert list(part.label_space.names) == kept_as
        assert decoded(part) == decoded(rows)


@pytest.mark.parametrize(
    ("own", "given"),
    [
        (["positive", "negative"], ("bad", "good")),
        (["LABEL_0", "LABEL_1"], ("1", "2")),
        (["a", "b", "c"], ("a", "b")),
        (["US", "us"], ("us", "uk")),
    ],
)
def test_other_classes_get_a_new_head_and_one_line_says_so(tiny_model, tiny_tokenizer, tmp_path, caplog, own, given):
    model = classifier(tiny_model, tiny_tokenizer, tmp_path, own)
    with caplog.at_level(logging.INFO, logger="elbert"):
        loaded, _ = start_model(tmp_path, data(given), TrainSettings())
    assert loaded.config.id2label == dict(enumerate(given))
    assert loaded.backbone.classifier.weight.shape[0] == len(given)
    assert not torch.equal(loaded.backbone.classifier.weight[0], model.backbone.classifier.weight[0])
    (line,) = [record.getMessage() for record in caplog.records if "the head is" in record.getMessage()]
    assert line.startswith("the head is new: the classes of ")
    assert all(name in line for name in (*own, *given))


def test_another_spelling_is_said(tiny_model, tiny_tokenizer, tmp_path, caplog):
    classifier(tiny_model, tiny_tokenizer, tmp_path, ["POSITIVE", "NEGATIVE"])
    with caplog.at_level(logging.INFO, logger="elbert"):
        start_model(tmp_path, data(("negative", "positive")), TrainSettings())
    (line,) = [record.getMessage() for record in caplog.records if "the head is" in record.getMessage()]
    assert line.startswith("the head is kept: the classes 'POSITIVE', 'NEGATIVE' of ")


@pytest.mark.parametrize(("family", "heads"), [("bert", "mean"), ("albert", "shared")])
def test_exits_of_an_encoder_from_elsewhere_read_the_mean_where_its_layers_are_their_own(
    tiny_model, tiny_tokenizer, tmp_path, caplog, family, heads
):
    tiny_model(family).save_pretrained(tmp_path, tiny_tokenizer)
    with caplog.at_level(logging.INFO, logger="elbert"):
        fresh, _ = start_model(tmp_path, data(("bad", "good")), TrainSettings())
    assert (fresh.heads, fresh.fresh_head) == (heads, True)
    assert ("heads=shared overrules" in caplog.text) == (heads == "mean")
    assert start_model(tmp_path, data(("bad", "good")), TrainSettings(heads="shared"))[0].heads == "shared"


@pytest.mark.parametrize("heads", ["linear", "full", "mean"])
def test_the_exits_own_heads_go_on_too(tiny_model, tiny_tokenizer, tmp_path, heads):
    model = tiny_model("bert", heads=heads, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    model.save_pretrained(tmp_path, tiny_tokenizer)
    loaded, _ = start_model(tmp_path, data(("bad", "good")), TrainSettings())
    assert (loaded.heads, loaded.fresh_head) == (heads, False)
    assert torch.equal(loaded.exit_heads.out_weight, model.exit_heads.out_weight)


def test_trained_heads_of_early_exits_do_not_go_without_a_line(tiny_model, tiny_tokenizer, tmp_path, caplog):
    model = tiny_model("bert", heads="mean", id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    model.save_pretrained(tmp_path, tiny_tokenizer)
    with caplog.at_level(logging.INFO, logger="elbert"):
        start_model(tmp_path, data(("bad", "good")), TrainSettings(heads="linear"))
    assert f"early exits are new: those of {tmp_path} are mean, asked for are linear" in caplog.text


def test_a_multi_label_model_that_does_not_say_so_keeps_its_head(tiny_model, tiny_tokenizer, tmp_path):
    model = classifier(tiny_model, tiny_tokenizer, tmp_path, ["joy", "love", "fear"])
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"problem_type": "single_label_classification"', '"problem_type": null'))
    loaded, _ = start_model(tmp_path, data(("fear", "joy", "love"), "multi_label_classification"), TrainSettings())
    assert loaded.problem_type == "multi_label_classification"
    assert torch.equal(loaded.backbone.classifier.weight, model.backbone.classifier.weight)


def test_one_value_is_one_value_whatever_it_is_called(tiny_model, tiny_tokenizer, tmp_path):
    model = classifier(tiny_model, tiny_tokenizer, tmp_path, ["LABEL_0"])
    rows = TextDataset(TEXTS, [0.5, 1.0, 2.5, 4.0], Labels("regression", ()))
    loaded, _ = start_model(tmp_path, rows, TrainSettings())
    assert torch.equal(loaded.backbone.classifier.weight, model.backbone.classifier.weight)
