from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from elbert.classifier import Classifier
from elbert.data import Labels, TextDataset
from elbert.errors import DataError, MissingExtraError, UsageError
from elbert.evaluation import evaluate as module
from elbert.evaluation.evaluate import encode_answer, evaluate
from elbert.exits import make, replay
from elbert.scoring.metrics import score
from elbert.words import WordModel
from tests.evaluation.conftest import KINDS, make_classifier, make_dataset


def test_scores_layers_and_histogram_are_those_of_predict_and_replay(
    classifier: Classifier, dataset: TextDataset
) -> None:
    policy = make("patience", patience=1)
    result = evaluate(classifier, dataset, policy, repeats=1)
    layers = replay(policy, classifier.record(dataset.texts)).tolist()
    assert result.exit_histogram == tuple(layers.count(layer) for layer in range(1, 5))
    assert result.mean_exit_layer == sum(layers) / len(layers)
    assert result.layer_speedup == 4 / result.mean_exit_layer
    for policy_used, value in ((policy, result.score), (make("full"), result.full_depth_score)):
        predictions = classifier.predict(dataset.texts, policy=policy_used)
        assert isinstance(predictions, list)
        given = [encode_answer(prediction.label, classifier) for prediction in predictions]
        assert value == score("single_label_classification", given, dataset.labels or [])[1]


@pytest.mark.parametrize("problem_type", KINDS)
def test_every_problem_type_gives_finite_numbers_that_json_takes(problem_type: str, tiny_texts: list[str]) -> None:
    result = evaluate(make_classifier(problem_type, tiny_texts), make_dataset(problem_type, tiny_texts), repeats=1)
    line = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert line["n"] == 8
    assert line["metric"] == {KINDS[0]: "accuracy", KINDS[1]: "f1_micro", KINDS[2]: "pearson"}[problem_type]
    assert sum(line["exit_histogram"]) == 8
    assert math.isclose(line["engine_efficiency"], line["speedup"] / line["layer_speedup"])


def test_the_median_round_counts_and_the_two_sides_take_turns(
    classifier: Classifier, dataset: TextDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    stream = classifier.stream

    def spy(texts, *, policy, batch_size):  # type: ignore[no-untyped-def]
        order.append(policy.name)
        return stream(texts, policy=policy, batch_size=batch_size)

    # Seconds of the rounds: (full depth, exits), (exits, full depth), (full depth, exits).
    clock = iter([0, 0, 10, 10, 12, 12, 16, 16, 36, 36, 66, 66, 72])
    monkeypatch.setattr(classifier, "stream", spy)
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    result = evaluate(classifier, dataset, make("fixed", layer=1), repeats=3)
    assert order[2:] == ["full", "fixed", "fixed", "full", "full", "fixed"]
    assert (result.full_depth_seconds, result.seconds, result.repeats) == (20.0, 4.0, 3)
    assert result.speedup == 5.0
    assert result.engine_efficiency == 5.0 / 4.0


def test_slow_data_is_timed_fewer_times_unless_a_number_is_given(
    classifier: Classifier, dataset: TextDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", -1.0)
    assert evaluate(classifier, dataset).repeats == 1
    assert evaluate(classifier, dataset, repeats=2).repeats == 2


def test_the_classifiers_own_policy_is_the_default(classifier: Classifier, dataset: TextDataset) -> None:
    classifier.policy = make("fixed", layer=3)
    assert evaluate(classifier, dataset, repeats=1).policy == {"name": "fixed", "layer": 3}


def test_progress_hears_of_every_text_of_every_pass(classifier: Classifier, dataset: TextDataset) -> None:
    heard: list[None] = []
    evaluate(classifier, dataset, repeats=2, on_text=lambda: heard.append(None))
    assert len(heard) == 2 * 2 * 8


def test_another_metric_can_be_asked_for(classifier: Classifier, dataset: TextDataset) -> None:
    assert evaluate(classifier, dataset, metric="f1", repeats=1).metric == "f1_macro"


def test_no_labels_and_no_texts_are_refused(classifier: Classifier, dataset: TextDataset) -> None:
    with pytest.raises(DataError, match="at least one text"):
        evaluate(classifier, replace(dataset, labels=None, label_space=None))
    with pytest.raises(DataError, match="at least one text"):
        evaluate(classifier, dataset.select([]))


def test_no_rounds_are_refused(classifier: Classifier, dataset: TextDataset) -> None:
    with pytest.raises(UsageError, match="repeats is 0"):
        evaluate(classifier, dataset, repeats=0)


def test_token_layers_are_the_share_of_all_tokens_at_all_layers_that_was_run(
    classifier: Classifier, dataset: TextDataset
) -> None:
    lengths = classifier.record(dataset.texts).lengths.tolist()
    assert len(set(lengths)) > 1
    whole = 4 * sum(lengths)
    assert evaluate(classifier, dataset, make("full"), repeats=1).token_layers == 1.0
    at = replay(make("patience", patience=1), classifier.record(dataset.texts)).tolist()
    early = evaluate(classifier, dataset, make("patience", patience=1), repeats=1)
    assert early.token_layers == sum(n * layer for n, layer in zip(lengths, at, strict=True)) / whole
    shorter = evaluate(classifier, dataset, make("fixed", layer=3, tokens={1: 0.5}), repeats=1)
    assert shorter.token_layers == sum(n + 2 * math.ceil(n / 2) for n in lengths) / whole
    assert shorter.mean_exit_layer == 3


def test_full_depth_beside_a_schedule_keeps_all_tokens(classifier: Classifier, dataset: TextDataset) -> None:
    plain = evaluate(classifier, dataset, make("full"), repeats=1)
    result = evaluate(classifier, dataset, make("full", tokens={1: 2}), repeats=1)
    assert result.full_depth_score == plain.score
    policy = make("full", tokens={1: 2})
    said = classifier.record(dataset.texts, tokens=policy.tokens).probs[:, -1].argmax(1).tolist()
    assert result.score == score("single_label_classification", said, dataset.labels or [])[1]


def test_a_data_set_that_numbers_its_classes_otherwise_is_scored_by_their_names(
    classifier: Classifier, tiny_texts: list[str]
) -> None:
    said = [prediction.label for prediction in classifier.predict(tiny_texts, policy="full")]
    present = tuple(sorted(set(said), reverse=True))  # in another order than the model's, and without some
    labels = [present.index(label) for label in said]
    given = TextDataset(tiny_texts, labels, Labels("single_label_classification", present), "reviews")
    assert evaluate(classifier, given, repeats=1).full_depth_score == 1.0


def test_a_metric_whose_library_is_missing_is_refused_before_a_text_is_run(
    classifier: Classifier, dataset: TextDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    monkeypatch.setattr(classifier, "stream", lambda *_, **__: pytest.fail("texts were run first"))
    with pytest.raises(MissingExtraError, match=r"^scikit-learn is needed .*pip install 'elbert\[train\]'"):
        evaluate(classifier, dataset, metric="f1_macro")


@pytest.mark.parametrize("at_exits", [0.0, 0.5])
def test_layer_0_costs_every_policy_that_asks_it_what_evaluate_counts(
    classifier: Classifier, dataset: TextDataset, monkeypatch: pytest.MonkeyPatch, at_exits: float
) -> None:
    for where in ("elbert.classifier", "elbert.evaluation.evaluate"):
        monkeypatch.setattr(f"{where}.seconds_of_words", lambda _, texts: 0.5 * len(texts))
    monkeypatch.setattr(module._Side, "median", property(lambda side: 8.0 * len(side.predictions)))
    clock = SimpleNamespace(perf_counter=count(step=8.0 * len(dataset)).__next__)
    monkeypatch.setattr("elbert.classifier.time", clock)
    assert classifier.layer_0_cost(dataset.texts)(make("full", words=0.9)) == 0.0, "there is none"
    bias = np.zeros(3, np.float32)
    classifier.engine.words = WordModel(
        np.zeros(0, np.int32), np.zeros(0, np.float16), np.zeros((0, 3), np.float16), bias, at_exits
    )
    cost = classifier.layer_0_cost(dataset.texts)
    assert cost(make("full", words=0.9)) == 0.25, "half a second beside four layers of eight seconds"
    assert cost(make("full")) == (0.25 if at_exits else 0.0)
    result = evaluate(classifier, dataset, make("fixed", layer=2, words=0.9), repeats=1)
    assert (result.layer_0_cost, result.mean_exit_layer) == (0.25, 2.25)
