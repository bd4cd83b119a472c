"""A run counts who leaves where and what that changed, and picks the texts worth reading."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from elbert.exits import make
from elbert.reports.run import Run
from elbert.reports.texts import MOST, worth_reading
from elbert.results import LayerOutputs
from tests.reports.conftest import KINDS

# p("good") of five texts after three layers; with max_prob 0.8 they leave at 1, 1, 2, 3 and 1.
GOOD = [[0.9, 0.9, 0.9], [0.9, 0.7, 0.2], [0.5, 0.1, 0.9], [0.5, 0.6, 0.4], [0.1, 0.1, 0.1]]
GOLD = [1, 1, 1, 0, 1]


def run_with(good: Any = GOOD, gold: Any = GOLD) -> Run:
    first = torch.tensor(good)
    probs = torch.stack((1 - first, first), -1)
    outputs = LayerOutputs(probs.log(), probs, torch.arange(4, 4 + len(good)))
    texts = [f"text {row}" for row in range(len(good))]
    policy = make("max_prob", threshold=0.8)
    leaves = [next((k + 1 for k, p in enumerate(row) if max(p, 1 - p) > 0.8), len(row)) for row in good]
    return Run(texts, gold, ("bad", "good"), outputs, torch.tensor(leaves), policy)


def test_a_run_counts_corrected_and_hurt_texts() -> None:
    run = run_with()
    assert run.exit_layer.tolist() == [1, 1, 2, 3, 1]
    assert run.histogram == [3, 1, 1]
    assert run.mean_exit_layer == pytest.approx(8 / 5)
    assert run.changed.tolist() == [False, True, True, False, False]
    verdicts = run.verdicts
    assert verdicts is not None
    assert verdicts.at_exit.tolist() == [True, True, False, True, False]
    assert verdicts.corrected.tolist() == [False, True, False, False, False]
    assert verdicts.hurt.tolist() == [False, False, True, False, False]
    assert verdicts.wrong.tolist() == [False, False, False, False, True]
    assert run.to_dict()["right"] == {"at_exit": 3, "at_last": 3, "corrected": 1, "hurt": 1}


def test_without_labels_there_are_changes_but_no_verdicts() -> None:
    run = run_with(gold=None)
    assert run.verdicts is None
    assert run.to_dict()["changed"] == 2
    assert run.to_dict()["right"]["hurt"] is None
    assert "The exit changed the answer" in [group.title for group in worth_reading(run)]


def test_the_texts_worth_reading_are_named_by_what_happened_to_them() -> None:
    groups = {group.title: group.rows for group in worth_reading(run_with())}
    assert groups["Overthinking mitigated"] == (1,)
    assert groups["Left too soon"] == (2,)
    assert groups["Sure and wrong"] == (4,)
    assert groups["Latest exits"] == (3,)
    assert "The exit changed the answer" not in groups


@pytest.mark.parametrize("labelled", [True, False])
def test_at_most_twenty_texts_are_picked_and_none_twice(labelled: bool) -> None:
    torch.manual_seed(0)
    good = torch.rand(300, 6).tolist()
    rows = [row for group in worth_reading(run_with(good, [0, 1] * 150 if labelled else None)) for row in group.rows]
    assert len(rows) == len(set(rows))
    assert 10 < len(rows) <= MOST


def test_multi_label_is_right_only_with_every_label() -> None:
    probs = torch.tensor([[[0.9, 0.9], [0.9, 0.1]]])
    outputs = LayerOutputs(probs.logit(), probs, torch.tensor([4]), problem_type=KINDS[1])  # type: ignore[arg-type]
    run = Run(["x"], [[1.0, 1.0]], ("joy", "fear"), outputs, torch.tensor([1]), make("full"))
    assert run.verdicts is not None
    assert run.verdicts.corrected.tolist() == [True]


def test_regression_has_no_verdicts_and_shows_what_moved() -> None:
    values = torch.tensor([[[1.0], [1.5]], [[2.0], [2.0]]])
    outputs = LayerOutputs(values, values, torch.tensor([4, 5]), problem_type="regression")
    run = Run(["x", "y"], [1.0, 2.0], (), outputs, torch.tensor([1, 1]), make("full"))
    assert run.verdicts is None
    assert worth_reading(run)[0].title == "Moved most after the exit"
    assert worth_reading(run)[0].rows == (0,)
