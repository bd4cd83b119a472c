"""Classifiers of a few thousand random weights, traces of chosen numbers, and labelled texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from elbert.classifier import Classifier
from elbert.data import Labels, TextDataset
from elbert.exits import ExitPolicy, make
from elbert.modeling.files.load import load_model
from elbert.results import LayerOutputs, Trace, Word
from elbert.tasks import task_of
from elbert.tracing.trace import trace_of, words_trace
from elbert.words import WordModel
from elbert.words.grams import grams_of

KINDS = ("single_label_classification", "multi_label_classification", "regression")

# Everything that has ever broken a page: tags, quotes, entities, template marks, right-to-left marks, emoji, NUL, and
# half a surrogate pair.
EVIL = '<script>alert("x")</script>\'&amp;$title</title>\u202egnp\u2066 \U0001f600 \x00\x1b \ud800 עברית'


@pytest.fixture(scope="session")
def build(tiny_texts: list[str]) -> Callable[..., Classifier]:
    """`build(problem_type, names, **config)`: a classifier over a tiny ALBERT with random weights."""

    def make_classifier(problem_type: str = KINDS[0], names: tuple[str, ...] = ("neg", "pos", "odd")) -> Classifier:
        torch.manual_seed(0)
        labels = () if problem_type == "regression" else names
        model, tokenizer, elbert = load_model("random-tiny", labels=labels, problem_type=problem_type, texts=tiny_texts)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return Classifier(model, tokenizer, {**elbert, "default_policy": "elbert"})

    return make_classifier


@pytest.fixture(scope="session")
def dataset(tiny_texts: list[str]) -> Callable[..., TextDataset]:
    """`dataset(problem_type)`: forty texts of growing length, labelled."""

    def make_dataset(problem_type: Any = KINDS[0], names: tuple[str, ...] = ("neg", "pos", "odd")) -> TextDataset:
        texts = [" ".join(tiny_texts[: 1 + row % 4]) + f" {row}" for row in range(40)]
        values: dict[str, Any] = {
            "single_label_classification": [row % len(names) for row in range(40)],
            "multi_label_classification": [[float((row + c) % 3 == 0) for c in range(len(names))] for row in range(40)],
            "regression": [row / 10 for row in range(40)],
        }
        labels = () if problem_type == "regression" else names
        return TextDataset(texts, values[problem_type], Labels(problem_type, labels), "reviews")

    return make_dataset


@pytest.fixture(scope="session")
def worded(build: Callable[..., Classifier]) -> Callable[..., Classifier]:
    """`worded(at_exits, reach)`: the same with a layer 0 that takes texts with "warm" for "pos", others for "odd"."""

    def make_classifier(at_exits: float = 0.0, reach: int = 0) -> Classifier:
        classifier = build()
        classifier.max_length = 64
        token = next(classifier.arrivals(["warm"], {})).ids[1]
        bucket = grams_of(np.array([token]), np.array([1])).bucket.astype(np.int32)
        weight, bias = np.array([[-4, 6, -4]], np.float16), np.array([0, 0, 0.5], np.float32)
        classifier.engine.words = WordModel(bucket, np.ones(1, np.float16), weight, bias, at_exits, reach)
        return classifier

    return make_classifier


@pytest.fixture(scope="session")
def traced() -> Callable[..., Trace]:
    """`traced(rows, policy, labels, text, problem_type)`: the trace of one text whose exits say exactly these rows.

    `words` is what layer 0 says, `at_exits` how much of it is in them, `end` where its reading ends.
    """

    def make_trace(
        rows: list[list[float]],
        policy: ExitPolicy | None = None,
        labels: tuple[str, ...] = ("bad", "good"),
        text: Any = "a film",
        problem_type: Any = KINDS[0],
        *,
        words: list[float] | None = None,
        at_exits: float = 0.0,
        end: int | None = None,
        truncated: bool = False,
    ) -> Trace:
        probs, policy = torch.tensor([rows]), policy or make("max_prob", threshold=0.9)
        said = None if words is None else torch.tensor([words])
        outputs = LayerOutputs(probs.log(), probs, torch.tensor([4]), problem_type=problem_type, words=said)
        halves = (text,) if isinstance(text, str) else text
        spans = [(half, *span) for half, part in enumerate(halves) for span in _spans(part)]
        pieces = [Word("[CLS]", None, 0, 0, (0,))]
        pieces += [Word(halves[h][a:b], h, a, b, (place,)) for place, (h, a, b) in enumerate(spans, start=1)]
        attention = torch.full((len(rows), len(pieces)), 1 / len(pieces))
        layer_0 = None
        if said is not None:
            about: Any = {"tokens": 1024, "end": end, "at_exits": at_exits}
            layer_0 = words_trace(said[0], task_of(problem_type), policy.words, labels, **about)
        return trace_of(
            outputs,
            policy,
            text=text,
            tokens=[word.text for word in pieces],
            words=pieces,
            labels=labels,
            attention=attention,
            truncated=truncated,
            layer_0=layer_0,
        )

    return make_trace


def _spans(text: str) -> list[tuple[int, int]]:
    spans, start = [], 0
    for word in text.split(" "):
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return [(a, b) for a, b in spans if b > a]
