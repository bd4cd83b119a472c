"""Skip gates in a calibration: tried with every policy, judged against full depth with no layer skipped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from elbert import Classifier
from elbert.calibration import calibrate
from elbert.calibration.paths import path, with_shortcuts
from elbert.errors import UsageError
from elbert.exits import make, replay
from elbert.exits.gates import SkipGates, asked_gates
from elbert.exits.tokens import TokenSchedule
from elbert.results import LayerOutputs
from elbert.tasks import SINGLE_LABEL

TRAINED = SkipGates()
HALF = TokenSchedule(((1, 0.5),))


def skipped(outputs: LayerOutputs, gates: SkipGates, *, wrong: float = 0.0) -> LayerOutputs:
    """Return the recording as if every text had skipped layers 2 to 4, and answered otherwise in a share of all."""
    depth = torch.tensor([1, 5, 6, 6, 6, 6])
    turned = torch.rand(len(outputs.probs), generator=torch.Generator().manual_seed(1)) < wrong
    logits = torch.where(turned[:, None, None], outputs.logits.roll(1, -1), outputs.logits)[:, depth - 1]
    depths = depth.expand(len(logits), -1)
    return dataclasses.replace(outputs, logits=logits, probs=logits.softmax(-1), gates=gates, depth=depths)


def test_gates_are_asked_for_by_word_by_threshold_or_not_at_all() -> None:
    assert asked_gates(None, TRAINED) == asked_gates([], TRAINED) == asked_gates("auto", None) == ()
    assert asked_gates("auto", TRAINED) == asked_gates(0.5, TRAINED) == asked_gates([0.5, TRAINED], TRAINED)
    assert asked_gates([0.3, 0.7], TRAINED) == (SkipGates(0.3), SkipGates(0.7))
    with pytest.raises(UsageError, match="gates were never trained"):
        asked_gates(0.5, None)
    with pytest.raises(UsageError, match="threshold is 'all'; allowed: a number from 0 to 1"):
        asked_gates("all", TRAINED)


def test_gates_share_the_level_with_schedules_and_with_nothing_left_out() -> None:
    alone = path(make("elbert"), 6, 2, SINGLE_LABEL, words=True)
    tried = with_shortcuts(alone, (None, HALF, TRAINED))
    assert len(tried.policies) == 3 * len(alone.policies)
    assert sum(each.share for each in tried.sequences) == pytest.approx(1)
    assert {(each.tokens, each.gates) for each in tried.policies} == {(None, None), (HALF, None), (None, TRAINED)}
    for own, given in zip(tried.sequences[6:], alone.sequences, strict=True):
        assert own.share == pytest.approx(given.share / 3)
        wanted = [dataclasses.replace(alone.policies[at], gates=TRAINED) for at in given.places]
        assert [tried.policies[at] for at in own.places] == wanted


@pytest.mark.parametrize("family", ["elbert", "pcee"])
@pytest.mark.parametrize("labelled", [True, False])
def test_gates_that_cost_nothing_are_taken_and_the_evidence_says_so(record: Any, family: str, labelled: bool) -> None:
    outputs, labels = record(1500, classes=2)
    outputs = dataclasses.replace(outputs, logits=outputs.logits.clone())
    outputs.logits[:, :4] = 0  # the first four layers know nothing, so that nobody leaves before there
    outputs = dataclasses.replace(outputs, probs=outputs.logits.softmax(-1))
    gated, given = skipped(outputs, TRAINED), labels if labelled else None
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


def test_what_skipping_loses_is_held_against_full_depth_with_every_layer(record: Any) -> None:
    """Against what the gates leave of full depth they would lose nothing, wherever texts leave."""
    outputs, labels = record(1500, classes=2)
    last = outputs.logits[:, -1:].repeat(1, 6, 1)
    last[:, :2] = 0
    whole = dataclasses.replace(outputs, logits=last, probs=last.softmax(-1))
    for given in (labels, None):
        asked: dict[str, Any] = {"promises": {"some": 0.05}, "family": "max_prob"}
        bad = calibrate(whole, given, shortened=[skipped(whole, TRAINED, wrong=0.2)], **asked)["some"]
        assert bad.guaranteed
        assert bad.policy.gates is None
        good = calibrate(whole, given, shortened=[skipped(whole, TRAINED)], **asked)["some"]
        assert good.policy.gates == TRAINED


def test_a_protected_class_is_protected_from_skipped_layers_too(record: Any) -> None:
    outputs, labels = record(3000, classes=3)
    gated, rare = skipped(outputs, TRAINED), torch.tensor(labels) == 2
    logits = torch.where(rare[:, None, None], gated.logits.roll(1, -1), gated.logits)
    gated = dataclasses.replace(gated, logits=logits, probs=logits.softmax(-1))
    outputs.logits[:, :4] = 0
    outputs = dataclasses.replace(outputs, probs=outputs.logits.softmax(-1))
    asked: dict[str, Any] = {"promises": {"much": 0.5}, "family": "max_prob", "shortened": [gated]}
    assert calibrate(outputs, labels, **asked)["much"].policy.gates == TRAINED
    assert calibrate(outputs, labels, protect=[2], **asked)["much"].policy.gates is None


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
