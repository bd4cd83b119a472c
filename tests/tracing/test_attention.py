"""The attention shown to people is transformers' own, in every family, and belongs to the layers that answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from elbert.engine import Engine
from elbert.engine.requests import Arrival
from elbert.tracing.attention import cls_attention
from tests.conftest import FAMILIES

Model = Callable[..., Any]


def eager_rows(model: Any, arrival: Arrival) -> Tensor:
    """Return transformers' attention from the first token, averaged over heads: [inner layers in all, tokens]."""
    model.backbone.set_attn_implementation("eager")
    inputs = {"input_ids": torch.tensor([arrival.ids])}
    if arrival.token_types is not None and model.config.model_type != "distilbert":
        inputs["token_type_ids"] = torch.tensor([arrival.token_types])
    with torch.no_grad():
        attentions = model.backbone(**inputs, output_attentions=True).attentions
    return torch.stack([layer[0, :, 0].mean(0) for layer in attentions])


def attention_of(model: Any, arrival: Arrival) -> Tensor:
    return cls_attention(Engine(model.weights()).layers(), arrival)


def encoded(tokenizer: Any, *texts: str, types: bool = True) -> Arrival:
    row = tokenizer(*texts)
    return Arrival(0, row["input_ids"], row["token_type_ids"] if types and len(texts) > 1 else None)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_equals_the_eager_attention_of_transformers(
    tiny_model: Model, tiny_tokenizer: Any, tiny_texts: list[str], family: str
) -> None:
    arrival = encoded(tiny_tokenizer, tiny_texts[4])
    model = tiny_model(family)
    ours = attention_of(model, arrival)
    assert ours.shape == (model.num_layers, len(arrival.ids))
    torch.testing.assert_close(ours, eager_rows(model, arrival), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["albert", "bert", "electra"])
def test_it_reads_the_halves_of_a_pair_as_the_model_does(
    tiny_model: Model, tiny_tokenizer: Any, tiny_texts: list[str], family: str
) -> None:
    arrival = encoded(tiny_tokenizer, tiny_texts[0], tiny_texts[5])
    model = tiny_model(family, type_vocab_size=2)
    torch.testing.assert_close(attention_of(model, arrival), eager_rows(model, arrival), atol=1e-5, rtol=0)
    alone = encoded(tiny_tokenizer, tiny_texts[0], tiny_texts[5], types=False)
    assert not torch.allclose(attention_of(model, alone), attention_of(model, arrival))


def test_inner_layers_of_an_albert_are_averaged(tiny_model: Model, tiny_tokenizer: Any, tiny_texts: list[str]) -> None:
    model = tiny_model("albert", inner_group_num=2, num_hidden_layers=3)
    arrival = encoded(tiny_tokenizer, tiny_texts[2])
    every = eager_rows(model, arrival).view(3, 2, -1)
    torch.testing.assert_close(attention_of(model, arrival), every.mean(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_adds_up_to_one(tiny_model: Model, tiny_tokenizer: Any, family: str) -> None:
    rows = attention_of(tiny_model(family), encoded(tiny_tokenizer, "a warm film " * 15))
    assert rows.dtype == torch.float32
    assert (rows >= 0).all()
    torch.testing.assert_close(rows.sum(1), torch.ones(len(rows)), atol=1e-5, rtol=0)


def test_looking_changes_no_answer(tiny_model: Model, tiny_tokenizer: Any, tiny_texts: list[str]) -> None:
    model = tiny_model("albert")
    arrival = encoded(tiny_tokenizer, tiny_texts[1])
    ids = torch.tensor([arrival.ids])
    before = model(ids).logits
    attention_of(model, arrival)
    assert torch.equal(model(ids).logits, before)
