"""A trace holds what the exits said, what the policy made of it at every depth, and what [CLS] attended to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from elbert.classifier import Classifier
from elbert.exits import make, names, replay
from elbert.exits.elbert import CRITERIA
from elbert.exits.gates import SkipGates
from elbert.modeling.files.plain_tokenizer import PlainTokenizer
from elbert.results import LayerOutputs, Trace, Word
from elbert.tracing.trace import trace_of
from tests.exits.ready import ready
from tests.tracing.conftest import KINDS

Build = Callable[..., Classifier]
Traced = Callable[..., Trace]


@pytest.mark.parametrize("problem_type", KINDS)
@pytest.mark.parametrize("policy", names())
def test_every_policy_and_problem_type_can_be_traced(build: Build, policy: str, problem_type: str) -> None:
    classifier = build(problem_type)
    outputs = classifier.record(["a warm and witty story"], pooled=True)
    rule = ready(policy, outputs)
    trace = classifier.trace("a warm and witty story", policy=rule)
    assert torch.equal(trace.probs, outputs.probs[0])
    assert trace.exit_layer == replay(rule, outputs).item()
    assert trace.attention.shape == (trace.layers, len(trace.tokens))
    assert len(trace.reasons) == len(trace.fired) == len(trace.steady) == trace.layers == classifier.num_layers
    assert sorted(token for word in trace.words for token in word.tokens) == list(range(len(trace.tokens)))
    json.dumps(trace.to_dict(), allow_nan=False)


def test_a_text_whose_gates_lead_beyond_its_policys_last_layer_is_said_to_leave_before_it() -> None:
    probs = torch.full((1, 5, 2), 0.5)
    gates, depth = SkipGates(), torch.tensor([[1, 2, 5, 5, 5]])  # layers 3 and 4 are skipped
    outputs = LayerOutputs(probs.log(), probs, torch.tensor([3]), gates=gates, depth=depth)
    policy = make("fixed", layer=4, gates=gates)
    about = {"text": "a", "tokens": ["[CLS]"], "words": [Word("[CLS]", None, 0, 0, (0,))], "labels": ("no", "yes")}
    trace = trace_of(outputs, policy, attention=torch.ones(5, 1), **about)
    assert trace.exit_layer == trace.ran == replay(policy, outputs).item() == 2
    assert trace.fired == (False, True, False, False, True)
    assert trace.reason.startswith("layer 2: leaves: ")
    assert trace.reason.endswith("; its gates lead beyond layer 4, where every text leaves")


def test_the_exit_is_the_first_layer_where_the_rule_fires_and_later_layers_are_told_too(traced: Traced) -> None:
    trace = traced([[0.5, 0.5], [0.05, 0.95], [0.4, 0.6], [0.02, 0.98]])
    assert (trace.exit_layer, trace.fired) == (2, (False, True, False, True))
    assert "leaves" in trace.reasons[1]
    assert "would go on" in trace.reasons[2]
    assert trace.reason == trace.reasons[1]


def test_a_text_no_rule_lets_go_leaves_at_the_last_layer_and_the_trace_says_why(traced: Traced) -> None:
    trace = traced([[0.5, 0.5]] * 3)
    assert (trace.exit_layer, trace.fired) == (3, (False,) * 3)
    assert "no layer is left" in trace.reasons[-1]


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_the_window_is_reported_by_the_policys_own_criterion(traced: Traced, criterion: str) -> None:
    rows = [[0.4, 0.6], [0.35, 0.65], [0.3, 0.7], [0.6, 0.4], [0.6, 0.4]]
    trace = traced(rows, make("elbert", threshold=0.0, window=2, criterion=criterion, tolerance=0.1))
    assert trace.steady == (None, True, True, False, True)
    assert trace.fired == (False, True, True, False, True)
    off = traced(rows, make("elbert", threshold=0.0, window=0))
    assert off.steady == (None,) * 5


def test_reasons_name_classes_as_the_model_does(traced: Traced) -> None:
    policy = make("patience", patience=2)
    assert "“class 0”" in traced([[0.1, 0.9]] * 3, policy, labels=("good", "class 0")).reasons[-1]
    multi = traced([[0.1, 0.9, 0.7]] * 3, policy, labels=("a", "b", "c"), problem_type=KINDS[1])
    assert "“b”, “c”" in multi.reasons[-1]


def test_classes_that_are_called_like_numbers_are_named_as_they_are(traced: Traced) -> None:
    # A line that is read for "class 1" would name another class here, or one that is not there.
    labels = ("class 1", "class 2", "labels 7")
    multi = traced([[0.9, 0.1, 0.8]] * 3, make("patience", patience=2), labels=labels, problem_type=KINDS[1])
    assert "“class 1”, “labels 7”, " in multi.reasons[-1]
    single = traced([[0.1, 0.9]] * 3, make("patience", patience=2), labels=("class 1", "class 7"))
    assert single.reasons[-1].count("“class 7”") == 1


def test_a_pair_is_traced_half_by_half_and_a_cut_is_told(build: Build) -> None:
    classifier = build()
    trace = classifier.trace(("a warm film", "a dull film"))
    assert [word.text for word in trace.words if word.half == 1] == ["a", "dull", "film"]
    assert not trace.truncated
    long = classifier.trace("a warm film " * 500)
    assert long.truncated
    assert len(long.tokens) == classifier.max_length


def test_tokens_are_those_the_engine_reads(build: Build) -> None:
    classifier = build()
    trace = classifier.trace("a warm film")
    ids = classifier.tokenizer("a warm film")["input_ids"]
    assert list(trace.tokens) == classifier.tokenizer.convert_ids_to_tokens(ids)


def test_a_text_that_is_traced_is_tokenised_once(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, calls = build(), list[Any]()
    tokenise = PlainTokenizer.__call__

    def spy(self: PlainTokenizer, texts: Any, **more: Any) -> Any:
        calls.append(texts)
        return tokenise(self, texts, **more)

    monkeypatch.setattr(PlainTokenizer, "__call__", spy)
    classifier.trace("a warm film")
    assert calls == [["a warm film"]]


def test_json_holds_every_number_of_the_trace(build: Build) -> None:
    trace = build().trace("a warm film")
    content: Any = json.loads(json.dumps(trace.to_dict()))
    assert torch.allclose(torch.tensor(content["probs"]), trace.probs, atol=1e-6)
    assert torch.allclose(torch.tensor(content["attention"]), trace.attention, atol=1e-6)
    assert content["policy"] == trace.policy
    assert [word["text"] for word in content["words"]][1:-1] == ["a", "warm", "film"]
