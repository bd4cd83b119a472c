"""The paper's two patterns, and what else can happen between the exit and the last layer, are named as they occur."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from elbert.exits import make
from elbert.results import Trace
from elbert.tracing.patterns import pattern_of
from tests.tracing.conftest import KINDS

Traced = Callable[..., Trace]
SURE, OTHER, EVEN = [0.05, 0.95], [0.7, 0.3], [0.5, 0.5]


def test_simple_input_simple_exit(traced: Traced) -> None:
    pattern = pattern_of(traced([SURE] * 4))
    assert pattern.name == "simple"
    assert pattern.title == "Simple input, simple exit"
    assert "3 layers" in pattern.words


@pytest.mark.parametrize(("skipped", "words"), [((2, 4, 5), "The 2 layers that"), ((2, 3, 4, 5), "The layer that")])
def test_layers_that_its_gates_would_have_skipped_are_not_said_to_agree(
    traced: Traced, skipped: tuple[int, ...], words: str
) -> None:
    pattern = pattern_of(replace(traced([SURE] * 6), skipped=skipped))
    assert pattern.name == "simple"
    assert pattern.words.startswith(words)


@pytest.mark.parametrize(
    ("gold", "name", "title"),
    [
        (1, "mitigated", "Overthinking mitigated"),
        (0, "hurt", "Left too soon"),
        (None, "differs", "The answer at the exit differs from the last layer's"),
    ],
)
def test_an_exit_that_changes_the_answer_is_named_by_who_is_right(
    traced: Traced, gold: int | None, name: str, title: str
) -> None:
    pattern = pattern_of(traced([SURE, SURE, OTHER]), gold)
    assert (pattern.name, pattern.title) == (name, title)
    assert "“good”" in pattern.words
    assert "“bad”" in pattern.words


def test_wrong_either_way_is_neither_of_them(traced: Traced) -> None:
    trace = traced([[0.02, 0.02, 0.96], [0.5, 0.3, 0.2]], labels=("a", "b", "c"))
    assert pattern_of(trace, 1).title == "Wrong either way"


def test_a_text_that_runs_all_layers_is_late_whatever_it_says(traced: Traced) -> None:
    trace = traced([EVEN, OTHER, EVEN])
    assert pattern_of(trace, 0).name == "late"
    assert pattern_of(trace, 0).title == "Ran to full depth"
    assert pattern_of(replace(trace, skipped=(2,)), 0).title == "Ran to the last layer, not all before it"


def test_a_change_in_between_or_an_exit_past_the_middle_is_not_simple(traced: Traced) -> None:
    between = pattern_of(traced([SURE, OTHER, SURE, SURE]))
    assert between.name == "plain"
    assert "in between" in between.words
    assert pattern_of(traced([EVEN, EVEN, SURE, SURE])).name == "plain"


def test_values_are_near_or_far_but_never_right(traced: Traced) -> None:
    trace = traced([[1.0], [1.2], [1.5]], make("fixed", layer=1), labels=(), problem_type=KINDS[2])
    pattern = pattern_of(trace, 1.1)
    assert pattern.name == "plain"
    for word in ("0.500", "0.100", "0.400"):
        assert word in pattern.words


def test_sets_of_labels_are_right_only_as_a_whole(traced: Traced) -> None:
    rows = [[0.9, 0.9], [0.9, 0.2]]
    policy = make("fixed", layer=1)
    trace = traced(rows, policy, labels=("joy", "fear"), problem_type=KINDS[1])
    assert pattern_of(trace, [1.0, 1.0]).name == "mitigated"
    assert pattern_of(trace, [1.0, 0.0]).name == "hurt"
