"""Skip gates in a calibration: tried with every policy, judged against full depth with no layer skipped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from elbert import Classifier
from elbert.calibration import calibrate
from elbert.errors import UsageError
from elbert.exits import make, replay
from elbert.exits.gates import SkipGates, asked_gates
from tests.calibration.conftest import leaving_out

TRAINED = SkipGates()


def test_gates_are_asked_for_by_word_by_threshold_or_not_at_all() -> None:
    assert asked_gates(None, TRAINED) == asked_gates([], TRAINED) == asked_gates("auto", None) == ()
    assert asked_gates("auto", TRAINED) == asked_gates(0.5, TRAINED) == asked_gates([0.5, TRAINED], TRAINED)
    assert asked_gates([0.3, 0.7], TRAINED) == (SkipGates(0.3), SkipGates(0.7))
    with pytest.raises(UsageError, match="gates were never trained"):
        asked_gates(0.5, None)
    with pytest.raises(UsageError, match="threshold is 'all'; allowed: a number from 0 to 1"):
        asked_gates("all", TRAINED)


@pytest.mark.parametrize("family", ["elbert", "pcee"])
@pytest.mark.parametrize("labelled", [True, False])
def test_gates_that_cost_nothing_are_taken_and_the_evidence_says_so(record: Any, family: str, labelled: bool) -> None:
    outputs, labels = record(1500, classes=2)
    outputs = dataclasses.replace(outputs, logits=outputs.logits.clone())
    outputs.logits[:, :4] = 0  # the first four layers know nothing, so that nobody leaves before there
    outputs = dataclasses.replace(outputs, probs=outputs.logits.softmax(-1))
    gated, given = leaving_out(outputs, TRAINED), labels if labelled else None
    asked: dict[str, Any] = {"family": family, "promises": {"some": 0.05}}
    plain = calibrate(outputs, given, **asked)["some"].evidence
    found = calibrate(outputs, given, shortened=[gated], **asked)["some"]
    assert found.guaranteed
    assert found.policy.gates == TRAINED
    evidence = found.evidence
    assert (evidence["gates"], "schedules" in evidence, "token_layers" in evidence) == ([0.5], False, False)
    assert "leaving early and skipping layers cost less than 0.05" in evidence["note"]
    assert "skipping" not in plain["note"]
    assert "gates" not in plain
    assert evidence["tried"] == 2 * plain["tried"]
    exit_layer = replay(found.policy, gated).numpy()
    assert evidence["mean_exit_layer"] == pytest.approx(exit_layer.mean(), rel=1e-5)
    assert evidence["mean_exit_layer"] < plain["mean_exit_layer"] - 1
    assert evidence["full_depth_score"] == plain["full_depth_score"]


@pytest.fixture
def gated(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> Classifier:
    """A model of four layers whose gates let every text past layer 2, and some past layer 3."""
    kinds = {"id2label": {0: "bad", 1: "good"}, "problem_type": "single_label_classification"}
    model = tiny_model("bert", "full", num_labels=2, num_hidden_layers=4, **kinds)
    classifier = Classifier(model, tiny_tokenizer)
    weights = np.random.default_rng(0).normal(size=(2, model.config.hidden_size + 1))
    weights[0, :-1], weights[0, -1] = 0, 5
    classifier.keep("gated", make("entropy", gates=SkipGates().with_weights(weights)))
    return classifier


def test_a_model_with_gates_is_calibrated_with_them_and_saved_and_answers_as_any_other(
    gated: Classifier, tiny_texts: list[str], tmp_path: Any
) -> None:
    texts = [f"{tiny_texts[row % 8]} {row}" for row in range(100)]
    data, seen = (texts, ["bad", "good"] * 50), []
    asked: dict[str, Any] = {"max_drop": 0.5, "confidence": 0.8, "policy": "full"}
    (found,) = gated.calibrate(*data, **asked, on_texts=seen.append).values()
    assert sum(seen) == 2 * len(texts)
    assert found.guaranteed
    assert found.policy.gates == SkipGates(0.5)
    assert found.evidence["gates"] == [0.5]
    assert found.evidence["mean_exit_layer"] <= 3
    gated.save_pretrained(tmp_path / "m")
    again = Classifier.from_pretrained(tmp_path / "m")
    assert again.policy == found.policy
    answers = again.predict(texts[:9])
    assert answers == gated.predict(texts[:9])
    exit_layer = replay(found.policy, gated.record(texts[:9], gates=found.policy.gates))
    assert [each.exit_layer for each in answers] == exit_layer.tolist()
    again.check(texts[:9])
    (none,) = gated.calibrate(*data, **asked, gates=None).values()
    assert none.policy.gates is None
    (both,) = gated.calibrate(*data, **asked, gates=[0.4, 1.0]).values()
    assert both.evidence["gates"] == [0.4, 1.0]


def test_who_takes_no_gates_says_so_before_a_text_is_run(
    gated: Classifier, tiny_model: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    texts, seen = [f"text {row}" for row in range(40)], []
    asked: dict[str, Any] = {"labels": ["bad", "good"] * 20, "max_drop": 0.5, "on_texts": seen.append}
    with pytest.raises(UsageError, match="'certainty' learns from every layer's exit, and cannot skip layers"):
        gated.calibrate(texts, policy="certainty", gates=0.5, **asked)
    plain = Classifier(tiny_model("bert", num_labels=2), tiny_tokenizer)
    with pytest.raises(UsageError, match="gates were never trained"):
        plain.calibrate(texts, max_drop=0.5, gates=[0.5], on_texts=seen.append)
    assert not seen
    (found,) = gated.calibrate(texts, policy="budget", **asked).values()  # learns, so that the gates are not tried
    assert "gates" not in found.evidence
