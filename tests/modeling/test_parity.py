"""Every exit of every family gives what transformers' own modules give, and the plain matrices give it too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.conftest import FAMILIES
from tests.modeling.reference import assert_same_logits, naive_logits

SHAPES: dict[str, list[dict[str, Any]]] = {
    "albert": [
        {},
        {"num_labels": 150, "hidden_act": "gelu"},
        {"num_hidden_layers": 6, "num_hidden_groups": 3},
        {"num_hidden_layers": 5, "num_hidden_groups": 2, "inner_group_num": 2},
        {"num_hidden_layers": 4, "inner_group_num": 3, "hidden_act": "relu"},
        {"embedding_size": 16, "num_attention_heads": 4, "num_labels": 1},
    ],
    "bert": [{}, {"hidden_act": "gelu_new", "num_labels": 7}, {"layer_norm_eps": 1e-3, "num_hidden_layers": 1}],
    "roberta": [{}, {"pad_token_id": 1, "type_vocab_size": 1, "num_labels": 5}],
    "distilbert": [{}, {"activation": "relu", "num_labels": 3}, {"sinusoidal_pos_embds": True}],
    "electra": [{}, {"embedding_size": 16, "num_labels": 4}, {"hidden_act": "silu"}],
}
CASES = [
    pytest.param(family, shape, id=f"{family}-{n}") for family in FAMILIES for n, shape in enumerate(SHAPES[family])
]


def batch(config: Any, lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tokens, right-padded to the longest text, second half of each text of token type 1."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.randint(5, config.vocab_size, (len(lengths), width), generator=generator)
    places = torch.arange(width)
    mask = (places < torch.tensor(lengths)[:, None]).long()
    types = (places >= torch.tensor(lengths)[:, None] // 2).long() * mask
    if getattr(config, "type_vocab_size", 1) == 1:
        types = torch.zeros_like(types)
    ids = torch.where(mask.bool(), ids, config.pad_token_id)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def head_of_transformers(backbone: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Each family's head as transformers itself calls it, on a hidden state [B, S, H]; dropout is off."""
    match backbone.config.model_type:
        case "albert":
            return backbone.classifier(backbone.albert.pooler_activation(backbone.albert.pooler(hidden[:, 0])))
        case "bert":
            return backbone.classifier(backbone.bert.pooler(hidden))
        case "distilbert":
            return backbone.classifier(torch.relu(backbone.pre_classifier(hidden[:, 0])))
        case _:
            return backbone.classifier(hidden)


def states_of_transformers(backbone: Any, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The hidden state at every exit, recorded by transformers; ALBERT records one per inner layer, not per exit."""
    with torch.no_grad():
        output = backbone(**inputs, output_hidden_states=True)
    inner = getattr(backbone.config, "inner_group_num", 1)
    return list(output.hidden_states[1:])[inner - 1 :: inner]


@pytest.mark.parametrize("lengths", [[9, 9, 9], [12, 3, 7, 1], [1]], ids=["unpadded", "padded", "one-token"])
@pytest.mark.parametrize(("family", "shape"), CASES)
def test_every_exit_equals_the_head_of_transformers_on_that_hidden_state(tiny_model, family, shape, lengths):
    model = tiny_model(family, **shape)
    inputs = batch(model.config, lengths)
    states = states_of_transformers(model.backbone, inputs)
    assert len(states) == model.num_layers
    with torch.no_grad():
        logits = model(**inputs).logits
        assert_same_logits(logits[:, -1], model.backbone(**inputs).logits)
        for exit, state in enumerate(states):
            assert_same_logits(logits[:, exit], head_of_transformers(model.backbone, state))


@pytest.mark.parametrize("heads", ["shared", "linear", "full"])
@pytest.mark.parametrize(("family", "shape"), CASES)
def test_plain_matrices_give_the_same_logits_one_text_at_a_time(tiny_model, family, shape, heads):
    model = tiny_model(family, heads=heads, **shape)
    lengths = [11, 4, 1]
    inputs = batch(model.config, lengths, seed=1)
    weights = model.weights()
    with torch.no_grad():
        logits = model(**inputs).logits
    for row, length in enumerate(lengths):
        ids = inputs["input_ids"][row, :length].tolist()
        types = inputs["token_type_ids"][row, :length].tolist()
        assert_same_logits(naive_logits(weights, ids, types), logits[row])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_is_masked_under_every_attention_implementation(tiny_config, family, attention):
    from elbert.modeling import MultiExitModel

    torch.manual_seed(3)
    backbone = AutoModelForSequenceClassification.from_config(tiny_config(family), attn_implementation=attention)
    model = MultiExitModel(backbone).eval()
    inputs = batch(model.config, [10, 2])
    short = {name: tensor[1:, :2] for name, tensor in inputs.items()}
    with torch.no_grad():
        assert_same_logits(model(**inputs).logits[1:], model(**short).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_token_types_and_mask_may_be_left_out(tiny_model, family):
    model = tiny_model(family)
    inputs = batch(model.config, [6, 6])
    inputs["token_type_ids"] = torch.zeros_like(inputs["token_type_ids"])
    with torch.no_grad():
        assert_same_logits(model(inputs["input_ids"]).logits, model(**inputs).logits)


def test_roberta_with_one_token_type_reads_pairs(tiny_model):
    model = tiny_model("roberta", type_vocab_size=1)
    inputs = batch(model.config, [6, 6])
    with torch.no_grad():
        expected = model(**inputs).logits
        inputs["token_type_ids"] = torch.ones_like(inputs["token_type_ids"])
        assert_same_logits(model(**inputs).logits, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_longest_text_allowed_runs_and_fills_the_position_table(tiny_model, family):
    model = tiny_model(family, **({"pad_token_id": 1} if family == "roberta" else {}))
    weights = model.weights()
    assert weights.max_length + weights.embedding.position_offset == weights.embedding.position.shape[0]
    inputs = batch(model.config, [weights.max_length])
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    assert_same_logits(
        naive_logits(weights, inputs["input_ids"][0].tolist(), inputs["token_type_ids"][0].tolist()), logits
    )
