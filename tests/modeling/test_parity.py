"""Every exit of every family gives what transformers' own modules give, and the plain matrices give it too."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from elbert.modeling.families import family_of
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
    "mpnet": [{}, {"hidden_act": "relu", "num_labels": 3}],
    "xlm-roberta": [{}, {"type_vocab_size": 1}],
    "camembert": [{}, {"type_vocab_size": 1}],
    "modernbert": [
        {},
        {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True},
        {"classifier_pooling": "mean", "norm_bias": True},
        {"local_attention": 2, "num_hidden_layers": 5, "hidden_activation": "silu", "classifier_activation": "relu"},
    ],
    "deberta-v2": [
        {},
        {"share_att_key": False, "position_biased_input": True, "type_vocab_size": 2, "pooler_hidden_act": "tanh"},
        {"pos_att_type": "c2p", "norm_rel_ebd": "none", "position_buckets": -1, "max_relative_positions": 5},
        {"relative_attention": False, "pos_att_type": None, "position_biased_input": True},
        {"embedding_size": 8, "pos_att_type": ["p2c"], "share_att_key": False},
    ],
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
    if getattr(config, "type_vocab_size", 1) < 2:
        types = torch.zeros_like(types)
    ids = torch.where(mask.bool(), ids, config.pad_token_id)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def head_of_transformers(backbone: Any, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Each family's head as transformers itself calls it, on a hidden state [B, S, H]; dropout is off."""
    match backbone.config.model_type:
        case "albert":
            return backbone.classifier(backbone.albert.pooler_activation(backbone.albert.pooler(hidden[:, 0])))
        case "bert":
            return backbone.classifier(backbone.bert.pooler(hidden))
        case "deberta-v2":
            return backbone.classifier(backbone.pooler(hidden))
        case "modernbert":
            normed = backbone.model.final_norm(hidden)
            kept = mask[:, :, None].to(normed.dtype)
            mean = backbone.config.classifier_pooling == "mean"
            read = (normed * kept).sum(1) / kept.sum(1) if mean else normed[:, 0]
            return backbone.classifier(backbone.head(read))
        case "distilbert":
            return backbone.classifier(torch.relu(backbone.pre_classifier(hidden[:, 0])))
        case _:
            return backbone.classifier(hidden)


def states_of_transformers(backbone: Any, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """What every step gave when transformers ran the model by itself, in order."""
    states: list[torch.Tensor] = []

    def keep(module: Any, given: Any, stepped: Any) -> None:
        states.append(stepped[0] if isinstance(stepped, tuple) else stepped)

    steps = dict.fromkeys(family_of(backbone.config).steps(backbone))  # a shared one once
    hooks = [step.register_forward_hook(keep) for step in steps]
    with torch.no_grad():
        whole(backbone, inputs)
    for hook in hooks:
        hook.remove()
    return states


def whole(backbone: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Transformers' own logits, with the inputs that the family knows."""
    known = signature(backbone.forward).parameters
    logits: torch.Tensor = backbone(**{name: value for name, value in inputs.items() if name in known}).logits
    return logits


@pytest.mark.parametrize("lengths", [[9, 9, 9], [12, 3, 7, 1], [1]], ids=["unpadded", "padded", "one-token"])
@pytest.mark.parametrize(("family", "shape"), CASES)
def test_every_exit_equals_the_head_of_transformers_on_that_hidden_state(tiny_model, family, shape, lengths):
    model = tiny_model(family, **shape)
    inputs = batch(model.config, lengths)
    states = states_of_transformers(model.backbone, inputs)
    assert len(states) == model.num_layers
    with torch.no_grad():
        logits = model(**inputs).logits
        assert_same_logits(logits[:, -1], whole(model.backbone, inputs))
        for exit, state in enumerate(states):
            assert_same_logits(logits[:, exit], head_of_transformers(model.backbone, state, inputs["attention_mask"]))


@pytest.mark.parametrize("heads", ["shared", "linear", "full", "mean"])
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
    config = tiny_config(family)
    if attention == "sdpa" and not AutoModelForSequenceClassification.from_config(config)._supports_sdpa:
        pytest.skip(f"transformers has no fused attention for {family}")
    backbone = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)
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
    if weights.embedding.position is not None:
        assert weights.max_length + weights.embedding.position_offset == weights.embedding.position.shape[0]
    inputs = batch(model.config, [weights.max_length])
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    assert_same_logits(
        naive_logits(weights, inputs["input_ids"][0].tolist(), inputs["token_type_ids"][0].tolist()), logits
    )
