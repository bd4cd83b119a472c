"""What each problem type makes of the same numbers, beside the slow and obvious."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import elbert
from elbert.results import ProblemType
from elbert.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS, Task, default_task, task_of

NAMES = ("cold", "warm", "hot")
LOGITS = torch.tensor([[0.1, 0.9, -1.0], [2.0, -1.0, 3.0]])


def test_probabilities_add_up_to_one_stand_each_for_itself_or_are_values() -> None:
    assert torch.allclose(SINGLE_LABEL.probabilities(LOGITS).sum(-1), torch.ones(2))
    assert torch.allclose(MULTI_LABEL.probabilities(LOGITS), 1 / (1 + (-LOGITS).exp()))
    assert torch.equal(REGRESSION.probabilities(LOGITS), LOGITS)


def test_decisions_of_tensors_and_arrays_are_the_same() -> None:
    wanted = {"single_label_classification": [1, 2], "multi_label_classification": [[0, 1, 0], [1, 0, 1]]}
    probs = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.4, 0.9]])
    for problem_type, task in TASKS.items():
        given = task.decisions(probs)
        assert np.array_equal(given.numpy(), task.decisions(probs.numpy()))
        if problem_type in wanted:
            assert given.tolist() == wanted[problem_type]
    assert REGRESSION.decisions(torch.tensor([[1.5], [2.5]])).tolist() == [1.5, 2.5]
    assert REGRESSION.decisions(probs).shape == (2, 3)


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_an_answer_encoded_again_is_the_decision_it_came_from(task: Task) -> None:
    probs = task.probabilities(LOGITS)
    encoded = [task.encoded(label, NAMES) for label, _ in task.answers(probs, NAMES)]
    assert torch.allclose(torch.tensor(encoded).double(), task.decisions(probs).double())


@pytest.mark.parametrize(
    ("task", "words"), [(SINGLE_LABEL, "warm"), (MULTI_LABEL, "cold + warm"), (REGRESSION, "0.50, 0.70, 0.10")]
)
def test_words_say_the_answer(task: Task, words: str) -> None:
    assert task.words([0.5, 0.7, 0.1], NAMES) == words
    assert MULTI_LABEL.words([0.1, 0.2, 0.3], NAMES) == "no label"


def test_the_losses_are_cross_entropy_yes_or_no_and_squared_error() -> None:
    logits = LOGITS[:, None]  # two texts, one exit
    single = SINGLE_LABEL.exit_losses(logits, torch.tensor([1, 0]))
    by_hand = [
        -math.log(math.exp(row[at]) / sum(map(math.exp, row))) for row, at in zip(LOGITS.tolist(), (1, 0), strict=True)
    ]
    assert single[:, 0].tolist() == pytest.approx(by_hand)
    ones = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    p = 1 / (1 + (-LOGITS).exp())
    assert MULTI_LABEL.exit_losses(logits, ones)[:, 0].tolist() == pytest.approx(
        (-(ones * p.log() + (1 - ones) * (1 - p).log())).mean(-1).tolist(), rel=1e-5
    )
    assert REGRESSION.exit_losses(logits, ones)[:, 0].tolist() == pytest.approx(
        ((LOGITS - ones) ** 2).mean(-1).tolist()
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_an_exit_that_says_what_the_teacher_says_is_at_no_distance(task: Task) -> None:
    teacher = LOGITS[:, None]
    assert task.divergence(teacher, teacher, 2.0).abs().max() < 1e-6
    assert task.divergence(teacher + torch.tensor([1.0, 0.0, -1.0]), teacher, 2.0).min() > 0


def test_a_set_of_labels_costs_right_or_wrong_or_one_minus_its_f1() -> None:
    said, so = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert MULTI_LABEL.mistakes(said, so, "accuracy", 1.0)[0].tolist() == [1, 0]
    costs, _, binary = MULTI_LABEL.mistakes(said, so, "f1_micro", 1.0)
    assert costs.tolist() == pytest.approx([1 / 3, 0])
    assert not binary
    values, about, _ = REGRESSION.mistakes(torch.tensor([1.0, 9.0]), torch.tensor([2.0, 1.0]), "pearson", 4.0)
    assert values.tolist() == [0.25, 1.0]
    assert "/ 4" in about


def test_a_softmax_over_one_class_is_read_as_a_value() -> None:
    single: ProblemType = "single_label_classification"
    assert task_of(single, 1) is REGRESSION is default_task(1)
    assert task_of(single, 2) is task_of(single) is SINGLE_LABEL is default_task(2)
    assert task_of("multi_label_classification", 1) is MULTI_LABEL


def test_no_torch_is_imported_before_there_are_tensors() -> None:
    code = "import sys, elbert.tasks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


BRANCHES = 10
# Values have no names of classes, so that a look whether there are any tells problem types apart as well.
NAMELESS = 15
FLAGS = {"has_classes", "exclusive"}
WORDS = {*TASKS, "SINGLE_LABEL", "MULTI_LABEL", "REGRESSION"}


def _says_a_problem_type(node: ast.AST) -> bool:
    return any(
        getattr(each, "value", None) in TASKS if isinstance(each, ast.Constant) else getattr(each, "id", None) in WORDS
        for each in ast.walk(node)
    )


def _branches(tree: ast.AST) -> list[int]:
    """Lines that tell problem types apart: by comparison, by a table, by a pattern, or by a flag of the task."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            told = any(_says_a_problem_type(side) for side in (node.left, *node.comparators))
        elif isinstance(node, ast.Dict):
            told = any(key is not None and _says_a_problem_type(key) for key in node.keys)
        elif isinstance(node, ast.match_case):
            told = _says_a_problem_type(node.pattern)
        else:
            told = isinstance(node, ast.Attribute) and node.attr in FLAGS
        if told:
            found.append(node.lineno if not isinstance(node, ast.match_case) else node.pattern.lineno)
    return found


def _places(find: Callable[[ast.AST], list[int]]) -> list[str]:
    """Where `find` finds lines, outside of the tasks."""
    package = Path(elbert.__file__).parent
    return [
        f"{path.relative_to(package)}:{line}"
        for path in sorted(package.rglob("*.py"))
        if path.parent.name != "tasks"
        for line in find(ast.parse(path.read_text(encoding="utf-8")))
    ]


def test_hardly_anything_but_the_tasks_tells_problem_types_apart() -> None:
    places = _places(_branches)
    assert len(places) <= BRANCHES, places


def _asks_for_names(tree: ast.AST) -> list[int]:
    """Lines at which it matters whether there are names of classes at all."""
    tests: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.If, ast.IfExp, ast.While)):
            tests.append(node.test)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            tests.append(node.operand)
        elif isinstance(node, ast.BoolOp):
            tests += node.values
    named = [each for each in tests if isinstance(each, ast.Attribute)]
    return sorted({each.lineno for each in named if ast.unparse(each).endswith((".names", "trace.labels"))})


def test_hardly_anything_looks_whether_there_are_names_of_classes() -> None:
    places = _places(_asks_for_names)
    assert len(places) <= NAMELESS, places


@pytest.mark.parametrize("line", ["x = 1 if trace.labels else 2", "if not self.labels.names: pass", "a.names or b"])
def test_every_look_for_names_is_counted(line: str) -> None:
    assert len(_asks_for_names(ast.parse(line))) == 1
    assert not _asks_for_names(ast.parse("dataset.labels or []; x = 1 if dataset.labels is None else 2"))


@pytest.mark.parametrize(
    "line",
    [
        "problem_type == 'regression'",
        "kind in (None, MULTI_LABEL.problem_type)",
        "task.exclusive",
        "{'single_label_classification': f, 'regression': g}[kind]",
        "match kind:\n case 'regression': pass",
        "task is REGRESSION",
    ],
)
def test_every_way_to_tell_them_apart_is_counted(line: str) -> None:
    assert len(_branches(ast.parse(line))) == 1
    assert not _branches(ast.parse("task.decisions(probs), own.problem_type != other.problem_type, {'label': 1}"))
