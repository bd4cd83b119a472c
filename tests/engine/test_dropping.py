"""Rows that drop tokens, against one row at a time in plain matrix products."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elbert.engine import Arrival, Engine, Scheduler
from elbert.engine.engine import refill
from elbert.engine.imitating import fit_token_score
from elbert.engine.rows.packed import Layout
from elbert.errors import UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.exits.tokens import TokenSchedule
from elbert.modeling.activations import activation
from elbert.modeling.weights import EncoderWeights, LayerWeights, Matrix, Norm
from tests.engine.test_engine import LAYERS, SHAPES, on_the_edge, run_engine, texts_of, weights_of

# Scores this close are a tie by rounding, and either token may go.
CLOSE = 1e-6


def product(x: torch.Tensor, matrix: Matrix) -> torch.Tensor:
    return F.linear(x, matrix.weight, matrix.bias)


def norm(x: torch.Tensor, of: Norm | None) -> torch.Tensor:
    return x if of is None else F.layer_norm(x, x.shape[-1:], of.weight, of.bias, of.eps)


def one_layer(hidden: torch.Tensor, layer: LayerWeights) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the states [n, H] behind a layer, and the attention [n] each token received in it."""
    heads = layer.spec.heads
    query, key, value = product(hidden, layer.qkv).view(len(hidden), 3, heads, -1).permute(1, 2, 0, 3)
    weights = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)  # [heads, query, key]
    attended = (weights @ value).transpose(0, 1).reshape(hidden.shape)
    hidden = norm(hidden + product(attended, layer.out), layer.attention_norm)
    wide = activation(layer.spec.activation)(product(hidden, layer.up))
    return norm(hidden + product(wide, layer.down), layer.output_norm), weights.mean((0, 1))


def embedded(weights: EncoderWeights, text: Arrival) -> torch.Tensor:
    """Return the states [n, H] before the first layer."""
    table, ids = weights.embedding, torch.tensor(text.ids)
    hidden = table.word[ids] + table.position[table.position_offset :][: len(ids)]
    hidden = norm(hidden + table.token_type[torch.tensor(text.token_types or [0] * len(ids))], table.norm)
    return hidden if table.projection is None else product(hidden, table.projection)


def slow(weights: EncoderWeights, text: Arrival, schedule: TokenSchedule) -> tuple[torch.Tensor, bool]:
    """Return the logits [M, C] of one text, and whether a tie by rounding decided on a token."""
    hidden, ids = embedded(weights, text), text.ids
    logits, tie = [], False
    for depth, (step, head) in enumerate(zip(weights.layers, weights.heads, strict=True), start=1):
        for layer in step:
            hidden, received = one_layer(hidden, layer)
        if schedule.weights is not None and depth < LAYERS:
            received = hidden @ torch.from_numpy(schedule.weights[depth - 1])
        left = len(ids)
        for at, kept in schedule.keep:
            if depth >= at:
                left = min(left, -int(-kept * len(ids) // 1) if kept <= 1 else int(kept))
        best = sorted(range(1, len(hidden)), key=lambda place: -float(received[place]))
        tie |= 0 < left - 1 < len(best) and float(received[best[left - 2]] - received[best[left - 1]]) < CLOSE
        hidden = hidden[[0, *sorted(best[: left - 1])]]
        read = hidden.mean(0) if head.reads_mean else hidden[0]
        pooled = activation(head.activation)(product(read, head.dense))
        logits.append(product(pooled, head.out))
    return torch.stack(logits), tie


def slow_record(
    weights: EncoderWeights, texts: list[Arrival], schedule: TokenSchedule
) -> tuple[torch.Tensor, list[int]]:
    """Return logits [N, M, C], and the texts that no tie decided on."""
    rows = [slow(weights, text, schedule) for text in texts]
    return torch.stack([logits for logits, _ in rows]), [index for index, (_, tie) in enumerate(rows) if not tie]


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.sampled_from([{1: 0.5}, {2: 0.75, 4: 0.25}, {1: 12, 3: 4}, {5: 0.1}]),
    seed=st.integers(0, 10_000),
    batch_size=st.sampled_from([1, 7, 32]),
    max_tokens=st.sampled_from([60, 16_384]),
)
def test_answers_are_those_of_one_row_at_a_time_and_leave_where_replay_says(
    shape: str, values: dict[int, float], seed: int, batch_size: int, max_tokens: int
) -> None:
    texts, weights = texts_of(seed, 12), weights_of(shape)
    schedule = TokenSchedule.from_dict({**values, "score": ["attention", "learned"][seed % 2]})
    if schedule.score == "learned":
        schedule = schedule.with_weights(
            torch.randn(LAYERS - 1, 32, generator=torch.Generator().manual_seed(seed)).numpy()
        )
    engine = Engine(weights)
    with torch.inference_mode():
        expected, sure = slow_record(weights, texts, schedule)
    assert len(sure) >= 11
    outputs = engine.record(texts, tokens=schedule, batch_size=batch_size, max_tokens=max_tokens)
    torch.testing.assert_close(outputs.logits[sure], expected[sure], atol=2e-5, rtol=0)
    assert outputs.lengths.tolist() == [len(text.ids) for text in texts]

    policy = make("elbert", threshold=0.5, window=3, tokens=schedule)
    exit_layer = replay(policy, outputs).tolist()
    random.Random(seed).shuffle(texts)
    answers = run_engine(engine, texts, policy, batch_size=batch_size, max_tokens=max_tokens)
    plain = make("elbert", threshold=0.5, window=3)
    for index in [each for each in sure if not on_the_edge(plain, outputs.probs[each])]:
        layer, said = answers[index]
        assert layer == exit_layer[index]
        torch.testing.assert_close(said, outputs.logits[index, layer - 1], atol=2e-5, rtol=0)


def test_dropping_changes_answers_and_a_schedule_that_keeps_all_does_not() -> None:
    texts, engine = texts_of(2, 40), Engine(weights_of("bert"))
    whole = engine.record(texts).logits
    assert torch.equal(engine.record(texts, tokens=TokenSchedule(((1, 1.0), (3, 40)))).logits, whole)
    dropped = engine.record(texts, tokens=TokenSchedule(((1, 0.5),))).logits
    assert torch.equal(dropped[:, 0], whole[:, 0])  # behind layer 1, where [CLS] stays
    assert (dropped[:, 1:] - whole[:, 1:]).abs().amax() > 0.01


def test_the_engine_steps_as_many_tokens_as_the_schedule_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, texts = Engine(weights_of("bert")), texts_of(4, 30)
    stepped: list[int] = []
    forward = engine.backend.layers[0][0].attention.__class__._attended

    def counting(self: Any, qkv: torch.Tensor, layout: Layout, received: torch.Tensor | None) -> torch.Tensor:
        stepped.append(layout.tokens)
        return forward(self, qkv, layout, received)

    monkeypatch.setattr(engine.backend.layers[0][0].attention.__class__, "_attended", counting)
    schedule = TokenSchedule(((2, 0.5), (4, 3)))
    engine.record(texts, tokens=schedule)
    halves = sum(-(-len(text.ids) // 2) for text in texts)
    few = sum(min(-(-len(text.ids) // 2), 3) for text in texts)
    assert sum(stepped) == 2 * sum(len(text.ids) for text in texts) + 2 * halves + (LAYERS - 4) * few


def test_rows_with_different_schedules_share_steps_and_each_keeps_its_own() -> None:
    torch.manual_seed(0)
    engine = Engine(weights_of("albert"))
    policies: list[ExitPolicy] = [
        make("full"),
        make("full", tokens={1: 0.5}),
        make("patience", patience=1, tokens={2: 5}),
        make("full", tokens=TokenSchedule(((1, 0.5),), "learned").with_weights(torch.randn(LAYERS - 1, 32).numpy())),
    ]
    texts = texts_of(7, 36)
    scheduler = engine.scheduler(make("full"), batch_size=8)
    mixed = [Arrival(each.index, each.ids, each.token_types, policies[each.index % 4]) for each in texts]
    answers: dict[int, tuple[int, torch.Tensor]] = {}
    for group in refill(scheduler, mixed):
        rows = zip(group.index.tolist(), group.exit_layer.tolist(), group.logits, strict=True)
        answers |= {index: (layer, logits) for index, layer, logits in rows}
    for number, policy in enumerate(policies):
        own = [each for each in texts if each.index % 4 == number]
        alone = run_engine(engine, own, policy, batch_size=1)
        for index, (layer, logits) in alone.items():
            assert answers[index][0] == layer
            torch.testing.assert_close(answers[index][1], logits, atol=2e-5, rtol=0)


def test_pooled_states_are_recorded_with_the_tokens_dropped() -> None:
    engine, texts = Engine(weights_of("bert-mean-heads")), texts_of(3, 12)
    schedule = TokenSchedule(((1, 0.5),))
    outputs = engine.record(texts, pooled=True, tokens=schedule)
    assert outputs.pooled is not None
    assert outputs.tokens == outputs.select(slice(3)).tokens == schedule
    assert not torch.allclose(outputs.pooled, engine.record(texts, pooled=True).pooled)


@pytest.mark.parametrize("family", ["mpnet", "deberta-v2", "modernbert"])
def test_layers_that_look_at_distances_are_refused_in_one_line(family: str, tiny_model: Callable[..., Any]) -> None:
    engine = Engine(tiny_model(family).weights())
    with pytest.raises(UsageError, match="exit policy 'full' drops tokens, but the model's layers look at distances"):
        engine.record([Arrival(0, [2, 5, 3])], tokens=TokenSchedule(((1, 0.5),)))
    scheduler = engine.scheduler(make("full"))
    with pytest.raises(UsageError, match="look at distances between tokens"):
        scheduler.admit(Arrival(0, [2, 5, 3], policy=make("full", tokens={1: 0.5})))
    assert not scheduler.busy


def test_a_layer_that_the_model_has_not_is_refused_at_the_door() -> None:
    engine = Engine(weights_of("bert"))
    with pytest.raises(UsageError, match="layer 6 is named, and the model has 6"):
        Scheduler(engine.weights, engine.backend, make("full", tokens={6: 0.5}))


def test_graphs_run_whole_rows(tiny_model: Callable[..., Any]) -> None:
    pytest.importorskip("onnx", reason="graphs are written with onnx: pip install 'elbert[onnx]'")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    engine = Engine(tiny_model("bert").weights(), backend="onnxruntime")
    with pytest.raises(
        UsageError, match="backend onnxruntime runs whole rows; use backend torch, or leave tokens away"
    ):
        engine.record([Arrival(0, [2, 5, 3])], tokens=TokenSchedule(((1, 0.5),)))


def test_a_learned_score_is_the_least_squares_fit_to_what_later_layers_look_at() -> None:
    weights, texts = weights_of("bert"), [*texts_of(5, 30), Arrival(30, [4])]
    found = fit_token_score(Engine(weights).layers(), texts)
    assert found.shape == (LAYERS - 1, 32)
    states, received = [], []
    with torch.inference_mode():
        for text in [each for each in texts if len(each.ids) > 1]:
            hidden, behind, seen = embedded(weights, text), [], []
            for (layer,) in weights.layers:
                hidden, looks = one_layer(hidden, layer)
                behind.append(hidden[1:])
                seen.append(looks[1:])
            states.append(torch.stack(behind))
            received.append(torch.stack(seen))
    for depth in range(LAYERS - 1):
        given = torch.cat([each[depth] - each[depth].mean(0) for each in states]).double()
        logs = [each[depth + 1 :].mean(0).add(1e-6).log() for each in received]
        wanted = torch.cat([each - each.mean() for each in logs]).double()
        ridge = 1e-3 * (given**2).sum() / 32
        rows = torch.cat([given, ridge.sqrt() * torch.eye(32)])
        expected = torch.linalg.lstsq(rows, torch.cat([wanted, torch.zeros(32)])[:, None]).solution[:, 0]
        torch.testing.assert_close(torch.from_numpy(found[depth]).double(), expected, atol=1e-4, rtol=1e-3)


def test_a_learned_score_that_nobody_fitted_is_refused() -> None:
    engine = Engine(weights_of("bert"))
    with pytest.raises(UsageError, match="ranks tokens by a learned score that was never fitted"):
        engine.record(texts_of(0, 2), tokens=TokenSchedule(((1, 0.5),), "learned"))


@pytest.mark.parametrize("long", [12, 256])
def test_what_tokens_received_adds_up_to_one_in_every_row(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elbert.engine.layers.attention._PLAIN_UP_TO", {torch.float32: long, torch.bfloat16: long})
    layer = Engine(weights_of("bert")).layers().layers[0][0]
    torch.manual_seed(0)
    layout = Layout(torch.tensor([30, 3, 17, 1, 17]).numpy())
    qkv = torch.randn(layout.size, 96)
    with torch.inference_mode():
        attended, received = layer.attention.with_received(qkv, layout)
        torch.testing.assert_close(attended, layer.attention(qkv, layout), atol=1e-6, rtol=0)
    sums = [part.sum() for part in received[: layout.tokens].split(layout.lengths.tolist())]
    torch.testing.assert_close(torch.stack(sums), torch.ones(5))
