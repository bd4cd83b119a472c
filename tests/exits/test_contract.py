"""What holds for every registered policy: pure, row-wise, serialisable, explainable, and safe on odd input."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch

from elbert.errors import ElbertError, UsageError
from elbert.exits import ExitPolicy, get, make, names, replay
from elbert.results import ExitOutput, LayerOutputs

KINDS = ["single_label_classification", "multi_label_classification", "regression"]
EVERY = pytest.mark.parametrize("name", names())
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def walk(policy: ExitPolicy, outputs: LayerOutputs, **start: Any) -> Any:
    """Yield (state before, output, layer, leave, state after) at every layer, nobody leaving."""
    texts, layers, _ = outputs.probs.shape
    state = policy.start(texts, **start)
    for depth in range(layers):
        output = ExitOutput(outputs.probs[:, depth], outputs.logits[:, depth], None, outputs.problem_type)
        layer = torch.full((texts,), depth + 1)
        leave, after = policy.update(state, output, layer)
        yield state, output, layer, leave, after
        state = after


@EVERY
@EVERY_KIND
def test_update_changes_neither_its_state_nor_the_output(name: str, kind: Any, make_outputs: Any) -> None:
    for state, output, layer, _, after in walk(make(name), make_outputs(1, problem_type=kind)):
        copies = [each.clone() for each in (*state.values(), output.probs, output.logits, layer)]
        make(name).update(state, output, layer)
        now = (*state.values(), output.probs, output.logits, layer)
        assert all(torch.equal(a.nan_to_num(-9), b.nan_to_num(-9)) for a, b in zip(copies, now, strict=True))
        # What is remembered must survive a caller that reuses its buffers.
        assert all(value.data_ptr() != output.probs.data_ptr() for value in after.values())


@EVERY
@EVERY_KIND
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_state_and_decision_have_one_entry_per_row(name: str, kind: Any, rows: int, make_outputs: Any) -> None:
    outputs = make_outputs(2, texts=rows, layers=3, problem_type=kind)
    for state, _, _, leave, after in walk(make(name), outputs, num_labels=3):
        assert leave.shape == (rows,)
        assert leave.dtype == torch.bool
        for key in state:
            assert state[key].shape == after[key].shape
            assert state[key].dtype == after[key].dtype
            assert len(state[key]) == rows


@EVERY
@EVERY_KIND
def test_a_start_without_the_number_of_classes_decides_the_same(name: str, kind: Any, make_outputs: Any) -> None:
    outputs = make_outputs(3, texts=40, problem_type=kind)
    informed = [leave for _, _, _, leave, _ in walk(make(name), outputs, num_labels=3)]
    widened = [leave for _, _, _, leave, _ in walk(make(name), outputs)]
    assert torch.stack(informed).equal(torch.stack(widened))


@EVERY
@EVERY_KIND
@pytest.mark.parametrize("classes", [2, 5, 77, 150])
def test_a_row_is_scored_bit_for_bit_the_same_alone_as_in_company(
    name: str, kind: Any, classes: int, make_outputs: Any
) -> None:
    outputs = make_outputs(4, texts=33, classes=classes, problem_type=kind)
    alone = [
        list(
            walk(
                make(name),
                dataclasses.replace(outputs, probs=outputs.probs[i : i + 1], logits=outputs.logits[i : i + 1]),
            )
        )
        for i in range(33)
    ]
    for depth, (_, _, _, leave, after) in enumerate(walk(make(name), outputs)):
        for key, values in after.items():
            single = torch.cat([rows[depth][4][key] for rows in alone])
            assert torch.equal(values.nan_to_num(-9), single.nan_to_num(-9))
        assert leave.equal(torch.cat([rows[depth][3] for rows in alone]))


@EVERY
@EVERY_KIND
def test_one_layer_and_no_text_are_fine(name: str, kind: Any, make_outputs: Any) -> None:
    assert replay(make(name), make_outputs(5, layers=1, problem_type=kind)).tolist() == [1] * 8
    assert replay(make(name), make_outputs(5, texts=0, problem_type=kind)).shape == (0,)


@EVERY
def test_one_value_per_text_is_read_as_regression(name: str, make_outputs: Any) -> None:
    values = make_outputs(6, texts=30, classes=1, problem_type="regression")
    as_softmax = dataclasses.replace(values, problem_type="single_label_classification")
    assert replay(make(name), values).equal(replay(make(name), as_softmax))
    assert replay(make(name), values).equal(replay(make(name), values.probs))


@pytest.mark.parametrize("name", ["entropy", "max_prob", "pcee", "beem"])
def test_rules_of_confidence_never_leave_early_on_regression(name: str, make_outputs: Any) -> None:
    outputs = make_outputs(7, texts=30, problem_type="regression")
    for policy in [make(name), make(name, threshold=0.0), make(name, threshold=1.0)]:
        assert replay(policy, outputs).tolist() == [12] * 30


@EVERY
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_names_row_and_layer(name: str, bad: float, make_outputs: Any) -> None:
    outputs = make_outputs(8)
    outputs.probs[5, 3, 1] = bad
    with pytest.raises(ElbertError, match=r"row 5 at layer 4 is NaN or infinite \(1 such"):
        list(walk(make(name), outputs))
    with pytest.raises(ElbertError, match=r"row 5 at layer 4 "):
        replay(make(name), outputs)


def test_a_sum_too_great_for_half_precision_is_no_error() -> None:
    values = torch.full((4, 2, 1), 60000.0, dtype=torch.float16)
    assert replay(make("full"), values, "regression").tolist() == [2] * 4
    output = ExitOutput(values[:, 0], values[:, 0], None, "regression")
    make("full").update({}, output, torch.ones(4, dtype=torch.int64))


@EVERY
def test_every_policy_of_the_grid_survives_json(name: str) -> None:
    for num_labels in (1, 2, 5):
        for policy in get(name).grid(12, num_labels):
            saved = json.loads(json.dumps(policy.to_dict()))
            assert saved["name"] == name
            assert ExitPolicy.from_dict(saved) == policy


@EVERY
@pytest.mark.parametrize(("layers", "num_labels"), [(1, 2), (2, 2), (4, 1), (12, 2), (24, 150)])
def test_the_grid_is_a_sweep_without_repetition(name: str, layers: int, num_labels: int) -> None:
    grid = get(name).grid(layers, num_labels)
    assert grid
    assert len({json.dumps(policy.to_dict()) for policy in grid}) == len(grid) <= 100


@EVERY
@EVERY_KIND
def test_the_grid_starts_fast_and_ends_slow(name: str, kind: Any, make_outputs: Any) -> None:
    outputs = make_outputs(9, texts=300, classes=1 if kind == "regression" else 3, problem_type=kind)
    depths = [replay(policy, outputs).float().mean() for policy in get(name).grid(12, outputs.probs.shape[-1])]
    assert depths[0] <= min(depths) + 0.5
    assert depths[-1] >= max(depths) - 0.5


@EVERY
@EVERY_KIND
def test_explain_has_one_line_per_row_that_tells_the_decision(name: str, kind: Any, make_outputs: Any) -> None:
    policy = make(name)
    for _, output, layer, leave, after in walk(policy, make_outputs(10, problem_type=kind)):
        lines = policy.explain(output, layer, after, leave)
        assert len(lines) == len(layer)
        for line, depth, left in zip(lines, layer.tolist(), leave.tolist(), strict=True):
            assert "\n" not in line
            assert line.startswith(f"layer {depth}: {'leaves: ' if left else 'goes on: '}")
        forced = policy.explain(output, layer, after, torch.ones_like(leave))
        assert all(("as no layer is left" in line) != left for line, left in zip(forced, leave.tolist(), strict=True))


@pytest.mark.parametrize("name", [name for name in names() if "threshold" in make(name).to_dict()])
def test_explain_and_update_agree_where_fp32_rounds_the_threshold(name: str) -> None:
    # 0.9 is not a float32: a score of float32(0.9) is equal to the threshold, neither above nor below it.
    for kind in KINDS[:2]:
        probs = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
        output = ExitOutput(probs, probs.log(), None, kind)
        layer = torch.ones(2, dtype=torch.int64)
        for score in (0.1, 0.3, 0.7, 0.9):
            policy = make(name, threshold=score)
            leave, state = policy.update(policy.start(2), output, layer)
            told = [": leaves:" in line for line in policy.explain(output, layer, state, leave)]
            assert told == leave.tolist()


@EVERY
def test_every_policy_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    policy = get(name)
    assert policy.name == name
    for text in (policy.summary, policy.citation):
        assert text
        assert "\n" not in text


@pytest.mark.parametrize("shape", [(3, 4), (3, 0, 2), (3, 4, 0), (3, 4, 5, 6)])
def test_replay_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"given a tensor of shape .*allowed: \[texts, layers, classes\]"):
        replay(make("elbert"), torch.zeros(shape))
