"""8-bit products: close to fp32, the same for a text whatever stands beside it, the same at every load."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from elbert.engine import Engine
from elbert.engine.layers.int8 import Int8Product, check_int8, saturates
from elbert.engine.rows.packed import Layout
from elbert.errors import UsageError
from elbert.exits import make
from elbert.modeling.weights import Matrix
from tests.engine.test_engine import SHAPES, run_engine, texts_of, weights_of

CPU = torch.device("cpu")


def usable() -> bool:
    try:
        check_int8(CPU)
    except UsageError:
        return False
    return True


needs_avx2 = pytest.mark.skipif(not usable(), reason="this CPU has no AVX2")


@needs_avx2
@pytest.mark.parametrize("shape", SHAPES)
def test_int8_stays_within_its_stated_tolerance(shape: str) -> None:
    texts = texts_of(3, 60)
    exact = Engine(weights_of(shape)).record(texts).probs
    rounded = Engine(weights_of(shape), dtype=torch.int8).record(texts).probs
    assert 0 < (exact - rounded).abs().mean() < 0.02
    same = 0.94 if saturates() else 0.97  # with a bit less of every weight
    assert (exact.argmax(-1) == rounded.argmax(-1)).float().mean() > same


@needs_avx2
@pytest.mark.parametrize("shape", ["albert", "bert"])
def test_a_texts_answer_in_int8_does_not_depend_on_its_neighbours(shape: str) -> None:
    texts = texts_of(4, 50)
    engine = Engine(weights_of(shape), dtype=torch.int8)
    policy = make("elbert", threshold=0.5, window=3)
    alone = run_engine(engine, texts, policy, batch_size=1)
    for batch_size in (7, 32):
        together = run_engine(engine, texts, policy, batch_size=batch_size)
        for index, (layer, logits) in alone.items():
            assert together[index][0] == layer
            torch.testing.assert_close(together[index][1], logits, atol=1e-3, rtol=0)


@needs_avx2
def test_every_load_gives_the_same_integers() -> None:
    texts = texts_of(5, 5)
    first, second = (Engine(weights_of("albert"), dtype=torch.int8).record(texts).logits for _ in range(2))
    assert torch.equal(first, second)


@needs_avx2
def test_other_activations_than_gelu_are_rounded_too() -> None:
    from dataclasses import replace

    weights = weights_of("albert")
    (layer,) = weights.layers[0]
    relu = replace(layer, spec=replace(layer.spec, activation="relu"))
    weights = replace(weights, layers=((relu,),) * weights.num_layers)
    texts = texts_of(6, 20)
    exact, rounded = (Engine(weights, dtype=dtype).record(texts).probs for dtype in (torch.float32, torch.int8))
    assert (exact - rounded).abs().mean() < 0.02


def test_int8_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: False)
    with pytest.raises(UsageError, match="needs an x86 CPU with AVX2"):
        Engine(weights_of("albert"), dtype=torch.int8)
    with pytest.raises(UsageError, match="runs on a CPU"):
        check_int8(torch.device("cuda"))


@needs_avx2
def test_the_greatest_sums_are_exact_on_this_processor() -> None:
    ones = Int8Product(Matrix(torch.ones(16, 256), torch.zeros(16)), extremes=(0.0, 1.0))
    torch.testing.assert_close(ones(torch.ones(8, 256)), torch.full((8, 16), 256.0), atol=1.0, rtol=0)


@pytest.mark.parametrize(
    ("capable", "held", "lost"),
    [
        ({"avx512_vnni": True, "avx_vnni": False}, "", False),
        ({"avx512_vnni": False, "avx_vnni": True}, "", False),
        ({"avx512_vnni": True, "avx_vnni": True}, "avx2", True),
        ({"avx512_vnni": True, "avx_vnni": True}, "avx2_vnni", False),
        ({"avx512_vnni": False, "avx_vnni": False}, "", True),
        ({"architecture": "aarch64"}, "", False),
    ],
)
def test_sums_saturate_on_x86_without_vnni_or_where_onednn_is_kept_from_it(
    capable: dict[str, Any], held: str, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **capable})
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", held)  # oneDNN obeys it, and torch does not know of it
    assert saturates() is lost


def test_a_layout_rounds_its_tokens_up_to_few_sizes() -> None:
    sizes = {Layout(np.array([tokens])).size for tokens in range(1, 4097)}
    assert len(sizes) <= 96
    assert all(Layout(np.array([tokens])).size >= tokens for tokens in (1, 16, 17, 511, 513, 5000))
