"""A trace says what `predict` answers, also where layer 0 answers, or is part of what every exit says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from elbert.classifier import Classifier
from elbert.data import Labels, TextDataset
from elbert.evaluation.evaluate import evaluate
from elbert.exits import ExitPolicy, make, replay
from elbert.results import Trace
from elbert.tracing.patterns import pattern_of

Build = Callable[..., Classifier]
Traced = Callable[..., Trace]

TEXTS = ["a warm film", "a dull and cold film", "warm " * 3 + "and dull", "cold " * 80 + "but warm", ("warm", "cold")]
POLICIES = [
    make("full"),
    make("full", words=0.6),
    make("fixed", layer=2, words=0.6),
    make("elbert", threshold=0.97, window=2),
    make("elbert", threshold=0.97, window=2, words=0.9),
    make("max_prob", threshold=0.4, words=0.3),
]


@pytest.mark.parametrize("at_exits", [0.0, 0.7])
def test_a_trace_answers_as_predict_replay_and_evaluate_do(worded: Build, at_exits: float) -> None:
    classifier, left = worded(at_exits, reach=200), set()
    recorded = classifier.record(TEXTS)
    labels: Any = [0] * len(TEXTS)
    dataset = TextDataset(TEXTS, labels, Labels("single_label_classification", classifier.labels.names), "some")
    for policy in POLICIES:
        predictions = classifier.predict(TEXTS, policy=policy)
        traces = [classifier.trace(text, policy=policy) for text in TEXTS]
        for prediction, trace in zip(predictions, traces, strict=True):
            said = json.loads(json.dumps(trace.to_dict()))
            assert (said["label"], said["exit_layer"]) == (prediction.label, prediction.exit_layer)
            assert said["score"] == pytest.approx(prediction.score, abs=1e-5)
            assert said["truncated"] == prediction.truncated
            assert float(trace.exit_probs.max()) == trace.score
        depths = [trace.exit_layer for trace in traces]
        assert depths == replay(policy, recorded).tolist()
        result = evaluate(classifier, dataset, policy, repeats=1)
        assert (result.layer_0 or 0) == depths.count(0)
        assert list(result.exit_histogram) == [depths.count(layer) for layer in range(1, classifier.num_layers + 1)]
        left |= set(depths)
    assert {0, classifier.num_layers} < left


def test_where_the_words_suffice_every_layer_is_told_as_one_that_was_not_run(traced: Traced) -> None:
    trace = traced([[0.05, 0.95], [0.6, 0.4]], make("max_prob", threshold=0.9, words=0.8), words=[0.1, 0.9])
    assert (trace.label, trace.score, trace.exit_layer) == ("good", pytest.approx(0.9), 0)
    assert trace.reason == "layer 0: leaves: “good”, probability 0.9, threshold 0.8"
    assert [line.split(": ")[1] for line in trace.reasons] == ["would leave", "would leave as no layer is left"]
    assert trace.fired == (True, False), "what the rule would have made of the layers"
    assert list(trace.stages) == [0, 1, 2]
    content = trace.to_dict()
    assert content["reason"] == content["layer_0"]["reason"] == trace.reason
    assert content["layer_0"]["probs"] == pytest.approx([0.1, 0.9])


def test_where_they_do_not_the_text_goes_on_and_the_trace_says_so(traced: Traced) -> None:
    trace = traced([[0.05, 0.95]], make("full", words=0.95), words=[0.1, 0.9])
    assert (trace.exit_layer, trace.layer_0 is not None and trace.layer_0.leaves) == (1, False)
    assert trace.to_dict()["layer_0"]["reason"].startswith("layer 0: goes on: ")


def test_layer_0_is_no_part_of_the_trace_where_it_has_none_in_the_answer(build: Build, worded: Build) -> None:
    assert worded().trace("a warm film", policy=make("full")).layer_0 is None
    assert build().trace("a warm film", policy=early()).layer_0 is None, "a threshold for what the model has not"
    part = worded(0.7).trace("a warm film", policy=make("full")).layer_0
    assert part is not None
    assert (part.at_exits, part.threshold, part.leaves) == (0.7, None, False)
    assert "no text leaves here" in part.finding


def early(policy: str = "full") -> ExitPolicy:
    return make(policy, words=0.8)


@pytest.mark.parametrize(
    ("rows", "gold", "name"),
    [
        ([[0.3, 0.7]] * 4, None, "simple"),
        ([[0.6, 0.4], [0.3, 0.7]], None, "plain"),
        ([[0.3, 0.7], [0.6, 0.4]], 1, "mitigated"),
        ([[0.3, 0.7], [0.6, 0.4]], 0, "hurt"),
        ([[0.3, 0.7], [0.6, 0.4]], None, "differs"),
    ],
)
def test_what_happened_is_told_of_what_layer_0_said(
    traced: Traced, rows: list[list[float]], gold: int | None, name: str
) -> None:
    pattern = pattern_of(traced(rows, early(), words=[0.1, 0.9]), gold)
    assert pattern.name == name
    assert "“good”" in pattern.words
    if name in ("mitigated", "hurt", "differs"):
        assert pattern.words.startswith("Layer 0 says “good”, layer 2 would have said “bad”.")
    if name == "simple":
        assert "The 4 layers that were left to it" in pattern.words


def test_a_long_text_is_read_by_the_encoder_to_its_limit_and_by_layer_0_to_its_own(worded: Build) -> None:
    classifier = worded(reach=200)
    text = "cold " * 150 + "warm \U0001f600 " + "cold " * 150
    trace = classifier.trace(text, policy=early())
    words = trace.layer_0
    assert words is not None
    assert (trace.exit_layer, trace.truncated, len(trace.tokens)) == (0, True, classifier.max_length)
    assert (words.tokens, text[: words.end].count("warm")) == (200, 1)
    assert words.end is not None
    assert classifier.trace(text[: words.end], policy=early()).layer_0.tokens == 200  # type: ignore[union-attr]
    short = classifier.trace("a warm film", policy=early()).layer_0
    assert short is not None
    assert (short.tokens, short.end) == (5, None)
