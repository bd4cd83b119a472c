"""Attention while a run learns."""

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel

from elbert.runs.attention import float32_attention

SHAPE = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32, "vocab_size": 50}
MODELS = {"albert": (AlbertModel, AlbertConfig), "bert": (BertModel, BertConfig)}


@pytest.fixture(params=sorted(MODELS))
def encoder(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    kind, config = MODELS[request.param]
    return kind(config(**SHAPE)).eval()


def _inputs() -> dict[str, torch.Tensor]:
    ids = torch.arange(2, 14).reshape(2, 6)
    return {"input_ids": ids, "attention_mask": (ids != 13).long()}


def _attended_in(monkeypatch: pytest.MonkeyPatch, encoder: nn.Module) -> set[torch.dtype]:
    """Run a step forth and back in bfloat16 and return in which dtypes torch's fused attention was asked."""
    seen, fused = set(), nn.functional.scaled_dot_product_attention

    def spy(query: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        seen.add(query.dtype)
        return fused(query, *args, **options)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", spy)
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder(**_inputs()).last_hidden_state
    states.sum().backward()
    monkeypatch.undo()
    return seen


def test_products_in_bfloat16_attention_in_float32(encoder: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _attended_in(monkeypatch, encoder) == {torch.bfloat16}
    with float32_attention(encoder):
        assert _attended_in(monkeypatch, encoder) == {torch.float32}
    assert _attended_in(monkeypatch, encoder) == {torch.bfloat16}


def test_nothing_else_changes(encoder: nn.Module) -> None:
    with torch.no_grad():
        expected = encoder(**_inputs()).last_hidden_state
        with float32_attention(encoder):
            torch.testing.assert_close(encoder(**_inputs()).last_hidden_state, expected, rtol=0, atol=0)


def test_another_kind_of_attention_is_left_alone(encoder: nn.Module) -> None:
    encoder.set_attn_implementation("eager")
    with float32_attention(encoder):
        assert encoder.config._attn_implementation == "eager"


def test_what_it_attends_by_is_put_back_after_a_failure(encoder: nn.Module) -> None:
    with pytest.raises(RuntimeError), float32_attention(encoder):
        raise RuntimeError
    assert encoder.config._attn_implementation == "sdpa"
