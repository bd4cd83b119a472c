"""Rows that skip layers by gates, against one row at a time in plain matrix products."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elbert.engine import Arrival, Engine
from elbert.errors import UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.exits.gates import SkipGates
from elbert.modeling.activations import activation
from elbert.modeling.weights import EncoderWeights
from elbert.results import ExitOutput
from tests.engine.test_dropping import embedded, one_layer, product
from tests.engine.test_engine import LAYERS, SHAPES, run_engine, texts_of, weights_of

# A gate this close to its threshold may fall on either side of it.
CLOSE = 1e-4


def gates_of(seed: int, threshold: float = 0.5) -> SkipGates:
    """Return gates that skip some layers of some texts."""
    drawn = torch.randn(LAYERS - 2, 33, generator=torch.Generator().manual_seed(seed)).numpy()
    return SkipGates(threshold).with_weights(drawn)


def slow(
    weights: EncoderWeights, text: Arrival, gates: SkipGates, last: int = LAYERS
) -> tuple[list[int], torch.Tensor, bool]:
    """Return the layers that a text runs up to `last`, what their exits say, [ran, C], and whether a gate was close."""
    hidden, ran, logits, close = embedded(weights, text), [], [], False
    for layer in range(1, LAYERS + 1):
        if 1 < layer < LAYERS:
            unit = torch.from_numpy(gates.weights[layer - 2])
            share = float(torch.sigmoid(hidden.mean(0) @ unit[:-1] + unit[-1]))
            close |= abs(share - gates.threshold) < CLOSE
            if share >= gates.threshold:
                continue
        if layer > last:
            break
        for each in weights.layers[layer - 1]:
            hidden, _ = one_layer(hidden, each)
        head = weights.heads[layer - 1]
        pooled = activation(head.activation)(product(hidden.mean(0) if head.reads_mean else hidden[0], head.dense))
        ran.append(layer)
        logits.append(product(pooled, head.out))
    return ran, torch.stack(logits), close


def left_at(policy: ExitPolicy, ran: list[int], logits: torch.Tensor) -> int:
    """Return how many layers one text has run where it leaves."""
    said, state = logits.numpy(), policy.start(1, logits.shape[1])
    for place, layer in enumerate(ran[:-1]):
        output = ExitOutput(logits[place : place + 1].softmax(-1).numpy(), said[place : place + 1])
        leave, state = policy.update(state, output, np.array([layer]))
        if leave[0]:
            return place + 1
    return len(ran)


def unsure(policy: ExitPolicy, ran: list[int], logits: torch.Tensor) -> bool:
    """Tell whether rounding could change where one text leaves."""
    nudges = 2e-5 * torch.randn(8, *logits.shape, generator=torch.Generator().manual_seed(0))
    return len({left_at(policy, ran, logits + nudge) for nudge in nudges}) > 1


RULES = st.sampled_from(
    [
        make("elbert", threshold=0.5, window=3),
        make("entropy", threshold=0.6),
        make("patience", patience=1),
        make("entropy", threshold=0.6, min_layer=3, max_layer=4),
        make("fixed", layer=3),
        make("full", max_layer=5),
        make("full"),
    ]
)


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rule=RULES,
    seed=st.integers(0, 10_000),
    batch_size=st.sampled_from([1, 7, 32]),
    max_tokens=st.sampled_from([60, 16_384]),
)
def test_answers_are_those_of_one_row_at_a_time_and_leave_where_replay_says(
    shape: str, rule: ExitPolicy, seed: int, batch_size: int, max_tokens: int
) -> None:
    texts, weights, gates = texts_of(seed, 12), weights_of(shape), gates_of(seed)
    policy, engine = replace(rule, gates=gates), Engine(weights)
    options = {"batch_size": batch_size, "max_tokens": max_tokens}
    with torch.inference_mode():
        whole = [slow(weights, text, gates) for text in texts]
        upto = [slow(weights, text, gates, rule.latest(LAYERS)) for text in texts]
    outputs = engine.record(texts, gates=gates, **options)
    replayed = replay(policy, outputs).tolist()
    random.Random(seed).shuffle(texts)
    answers = run_engine(engine, texts, policy, **options)
    assert len(answers) == 12
    checked = 0
    for index, ((ran, logits, close), (layers, said, _)) in enumerate(zip(whole, upto, strict=True)):
        if close:
            continue
        padded = ran + [LAYERS] * (LAYERS - len(ran))
        assert outputs.depth[index].tolist() == padded
        torch.testing.assert_close(outputs.logits[index, : len(ran)], logits, atol=2e-5, rtol=0)
        assert torch.equal(outputs.logits[index, len(ran) :], outputs.logits[index, -1].expand(LAYERS - len(ran), -1))
        if unsure(rule, layers, said):
            continue
        layer, answer = answers[index]
        assert layer == replayed[index] == left_at(rule, layers, said)
        torch.testing.assert_close(answer, said[layer - 1], atol=2e-5, rtol=0)
        checked += 1
    assert checked >= 6


def test_layers_are_skipped_and_what_is_skipped_is_not_run() -> None:
    texts, weights = texts_of(3, 40), weights_of("bert")
    engine = Engine(weights)
    ran = {index: layer for index, (layer, _) in run_engine(engine, texts, make("full", gates=gates_of(3))).items()}
    assert 2 <= min(ran.values()) < max(ran.values())
    steps: list[int] = []
    step = engine.backend.step

    def counted(hidden: torch.Tensor, layout, depth: int):
        steps.append(layout.rows)
        return step(hidden, layout, depth)

    engine.backend.step = counted
    run_engine(engine, texts, make("full", gates=gates_of(3)))
    assert sum(steps) == sum(ran.values())  # rows of all steps: the cost is what was run
    all_run = run_engine(engine, texts, make("full", gates=SkipGates(1.0).with_weights(gates_of(3).weights * 0)))
    none_run = run_engine(engine, texts, make("full", gates=SkipGates(0.0).with_weights(gates_of(3).weights)))
    assert {layer for layer, _ in all_run.values()} == {LAYERS}
    assert {layer for layer, _ in none_run.values()} == {2}  # the first and the last run always


def test_rows_with_gates_and_without_share_steps_and_keep_to_their_last_layer() -> None:
    texts, weights, gates = texts_of(5, 24), weights_of("albert"), gates_of(5)
    engine = Engine(weights)
    gated = make("full", gates=gates)
    mixed = [
        replace(text, policy=gated if text.index % 2 else None, last_layer=4 if text.index % 3 == 0 else None)
        for text in texts
    ]
    answers = run_engine(engine, mixed, make("full"), batch_size=8)
    with torch.inference_mode():
        for text in mixed:
            last = text.last_layer or LAYERS
            skipped = gates if text.index % 2 else SkipGates(1.0).with_weights(gates.weights * 0)
            ran, said, close = slow(weights, text, skipped, last)
            layer, answer = answers[text.index]
            assert close or layer == len(ran) <= last
            assert close or torch.allclose(answer, said[-1], atol=2e-5)


@pytest.mark.parametrize(
    ("policy", "last_layer", "cause"),
    [(make("fixed", layer=4), None, "rule"), (make("full", max_layer=4), 5, "rule"), (make("full"), 4, "budget")],
)
def test_who_comes_to_its_policys_last_layer_leaves_by_the_rule_and_to_its_arrivals_by_the_budget(
    policy: ExitPolicy, last_layer: int | None, cause: str
) -> None:
    texts = [replace(text, last_layer=last_layer) for text in texts_of(5, 24)]
    groups = list(Engine(weights_of("bert")).run(texts, replace(policy, gates=gates_of(5))))
    assert {told for group in groups for told in group.cause} == {cause}
    assert min(int(group.exit_layer.min()) for group in groups) < 4  # some skip a layer, the fourth among them


def test_gates_of_another_model_or_none_are_refused_at_the_door() -> None:
    engine = Engine(weights_of("bert"))
    with pytest.raises(UsageError, match="gates were never trained: train with scheme skip_gates"):
        list(engine.run(texts_of(0, 1), make("full", gates=0.5)))
    with pytest.raises(UsageError, match=r"weights of shape \(1, 33\), for this model they are \[4, 33\]"):
        list(engine.run(texts_of(0, 1), make("full", gates=SkipGates().with_weights(np.zeros((1, 33))))))
