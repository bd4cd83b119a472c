from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from elbert.calibration import calibrate
from elbert.calibration.paths import path
from elbert.exits import make, names, replay
from elbert.results import LayerOutputs
from elbert.tasks import SINGLE_LABEL, task_of


@pytest.mark.parametrize("layers", [6, 12, 24])
def test_along_elberts_path_texts_leave_ever_earlier(record: Any, layers: int) -> None:
    outputs, _ = record(200, layers=layers, classes=2)
    tried = path(make("elbert"), layers, 2, SINGLE_LABEL)
    assert len(tried.sequences) == 1
    depth = [float(replay(policy, outputs).double().mean()) for policy in tried.policies]
    assert (np.diff(depth) <= 0).all()
    assert depth[0] > layers - 1
    assert depth[-1] < 2


def unsure(outputs: LayerOutputs) -> LayerOutputs:
    """Return the recording with the same answers, none of them sure: the entropies lie near 1."""
    logits = 0.03 * outputs.logits
    return dataclasses.replace(outputs, logits=logits, probs=logits.softmax(-1))


@pytest.mark.parametrize("family", ["entropy", "max_prob", "any"])
def test_a_path_steps_over_no_exits_for_being_unsure(record: Any, family: str) -> None:
    outputs = unsure(record(400, layers=12, classes=2)[0])
    depth = [float(replay(each, outputs).double().mean()) for each in path(make(family), 12, 2, SINGLE_LABEL).policies]
    assert max(-np.diff(depth)) < 3


@pytest.mark.parametrize("family", ["elbert", "entropy", "max_prob"])
def test_unsure_exits_that_lose_little_are_used(record: Any, family: str) -> None:
    outputs, labels = record(2000, layers=24, classes=2)
    assert float(unsure(outputs).probs.max()) < 0.7
    found = calibrate(unsure(outputs), labels, {"some": 0.02}, family=family)["some"]
    assert found.guaranteed
    assert found.evidence["mean_exit_layer"] < 18


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification", "regression"])
def test_a_shallow_model_has_a_path_too(record: Any, layers: int, kind: Any) -> None:
    outputs, _ = record(20, layers=layers, kind=kind)
    tried = path(make("elbert"), layers, 3, task_of(kind)).policies
    assert tried
    for policy in tried:
        assert int(replay(policy, outputs).max()) <= layers


def test_the_path_does_not_depend_on_any_text() -> None:
    assert path(make("elbert"), 12, 2, SINGLE_LABEL) == path(make("elbert"), 12, 150, SINGLE_LABEL)


def test_where_nothing_may_be_lost_the_path_starts_where_texts_leave_early() -> None:
    windows = [policy.window for policy in path(make("elbert"), 12, 2, SINGLE_LABEL, nothing=True).policies]  # type: ignore[attr-defined]
    assert max(windows) == 6


def test_every_policy_has_something_to_try_and_only_a_single_row_of_settings_is_taken_as_an_order() -> None:
    for name in names():
        tried = path(make(name), 12, 3, SINGLE_LABEL)
        assert tried.policies
        assert bool(tried.sequences) == (name not in ("pcee", "f_pabee", "epee", "cap", "saturation")), name


def test_with_a_layer_0_its_threshold_falls_along_the_path_and_each_of_the_two_has_one_alone(record: Any) -> None:
    alone, tried = (path(make("elbert"), 6, 2, SINGLE_LABEL, words=words) for words in (False, True))
    together, exits, words = ([tried.policies[place] for place in each.places] for each in tried.sequences)
    assert [each.share for each in tried.sequences] == [0.9, 0.05, 0.05]
    assert tuple(exits) == alone.policies == tuple(dataclasses.replace(each, words=None) for each in together)
    for sequence in (together, words):
        thresholds = [1.0 if each.words is None else each.words for each in sequence]
        assert thresholds == sorted(thresholds, reverse=True)
        assert thresholds[-1] == 0.6
        assert len(set(thresholds)) > 20
    assert {dataclasses.replace(each, words=None) for each in words} == {alone.policies[0]}
    unordered = path(make("pcee"), 6, 2, SINGLE_LABEL, words=True)
    assert not unordered.sequences
    assert {each.words for each in unordered.policies} > {None}
