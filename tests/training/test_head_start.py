"""A fresh head that knows the labels' mean, and values that are learnt in units of their own spread."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from elbert.classifier import Classifier
from elbert.data import Labels, TextDataset
from elbert.metadata import HeadKind
from elbert.training import TrainSettings, start_model, train
from elbert.training.head_start import ValueUnits, start_head
from tests.training.conftest import make_dataset


def answers(model: Any) -> torch.Tensor:
    """What every exit says to two texts, [2, M, C]."""
    with torch.no_grad():
        return model.eval()(torch.tensor([[2, 11, 12, 3], [2, 30, 3, 0]])).logits


def started(dataset: TextDataset, heads: HeadKind = "shared") -> Any:
    return start_model("random-tiny", dataset, TrainSettings(heads=heads))[0]


def shifted(dataset: TextDataset, scale: float, mean: float) -> TextDataset:
    return dataclasses.replace(dataset, labels=[scale * value + mean for value in dataset.labels or []])


@pytest.mark.parametrize("heads", ["shared", "linear", "full", "mean"])
def test_a_fresh_multi_label_head_answers_each_labels_share_at_every_exit(
    tiny_texts: list[str], heads: HeadKind
) -> None:
    dataset = make_dataset(tiny_texts, problem_type="multi_label_classification")
    rare = dataclasses.replace(dataset, labels=[[float(row == 0), 1.0] for row in range(60)])
    said = answers(started(rare, heads)).sigmoid()
    assert said[..., 0].tolist() == [pytest.approx([1.5 / 61] * 4, abs=0.01)] * 2
    assert said[..., 1].tolist() == [pytest.approx([60.5 / 61] * 4, abs=0.01)] * 2


@pytest.mark.parametrize("heads", ["shared", "linear", "full", "mean"])
def test_a_fresh_regression_head_answers_the_mean_give_or_take_the_spread(
    tiny_texts: list[str], heads: HeadKind
) -> None:
    dataset = shifted(make_dataset(tiny_texts, problem_type="regression"), 100, 7000)
    said = answers(started(dataset, heads))
    assert said.flatten().tolist() == pytest.approx([float(np.mean(dataset.labels or []))] * 8, abs=50)


@pytest.mark.parametrize("heads", ["shared", "linear", "full", "mean"])
def test_a_fresh_single_label_head_answers_each_classs_share_at_every_exit(
    reviews: TextDataset, heads: HeadKind
) -> None:
    rare = dataclasses.replace(reviews, labels=[int(row == 0) for row in range(60)])
    said = answers(started(rare, heads)).softmax(-1)
    assert said[..., 1].tolist() == [pytest.approx([1.5 / 61] * 4, abs=0.01)] * 2


def test_even_shares_and_balanced_weights_leave_the_bias_at_zero(reviews: TextDataset) -> None:
    rare = dataclasses.replace(reviews, labels=[int(row == 0) for row in range(60)])
    balanced = start_model("random-tiny", rare, TrainSettings(class_weight="balanced"))[0]
    for model in (started(reviews), balanced):
        assert not model.family.head(model.backbone)[2].bias.any()


def test_a_trained_head_is_left_alone(tiny_texts: list[str], tiny_model: Any) -> None:
    dataset = make_dataset(tiny_texts, problem_type="multi_label_classification")
    model = tiny_model(problem_type="multi_label_classification")
    before = answers(model)
    start_head(model, dataset)
    assert torch.equal(answers(model), before)


@pytest.mark.parametrize("heads", ["shared", "linear", "full", "mean"])
def test_units_change_what_a_model_says_and_back(tiny_texts: list[str], heads: HeadKind) -> None:
    dataset = shifted(make_dataset(tiny_texts, problem_type="regression"), 3, 50)
    units = ValueUnits.of(dataset)
    assert units is not None
    inside = np.array(units.encoded(dataset).labels)
    assert (inside.mean(), inside.std()) == (pytest.approx(0), pytest.approx(1))
    model = started(dataset, heads)
    before = answers(model)
    units.enter(model)
    assert torch.allclose(answers(model), (before - units.mean) / units.scale, atol=1e-4)
    units.restore(model)
    assert torch.allclose(answers(model), before, atol=1e-4)


def test_only_values_have_units(reviews: TextDataset) -> None:
    assert ValueUnits.of(reviews) is None
    same = TextDataset(["a", "b"], [4.0, 4.0], Labels("regression", ()), "same")
    assert ValueUnits.of(same) == ValueUnits(4.0, 1.0)


def test_what_is_learnt_does_not_depend_on_the_units_of_the_values(tiny_texts: list[str], tmp_path: Any) -> None:
    settings = TrainSettings(epochs=1, batch_size=8, learning_rate=1e-2, dtype="float32", max_length=32)
    dataset = make_dataset(tiny_texts, problem_type="regression")
    said = {}
    for name, data in (("plain", dataset), ("cents", shifted(dataset, 1000, 5000))):
        model, tokenizer = start_model("random-tiny", data, settings)
        train(model, tokenizer, data, data, settings, tmp_path / name, progress=False)
        said[name] = Classifier.from_pretrained(tmp_path / name).record(tiny_texts).logits.double()
    assert torch.allclose((said["cents"] - 5000) / 1000, said["plain"], atol=1e-4)
    assert (said["plain"].mean() - torch.tensor(dataset.labels).mean()).abs() > 5e-3  # it did move, by far more


def test_values_far_from_zero_are_learnt_by_every_layer(tiny_texts: list[str], tmp_path: Any) -> None:
    settings = TrainSettings(epochs=4, batch_size=8, learning_rate=1e-2, dtype="float32", max_length=32)
    dataset = shifted(make_dataset(tiny_texts, problem_type="regression"), 1, 40)
    model, tokenizer = start_model("random-tiny", dataset, settings)
    summary = train(model, tokenizer, dataset, dataset, settings, tmp_path / "model", progress=False)
    assert min(summary.layer_scores) > 0.8
    said = [answer.label for answer in Classifier.from_pretrained(tmp_path / "model").predict(list(dataset.texts))]
    assert np.mean(said) == pytest.approx(np.mean(dataset.labels or []), abs=0.3)
