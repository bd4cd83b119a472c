"""What holds for every registered policy: pure, row-wise, serialisable, explainable, and safe on odd input."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch

from elbert.errors import ElbertError, UsageError
from elbert.exits import ExitPolicy, get, make, names, replay
from elbert.results import ExitOutput, LayerOutputs
from tests.exits.ready import ready

KINDS = ["single_label_classification", "multi_label_classification", "regression"]
EVERY = pytest.mark.parametrize("name", names())
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def walk(policy: ExitPolicy, outputs: LayerOutputs) -> Any:
    """Yield (state before, output, layer, leave, state after) at every layer, nobody leaving."""
    texts, layers, classes = outputs.probs.shape
    probs, logits = outputs.probs.numpy(), outputs.logits.numpy()
    state = policy.start(texts, classes)
    for depth in range(layers):
        output = ExitOutput(probs[:, depth], logits[:, depth], outputs.pooled[:, depth].numpy(), outputs.problem_type)
        layer = np.full(texts, depth + 1)
        leave, after = policy.update(state, output, layer)
        yield state, output, layer, leave, after
        state = after


@EVERY
@EVERY_KIND
def test_update_changes_neither_its_state_nor_the_output(name: str, kind: Any, make_outputs: Any) -> None:
    outputs = make_outputs(1, problem_type=kind)
    policy = ready(name, outputs)
    for state, output, layer, _, after in walk(policy, outputs):
        copies = [each.copy() for each in (*state.values(), output.probs, output.logits, output.pooled, layer)]
        policy.update(state, output, layer)
        now = (*state.values(), output.probs, output.logits, output.pooled, layer)
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(copies, now, strict=True))
        # What is remembered must survive a caller that reuses its buffers.
        given = (output.probs, output.logits, output.pooled)
        assert not any(np.shares_memory(value, each) for value in after.values() for each in given)


def test_what_every_policy_takes_says_when_texts_leave_or_goes_with_them_around_the_exits() -> None:
    common = {field.name for field in dataclasses.fields(ExitPolicy)}
    around = make("entropy", words=0.9, tokens={"1": 0.5}).around
    assert common == {"min_layer", "max_layer", *around}  # one more has to be sorted, or another rule would lose it
    assert dataclasses.replace(make("patience"), **around).around == around


@EVERY
def test_no_text_leaves_sooner_than_the_policy_says(name: str, make_outputs: Any) -> None:
    outputs = make_outputs(7, texts=40, layers=6)
    settings = [each.with_tensors(ready(name, outputs).tensors()) for each in get(name).grid(6, 3)]
    later = [dataclasses.replace(each, min_layer=3) for each in settings]
    for policy in [*settings, *later, *(dataclasses.replace(each, max_layer=2) for each in settings)]:
        assert min(replay(policy, outputs).tolist()) >= min(policy.soonest(6), 6), policy


@pytest.mark.parametrize(
    ("name", "parameters", "soonest"),
    [
        ("entropy", {}, 1),
        ("patience", {"patience": 3}, 4),
        ("f_pabee", {"patience": 2}, 3),
        ("saturation", {"patience": 2}, 3),
        ("pcee", {"patience": 3}, 3),
        ("pcee", {"patience": 3, "max_layer": 2}, 2),
        ("any", {"policies": [{"name": "entropy", "min_layer": 3}, {"name": "patience", "patience": 3}]}, 3),
        ("all", {"policies": [{"name": "entropy", "min_layer": 3}, {"name": "patience", "patience": 3}]}, 4),
        ("full", {}, 6),
    ],
)
def test_texts_that_could_not_be_surer_leave_as_soon_as_the_policy_says(
    name: str, parameters: dict[str, Any], soonest: int
) -> None:
    logits = torch.tensor([30.0, 0.0, 0.0]).expand(5, 6, 3).contiguous()
    outputs = LayerOutputs(logits, logits.softmax(-1), torch.full((5,), 4), torch.ones(5, 6, 4))
    policy = make(name, **parameters)
    assert policy.soonest(6) == soonest
    assert replay(policy, outputs).tolist() == [soonest] * 5


@EVERY
def test_no_setting_of_a_grid_asks_for_more_layers_than_there_are(name: str) -> None:
    assert [each.beyond(6) for each in get(name).grid(6, 3)] == [None] * len(get(name).grid(6, 3))


@pytest.mark.parametrize(
    ("name", "parameters", "line"),
    [
        ("elbert", {}, None),  # its default window of 8 is nobody's wish, and the threshold lets texts leave
        ("elbert", {"window": 9}, "window is 9, and there are only 6 layers, so that changes nothing"),
        ("patience", {}, "patience is 6, and there are only 6 layers: every text goes to the last"),
        ("epee", {}, None),
        ("budget", {"layers": 7.5}, "layers is 7.5, and there are only 6 layers, so that changes nothing"),
        ("any", {"policies": [{"name": "entropy"}, {"name": "fixed", "layer": 7}]}, "layer is 7, and there are only 6"),
    ],
)
def test_what_asks_for_more_layers_than_there_are_says_so(
    name: str, parameters: dict[str, Any], line: str | None
) -> None:
    found = make(name, **parameters).beyond(6)
    assert found is None if line is None else line in str(found)


@EVERY
@EVERY_KIND
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_state_and_decision_have_one_entry_per_row(name: str, kind: Any, rows: int, make_outputs: Any) -> None:
    outputs = make_outputs(2, texts=rows, layers=3, problem_type=kind)
    for state, _, _, leave, after in walk(ready(name, outputs), outputs):
        assert leave.shape == (rows,)
        assert leave.dtype == bool
        for key in state:
            assert state[key].shape == after[key].shape
            assert state[key].dtype == after[key].dtype
            assert len(state[key]) == rows


@EVERY
@EVERY_KIND
@pytest.mark.parametrize("classes", [2, 5, 77, 150])
def test_a_row_is_scored_bit_for_bit_the_same_alone_as_in_company(
    name: str, kind: Any, classes: int, make_outputs: Any
) -> None:
    outputs = make_outputs(4, texts=33, classes=classes, problem_type=kind, pooled=200)
    alone = [
        list(
            walk(
                ready(name, outputs),
                outputs.select(slice(i, i + 1)),
            )
        )
        for i in range(33)
    ]
    for depth, (_, _, _, leave, after) in enumerate(walk(ready(name, outputs), outputs)):
        for key, values in after.items():
            single = np.concatenate([rows[depth][4][key] for rows in alone])
            assert np.array_equal(values, single, equal_nan=True)
        assert leave.tolist() == [bool(rows[depth][3][0]) for rows in alone]


@EVERY
@EVERY_KIND
def test_one_layer_and_no_text_are_fine(name: str, kind: Any, make_outputs: Any) -> None:
    for outputs, expected in ((make_outputs(5, layers=1, problem_type=kind), [1] * 8), (make_outputs(5, texts=0), [])):
        assert replay(ready(name, outputs), outputs).tolist() == expected


@EVERY
def test_one_value_per_text_is_read_as_regression(name: str, make_outputs: Any) -> None:
    values = make_outputs(6, texts=30, classes=1, problem_type="regression")
    as_softmax = dataclasses.replace(values, problem_type="single_label_classification")
    policy = ready(name, values)
    assert replay(policy, values).equal(replay(policy, as_softmax))
    if not policy.needs:
        assert replay(policy, values).equal(replay(policy, values.probs))


@pytest.mark.parametrize("name", ["entropy", "max_prob", "pcee", "beem", "energy"])
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
        list(walk(ready(name, outputs), outputs))
    with pytest.raises(ElbertError, match=r"row 5 at layer 4 "):
        replay(ready(name, outputs), outputs)


def test_a_sum_too_great_for_half_precision_is_no_error() -> None:
    values = torch.full((4, 2, 1), 60000.0, dtype=torch.float16)
    assert replay(make("full"), values, "regression").tolist() == [2] * 4
    greatest = np.full((4, 2), np.finfo(np.float32).max)
    make("full").update({}, ExitOutput(greatest, greatest, None, "regression"), np.ones(4, np.int64))


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
    tensors = ready(name, outputs).tensors()
    grid = [each.with_tensors(tensors) for each in get(name).grid(12, outputs.probs.shape[-1])]
    depths = [replay(policy, outputs).float().mean() for policy in grid]
    assert depths[0] <= min(depths) + 0.5
    assert depths[-1] >= max(depths) - 0.5


@EVERY
@EVERY_KIND
def test_explain_has_one_line_per_row_that_begins_with_the_prediction(name: str, kind: Any, make_outputs: Any) -> None:
    outputs = make_outputs(10, problem_type=kind)
    policy = ready(name, outputs)
    for state, output, layer, _, _ in walk(policy, outputs):
        found, _ = policy.decide(state, output, layer)
        assert all(values.shape == layer.shape for values in found.values())
        numbered = policy.explain(found, output, layer)
        named = policy.explain(found, output, layer, ["class 2", "labels 0, 1", "c"])
        assert len(numbered) == len(named) == len(layer)
        for line, by_name, said in zip(numbered, named, output.probs, strict=True):
            assert "\n" not in line + by_name
            names_of = {"single_label_classification": [said.argmax()], "regression": []}
            for index in names_of.get(kind, np.flatnonzero(said >= 0.5)):
                assert ["“class 2”", "“labels 0, 1”", "“c”"][index] in by_name
            assert line.startswith("value " if kind == "regression" else ("class ", "no label, "))


def test_what_a_rule_found_is_told_with_its_numbers() -> None:
    def told(policy: ExitPolicy, rows: list[list[float]]) -> list[str]:
        state, lines = policy.start(1, 2), []
        for depth, row in enumerate(rows, start=1):
            probs = np.array([row], np.float32)
            output, layer = ExitOutput(probs, np.log(probs)), np.array([depth])
            found, state = policy.decide(state, output, layer)
            lines += policy.explain(found, output, layer, ("bad", "good"))
        return lines

    rows = [[0.5, 0.5], [0.25, 0.75], [0.0625, 0.9375]]
    with np.errstate(divide="ignore"):
        assert told(make("elbert", threshold=0.4, window=2), rows) == [
            "“bad”, normalised entropy 1, threshold 0.4; stage 2 starts at layer 2",
            "“good”, normalised entropy 0.8113, threshold 0.4; not monotone over layers 1 to 2",
            "“good”, stage 1: normalised entropy 0.3373, threshold 0.4",
        ]
        assert told(make("max_prob", threshold=0.7), rows[:2]) == [
            "“bad”, confidence 0.5, threshold 0.7",
            "“good”, confidence 0.75, threshold 0.7",
        ]
        assert told(make("entropy", threshold=0.5), [[1.0, 0.0]]) == ["“bad”, normalised entropy 0, threshold 0.5"]
        assert told(make("patience", patience=1, min_layer=3), rows[1:])[1] == (
            "“good”, confirmed 1 times running, patience 1; no text leaves before layer 3"
        )
        assert told(make("full", max_layer=1), rows[:1]) == [
            "“bad”, full depth: no early exit; every text leaves at layer 1"
        ]


@EVERY
def test_a_text_leaves_neither_before_min_layer_nor_after_max_layer(name: str, make_outputs: Any) -> None:
    outputs = make_outputs(12, texts=200)
    for bounds in ({"min_layer": 4}, {"max_layer": 5}, {"min_layer": 3, "max_layer": 6}):
        policy = ready(name, outputs, **bounds)
        low, high = policy.min_layer, policy.max_layer or 12
        exits = replay(policy, outputs)
        assert int(exits.min()) >= low
        assert int(exits.max()) <= high
        fired = torch.stack([torch.from_numpy(leave) for _, _, _, leave, _ in walk(ready(name, outputs), outputs)], 1)
        within = fired[:, low - 1 : high].int()
        first = torch.where(within.any(1), within.argmax(1) + low, high)
        assert exits.tolist() == first.tolist()
        assert policy.earliest(12) <= low or name in ("fixed", "full")
        assert policy.earliest(12) <= policy.latest(12) <= high
        assert ExitPolicy.from_dict(policy.to_dict()) == policy


def test_bounds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match=r"max_layer is 3; allowed: min_layer \(4\) or more"):
        make("elbert", min_layer=4, max_layer=3)


@EVERY_KIND
def test_a_text_whose_words_suffice_leaves_at_layer_0(kind: Any, make_outputs: Any) -> None:
    outputs = make_outputs(13, texts=4, problem_type=kind)
    words = torch.tensor([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.75, 0.25, 0.0], [0.25, 0.0, 0.75]])
    said = dataclasses.replace(outputs, words=words)
    without = replay(make("full"), outputs).tolist()
    assert replay(make("full"), said).tolist() == without  # off by default
    assert replay(make("full", words=0.75), outputs).tolist() == without  # the model has no such layer
    left = {KINDS[0]: [0, 12, 12, 12], KINDS[1]: [0, 12, 12, 12], KINDS[2]: [12] * 4}[kind]
    assert replay(make("full", words=0.75, min_layer=2), said).tolist() == left
    assert replay(make("full", words=0.75), said).tolist() == left


@EVERY
def test_every_policy_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    policy = get(name)
    assert policy.name == name
    for text in (policy.summary, policy.citation):
        assert text
        assert "\n" not in text


@pytest.mark.parametrize("shape", [(3, 4), (3, 0, 2), (3, 4, 0), (3, 4, 5, 6)])
def test_replay_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"given an array of shape .*allowed: \[texts, layers, classes\]"):
        replay(make("elbert"), torch.zeros(shape))
