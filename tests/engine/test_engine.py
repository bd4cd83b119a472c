"""The engine against the obvious: one text at a time, every layer, transformers' own modules, then a replay."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from elbert.engine import Engine
from elbert.engine.engine import by_length
from elbert.engine.requests import Arrival
from elbert.engine.rows.packed import Layout
from elbert.errors import NotFiniteError, UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.modeling.model import MultiExitModel
from elbert.modeling.weights import EncoderWeights
from elbert.results import LayerOutputs

LAYERS = 6
CLASSES = 3
VOCABULARY = 50
# Scores this close to a threshold may fall on either side of it, by float rounding alone.
EDGE = 1e-5

SHAPES = ["albert", "albert-two-groups", "albert-inner-layers", "bert", "bert-own-heads", "bert-mean-heads"]


@cache
def multi_exit_model(shape: str) -> MultiExitModel:
    """Return a random model whose exits disagree enough for texts to leave at different layers."""
    torch.manual_seed(7)
    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": 64,
        "num_labels": CLASSES,
        "initializer_range": 0.2,
    }
    if shape.startswith("albert"):
        groups = {"albert-two-groups": {"num_hidden_groups": 2}, "albert-inner-layers": {"inner_group_num": 2}}
        config = AlbertConfig(embedding_size=16, **common, **groups.get(shape, {}))
        return MultiExitModel(AlbertForSequenceClassification(config).eval()).eval()
    heads = {"bert-own-heads": "full", "bert-mean-heads": "mean"}.get(shape, "shared")
    return MultiExitModel(BertForSequenceClassification(BertConfig(**common)).eval(), heads).eval()


@cache
def weights_of(shape: str) -> EncoderWeights:
    """Return the model's plain matrices."""
    return multi_exit_model(shape).weights()


def texts_of(seed: int, count: int) -> list[Arrival]:
    """Return random token lists of 1 to 40 tokens; every third has a second segment."""
    chance = random.Random(seed)
    arrivals = []
    for index in range(count):
        ids = [chance.randrange(VOCABULARY) for _ in range(chance.randint(1, 40))]
        types = [int(place > len(ids) // 2) for place in range(len(ids))] if index % 3 == 0 else None
        arrivals.append(Arrival(index, ids, types))
    return arrivals


def one_at_a_time(shape: str, texts: list[Arrival]) -> torch.Tensor:
    """Return the logits [N, M, C] of transformers' own modules, one text a call, no padding."""
    model = multi_exit_model(shape)
    rows = []
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([text.ids])
            types = torch.tensor([text.token_types or [0] * len(text.ids)])
            rows.append(model(input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=types).logits[0])
    return torch.stack(rows)


def run(shape: str, texts: list[Arrival], policy: ExitPolicy, **options: int) -> dict[int, tuple[int, torch.Tensor]]:
    """Return {index: (exit layer, logits)} of one run of a new engine."""
    return run_engine(Engine(weights_of(shape)), texts, policy, **options)


def run_engine(
    engine: Engine, texts: list[Arrival], policy: ExitPolicy, **options: int
) -> dict[int, tuple[int, torch.Tensor]]:
    """Return {index: (exit layer, logits)} of one run."""
    answers: dict[int, tuple[int, torch.Tensor]] = {}
    for group in engine.run(texts, policy, **options):
        for index, layer, logits in zip(group.index.tolist(), group.exit_layer.tolist(), group.logits, strict=True):
            assert index not in answers, "a text left twice"
            answers[index] = (layer, logits)
    return answers


POLICIES = st.one_of(
    st.builds(
        lambda threshold, window, criterion: make("elbert", threshold=threshold, window=window, criterion=criterion),
        st.sampled_from([0.0, 0.2, 0.5, 0.8]),
        st.sampled_from([None, 2, 3, 5]),
        st.sampled_from(["monotone", "range", "agreement"]),
    ),
    st.builds(lambda threshold: make("max_prob", threshold=threshold), st.sampled_from([0.4, 0.7, 0.95])),
    st.builds(lambda patience: make("patience", patience=patience), st.integers(1, 5)),
    st.builds(lambda layer: make("fixed", layer=layer), st.integers(1, LAYERS)),
    st.just(make("full")),
)


@pytest.mark.parametrize("shape", SHAPES)
def test_full_depth_equals_transformers_at_every_exit(shape: str) -> None:
    texts = texts_of(1, 23)
    outputs = Engine(weights_of(shape)).record(texts, batch_size=5)
    torch.testing.assert_close(outputs.logits, one_at_a_time(shape, texts), atol=1e-5, rtol=0)
    assert outputs.lengths.tolist() == [len(text.ids) for text in texts]


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    policy=POLICIES,
    seed=st.integers(0, 10_000),
    count=st.integers(1, 30),
    batch_size=st.sampled_from([1, 2, 7, 32]),
    max_tokens=st.sampled_from([1, 60, 16_384]),
)
def test_label_and_exit_layer_do_not_depend_on_the_batch(
    shape: str, policy: ExitPolicy, seed: int, count: int, batch_size: int, max_tokens: int
) -> None:
    texts = texts_of(seed, count)
    logits = one_at_a_time(shape, texts)
    probs = logits.softmax(-1)
    expected = replay(policy, LayerOutputs(logits, probs, torch.zeros(count)))
    random.Random(seed).shuffle(texts)
    answers = run(shape, texts, policy, batch_size=batch_size, max_tokens=max_tokens)

    assert sorted(answers) == list(range(count))
    sure = [index for index in answers if not on_the_edge(policy, probs[index])]
    assert len(sure) >= count - count // 4 - 1
    for index in sure:
        layer, said = answers[index]
        assert layer == expected[index]
        torch.testing.assert_close(said, logits[index, layer - 1], atol=1e-5, rtol=0)


def on_the_edge(policy: ExitPolicy, probs: torch.Tensor) -> bool:
    """Tell whether rounding could change the decision: nudge every probability [M, C] a little and replay."""
    nudges = torch.randn(32, *probs.shape, generator=torch.Generator().manual_seed(0))
    shaken = (probs + EDGE * nudges).clamp(0, 1)
    layers = replay(policy, torch.cat([probs[None], shaken]))
    return bool((layers != layers[0]).any())


@pytest.mark.parametrize("shape", ["albert", "bert"])
def test_bf16_stays_within_its_stated_tolerance(shape: str) -> None:
    texts = texts_of(3, 40)
    exact = Engine(weights_of(shape)).record(texts).probs
    rounded = Engine(weights_of(shape), dtype=torch.bfloat16).record(texts).probs
    assert (exact - rounded).abs().mean() < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_long_row_does_not_change_how_a_short_one_beside_it_is_computed(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rows of 13 to 40 tokens count as long.
    monkeypatch.setattr("elbert.engine.layers.attention._PLAIN_UP_TO", {torch.float32: 12, torch.bfloat16: 24})
    for module in ("rows.blocks", "layers.attention"):
        monkeypatch.setattr(f"elbert.engine.{module}.SHORT", 12)
    engine = Engine(weights_of("albert"), dtype=dtype)
    texts = texts_of(11, 60)
    together = engine.record(texts, batch_size=16).logits
    for index in [i for i, text in enumerate(texts) if len(text.ids) <= 12]:
        alone = engine.record([Arrival(0, texts[index].ids, texts[index].token_types)]).logits[0]
        close = 1e-5 if dtype == torch.float32 else 0.01
        torch.testing.assert_close(alone, together[index], atol=close, rtol=0)


def test_rows_at_different_depths_share_one_step_when_layers_are_shared() -> None:
    engine = Engine(weights_of("albert"))
    steps: list[int] = []
    plain_step = engine.backend.step

    def counting_step(hidden: torch.Tensor, layout: Layout, depth: int) -> torch.Tensor:
        steps.append(layout.rows)
        return plain_step(hidden, layout, depth)

    engine.backend.step = counting_step
    policy = make("patience", patience=1)
    answers = run_engine(engine, texts_of(5, 64), policy, batch_size=8)
    layers = [layer for layer, _ in answers.values()]
    assert len(set(layers)) > 1  # so that places are freed at different times
    assert sum(steps) == sum(layers)
    assert steps[: len(steps) - LAYERS] == [8] * (len(steps) - LAYERS)  # a freed place is refilled at once


@pytest.mark.parametrize("family", ["albert", "roberta"])
@pytest.mark.parametrize("table", [13, 16])
def test_a_text_alone_may_fill_the_table_of_places(tiny_model: Any, family: str, table: int) -> None:
    """Packed places are rounded up, past the end of a table of 13; beside another text places are counted anew."""
    model = tiny_model(family, max_position_embeddings=table)
    weights = model.weights()
    ids = torch.arange(weights.max_length)[None] % 40 + 2
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
    whole, engine = Arrival(0, ids[0].tolist()), Engine(weights)
    for texts in ([whole], [whole, Arrival(1, ids[0, :3].tolist())]):
        torch.testing.assert_close(run_engine(engine, texts, make("full"))[0][1], expected, atol=1e-5, rtol=1e-5)


def test_memory_is_bounded_whatever_the_stream_is_long(endless: Any) -> None:
    engine = Engine(weights_of("albert"))
    left = 0
    for group in engine.run(endless, make("elbert", threshold=0.5, window=None), batch_size=4):
        left += len(group.index)
        assert endless.read - left <= 64 * 4 + 2 * 4
        if left > 1000:
            break


def test_ordering_by_length_keeps_every_text_and_never_reads_beyond_its_window() -> None:
    texts = texts_of(9, 100)
    ordered = list(by_length(iter(texts), 30))
    assert sorted(text.index for text in ordered) == list(range(100))
    assert {text.index for text in ordered[:30]} == set(range(30))


def test_an_empty_stream_gives_nothing() -> None:
    assert list(Engine(weights_of("albert")).run([], make("full"))) == []


def test_nan_in_the_weights_is_an_error_and_not_an_answer() -> None:
    torch.manual_seed(0)
    model = MultiExitModel(AlbertForSequenceClassification(multi_exit_model("albert").config).eval()).eval()
    with torch.no_grad():
        model.backbone.classifier.bias[0] = float("nan")
    with pytest.raises(NotFiniteError, match=r"text \d at layer 1 .*3 such") as caught:
        list(Engine(model.weights()).run(texts_of(1, 3), make("elbert")))
    assert sorted(caught.value.rows) == [0, 1, 2]


def test_texts_are_read_under_the_callers_own_mode() -> None:
    seen: list[tuple[bool, bool]] = []

    def source() -> Iterator[Arrival]:
        for text in texts_of(1, 3):
            seen.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
            yield text

    list(Engine(weights_of("albert")).run(source(), make("full"), batch_size=1))
    assert seen == [(False, True)] * 3


def test_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UsageError, match="float16 needs a CUDA device"):
        Engine(weights_of("albert"), dtype=torch.float16)


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"max_tokens": -1}])
def test_sizes_below_one_are_refused(option: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="allowed: a whole number of 1 or more"):
        list(Engine(weights_of("albert")).run(texts_of(1, 3), make("full"), **option))
