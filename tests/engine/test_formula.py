"""One formula, every interpreter: whatever a layer may be, torch, 8 bits, the graphs and the reference agree on it."""

from __future__ import annotations

import gc
import random
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from elbert.engine import Engine
from elbert.engine.layers import attention
from elbert.engine.layers.linear import Linear, packs
from elbert.engine.layers.places import pairs
from elbert.engine.requests import Arrival
from elbert.modeling.spec import LayerSpec
from elbert.modeling.weights import (
    Disentangled,
    EmbeddingWeights,
    EncoderWeights,
    HeadWeights,
    Layer,
    LayerWeights,
    Matrix,
    Norm,
    PositionWeights,
)
from elbert.tracing.attention import cls_attention
from tests.engine.test_int8 import needs_avx2
from tests.modeling.reference import (
    assert_same_logits,
    naive_attention,
    naive_embed,
    naive_layer,
    naive_logits,
    naive_norm,
    naive_product,
)

SIZE, HEADS, INNER, VOCABULARY, PLACES, RELATIVE = 32, 4, 48, 90, 64, 9

# What a layer may be beyond the usual: (fields of LayerSpec, biases, what else).
KINDS: dict[str, tuple[dict[str, Any], bool, tuple[str, ...]]] = {
    "plain": ({}, True, ()),
    "norm-first": ({"norm_first": True}, True, ("final-norm",)),
    "no-biases": ({}, False, ("head-norm",)),
    "gated": ({"gated": True, "activation": "silu"}, True, ()),
    "rotary": ({"rotary_base": 10000.0}, True, ("no-positions",)),
    "window": ({"window": 5}, True, ()),
    "relative-bias": ({}, True, ("relative-bias",)),
    "relative-bias-in-a-window": ({"window": 3}, True, ("relative-bias",)),
    "content-to-position": ({"score_terms": 2}, True, ("key",)),
    "position-to-content": ({"score_terms": 2}, True, ("query",)),
    "disentangled": ({"score_terms": 3}, True, ("key", "query", "norm-last")),
    "modern": (
        {"norm_first": True, "gated": True, "rotary_base": 500.0, "window": 7},
        False,
        ("no-positions", "final-norm", "head-norm", "bare-first"),
    ),
}


def weights_of(kind: str) -> EncoderWeights:
    """Return three random layers of one kind, each with weights of its own, what they share shared."""
    torch.manual_seed(2)
    fields, biased, extras = KINDS[kind]
    spec = LayerSpec(**{"heads": HEADS, "activation": "gelu", **fields})

    def matrix(out: int, given: int = SIZE) -> Matrix:
        return Matrix(0.25 * torch.randn(out, given), 0.2 * torch.randn(out) if biased else None)

    def norm(size: int = SIZE) -> Norm:
        return Norm(1 + 0.2 * torch.randn(size), 0.2 * torch.randn(size) if biased else None, 1e-5)

    bias = torch.randn(HEADS, 2 * PLACES - 1) if "relative-bias" in extras else None
    index = (RELATIVE // 2 - torch.arange(1 - PLACES, PLACES)).clamp(0, RELATIVE - 1)

    def positions() -> PositionWeights:
        key, query = (torch.randn(RELATIVE, SIZE) if each in extras else None for each in ("key", "query"))
        return PositionWeights(bias, None if key is None and query is None else Disentangled(key, query, index))

    def layer(place: int) -> LayerWeights:
        inner = 2 * INNER if spec.gated else INNER
        bare = place == 0 and "bare-first" in extras
        return Layer(
            spec, matrix(3 * SIZE), positions(), matrix(SIZE), None if bare else norm(), matrix(inner),
            matrix(SIZE, INNER), norm(),
        )  # fmt: skip

    last = "norm-last" in extras
    embedding = EmbeddingWeights(
        torch.randn(VOCABULARY, 16),
        None if "no-positions" in extras else torch.randn(PLACES, 16),
        None,
        norm(SIZE if last else 16),
        matrix(SIZE, 16),
        norm_last=last,
    )
    head = HeadWeights(
        matrix(SIZE), "tanh", matrix(3),
        norm() if "final-norm" in extras else None, norm() if "head-norm" in extras else None,
    )  # fmt: skip
    layers = tuple((layer(place),) for place in range(3))
    names = {0: "a", 1: "b", 2: "c"}
    return EncoderWeights(embedding, layers, (head,) * 3, PLACES, "single_label_classification", names)


def texts_of(seed: int = 0) -> list[Arrival]:
    """Return random token lists, short ones and one that fills every place."""
    chance = random.Random(seed)
    lengths = [1, 2, 9, 9, 9, 23, PLACES, 40]
    return [Arrival(n, [chance.randrange(VOCABULARY) for _ in range(length)]) for n, length in enumerate(lengths)]


def naive(weights: EncoderWeights, texts: list[Arrival]) -> Tensor:
    return torch.stack([naive_logits(weights, text.ids) for text in texts])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 8])
def test_torch_computes_the_formula(kind: str, batch_size: int) -> None:
    weights, texts = weights_of(kind), texts_of()
    assert_same_logits(Engine(weights).record(texts, batch_size=batch_size).logits, naive(weights, texts))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_graphs_compute_the_formula(kind: str, backend: str) -> None:
    pytest.importorskip("onnx", reason="graphs are written with onnx: pip install 'elbert[onnx]'")
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    weights, texts = weights_of(kind), texts_of()
    assert_same_logits(Engine(weights, backend=backend).record(texts).logits, naive(weights, texts), 1e-4)


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.int8, marks=needs_avx2)])
def test_lesser_precisions_stay_close_at_every_exit(
    kind: str, dtype: torch.dtype, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "has_tiles", lambda: tiles)  # both ways are open to every processor
    weights, texts = weights_of(kind), texts_of(1) * 8
    texts = [Arrival(n, text.ids) for n, text in enumerate(texts)]
    exact, rounded = Engine(weights).record(texts).probs, Engine(weights, dtype=dtype).record(texts).probs
    apart = (exact - rounded).abs().amax(-1)  # [N, M]
    assert (apart.mean(0) > 0).all(), "the same number in another precision: nothing was rounded"
    assert (apart.mean(0) < 0.05).all()
    assert torch.quantile(apart, 0.9) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_first_token_looks_at_is_the_softmax_of_the_formula(kind: str) -> None:
    weights = weights_of(kind)
    text = texts_of()[5]
    shown = cls_attention(Engine(weights).layers(), text)
    hidden = naive_embed(weights, text.ids, None)
    for row, (layer,) in zip(shown, weights.layers, strict=True):
        torch.testing.assert_close(row, naive_row(layer, hidden), atol=1e-5, rtol=0)
        hidden = naive_layer(layer, hidden)


def naive_row(layer: LayerWeights, hidden: Tensor) -> Tensor:
    """Return the mean attention of the first token, read off by giving every token a value of its own."""
    tokens, width = len(hidden), hidden.shape[1] // HEADS
    norm = layer.attention_norm if layer.spec.norm_first else None
    query, key, _ = naive_product(hidden if norm is None else naive_norm(hidden, norm), layer.qkv).chunk(3, dim=1)
    rows = []
    for first in range(0, tokens, width):  # as many tokens at a time as a head is wide
        value = torch.zeros_like(query)
        for place in range(first, min(first + width, tokens)):
            value[place, place - first :: width] = 1  # one unit of every head
        mixed = naive_attention(layer, torch.cat((query, key, value), dim=1))
        rows.append(mixed[0].view(HEADS, width).mean(0))
    return torch.cat(rows)[:tokens]


def test_pairs_are_counted_from_the_query_to_the_key() -> None:
    table = torch.arange(-3, 4)
    assert pairs(table, 3).tolist() == [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]


@pytest.mark.skipif(not packs(torch.device("cpu"), torch.float32), reason="torch has no prepared products here")
def test_a_matrix_is_held_in_one_layout_only() -> None:
    weights = weights_of("plain")
    given = [weakref.ref(part.weight) for part in (weights.layers[0][0].qkv, weights.layers[2][0].down)]
    engine = Engine(weights)
    texts, expected = texts_of(), naive(weights, texts_of())
    del weights
    gc.collect()
    assert [reference() for reference in given] == [None, None]
    assert_same_logits(engine.record(texts).logits, expected)


def test_looking_at_attention_prepares_no_layer_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(weights_of("plain"))
    monkeypatch.setattr(Linear, "__init__", lambda *_, **__: pytest.fail("a matrix was laid out again"))
    assert cls_attention(engine.layers(), texts_of()[2]).shape == (3, 9)
