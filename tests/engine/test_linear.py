"""A prepared product equals the plain one, whatever follows it and however the machine computes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from elbert.engine.layers import linear
from elbert.engine.layers.attention import Attention
from elbert.engine.layers.linear import Linear
from elbert.engine.layers.places import Places
from elbert.engine.rows.blocks import SHORT
from elbert.engine.rows.packed import Layout
from elbert.modeling.activations import activation
from elbert.modeling.spec import LayerSpec
from elbert.modeling.weights import Layer, LayerWeights, Matrix, Norm, PositionWeights

ACTS = [None, "gelu", "gelu_new", "relu", "tanh", "silu"]


@pytest.fixture(params=["prepared", "plain"], autouse=True)
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(linear, "packs", lambda *_: False)
    return str(request.param)


def product(dtype: torch.dtype, act: str | None = None) -> tuple[torch.Tensor, torch.Tensor, Linear]:
    torch.manual_seed(0)
    weight, bias = torch.randn(24, 16).to(dtype), torch.randn(24).to(dtype)
    return weight, bias, Linear(Matrix(weight, bias), act=act)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_it_is_a_linear_layer_and_its_activation(act: str | None, dtype: torch.dtype, close: float, rows: int) -> None:
    weight, bias, prepared = product(dtype, act)
    x = torch.randn(rows, 16).to(dtype)
    expected = F.linear(x.float(), weight.float(), bias.float())
    if act is not None:
        expected = activation(act)(expected)
    with torch.inference_mode():
        torch.testing.assert_close(prepared(x).float(), expected, atol=close, rtol=close)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_plus_adds_the_residual_and_leaves_it_as_it_was(dtype: torch.dtype, close: float) -> None:
    weight, bias, prepared = product(dtype)
    x, residual = torch.randn(5, 16).to(dtype), torch.randn(5, 24).to(dtype)
    kept = residual.clone()
    with torch.inference_mode():
        y = prepared.plus(x, residual)
    expected = F.linear(x.float(), weight.float(), bias.float()) + kept.float()
    torch.testing.assert_close(y.float(), expected, atol=close, rtol=close)
    assert torch.equal(residual, kept)


def plain_layer(size: int, heads: int) -> LayerWeights:
    def matrix(out: int) -> Matrix:
        return Matrix(torch.zeros(out, size), None)

    norm = Norm(torch.ones(size), None, 1e-5)
    spec = LayerSpec(heads, "gelu")
    return Layer(spec, matrix(3 * size), PositionWeights(), matrix(size), norm, matrix(size), matrix(size), norm)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("lengths", [[4, 4, 4], [1, 9, 3], [140, 2], [80, 80, 65, 20, 20], [200], [300, 290]], ids=str)
def test_attention_of_packed_rows_is_attention_of_each_row_alone(lengths: list[int], half: bool) -> None:
    torch.manual_seed(0)
    heads, size = 4, 32
    qkv = torch.randn(sum(lengths), 3 * size)
    layout = Layout(np.array(lengths))
    filler = torch.full((layout.size - layout.tokens, 3 * size), 1e9)
    packed = Attention(plain_layer(size, heads), Places(qkv.device), half=half)(torch.cat((qkv, filler)), layout)
    assert len(packed) == layout.size
    for row, mine in zip(qkv.split(lengths), packed[: layout.tokens].split(lengths), strict=True):
        q, k, v = row.view(len(row), 3, heads, -1).permute(1, 2, 0, 3)
        alone = F.scaled_dot_product_attention(q[None], k[None], v[None])[0]
        close = 0.03 if half and len(row) > SHORT else 1e-5
        torch.testing.assert_close(mine, alone.transpose(0, 1).reshape(len(row), size), atol=close, rtol=0)
