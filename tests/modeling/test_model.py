"""What the multi-exit model promises besides parity: heads, losses, gradients, shared matrices."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification
from transformers.activations import NewGELUActivation

from elbert.errors import ModelError, UsageError
from elbert.modeling import MultiExitModel, layer_losses
from elbert.modeling.activations import activation
from elbert.modeling.families import family_of
from tests.conftest import FAMILIES
from tests.modeling.reference import ACTIVATIONS, assert_same_logits

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


@pytest.fixture
def inputs(tiny_tokenizer, tiny_texts):
    return tiny_tokenizer(tiny_texts, padding=True, return_tensors="pt")


def test_output_shapes(tiny_model, inputs):
    model = tiny_model("albert", num_labels=5, num_hidden_layers=4)
    output = model(**inputs)
    assert output.loss is None
    assert output.logits.shape == (8, 4, 5)
    assert output.pooled.shape == (8, 4, 16)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("heads", ["linear", "full"])
def test_own_heads_start_as_the_last_head(tiny_model, inputs, family, heads):
    own, shared = tiny_model(family), tiny_model(family)
    own = MultiExitModel(own.backbone, heads).eval()
    assert_same_logits(own(**inputs).logits, shared(**inputs).logits)


@pytest.mark.parametrize(("heads", "parameters"), [("shared", 0), ("linear", 2 * (2 * 16 + 2)), ("full", 2 * 306)])
def test_only_own_heads_add_parameters(tiny_model, heads, parameters):
    model = tiny_model("albert", heads=heads)
    count = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.backbone.parameters())
    assert count == parameters


@pytest.mark.parametrize("heads", ["linear", "full"])
def test_an_exits_loss_reaches_its_own_head_only(tiny_model, inputs, heads):
    model = tiny_model("albert", heads=heads)
    losses = layer_losses(model(**inputs).logits, torch.zeros(8, dtype=torch.long), SINGLE)
    losses[1].backward()
    gradient = model.exit_heads.out_weight.grad.abs().sum((1, 2))
    assert gradient[0] == 0
    assert gradient[1] > 0
    assert model.backbone.classifier.weight.grad.abs().sum() == 0
    assert (model.backbone.albert.pooler.weight.grad.abs().sum() > 0) == (heads == "linear")


def test_the_last_exit_of_a_model_with_own_heads_is_the_backbone(tiny_model, inputs):
    model = tiny_model("albert", heads="full")
    with torch.no_grad():
        assert_same_logits(model(**inputs).logits[:, -1], model.backbone(**inputs).logits)


@pytest.mark.parametrize("heads", ["shared", "linear", "full"])
def test_dropout_acts_in_training_only(tiny_model, inputs, heads):
    model = tiny_model("roberta", heads=heads)
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.train()
    assert not torch.equal(model(**inputs).logits, model(**inputs).logits)


def test_losses_of_single_labels_are_the_mean_cross_entropy_of_every_exit():
    logits, labels = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    expected = torch.stack([F.cross_entropy(logits[:, exit], labels) for exit in range(3)])
    torch.testing.assert_close(layer_losses(logits, labels, SINGLE), expected)


def test_losses_of_several_labels_are_the_mean_binary_cross_entropy_of_every_exit():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 3, 4, generator=generator), torch.randint(2, (6, 4), generator=generator)
    expected = [F.binary_cross_entropy_with_logits(logits[:, exit], labels.float()) for exit in range(3)]
    torch.testing.assert_close(layer_losses(logits, labels, MULTI), torch.stack(expected))


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_losses_of_regression_are_the_mean_squared_error_of_every_exit(shape):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 3, 1, generator=generator), torch.randn(shape, generator=generator)
    expected = [((logits[:, exit, 0] - labels.view(6)) ** 2).mean() for exit in range(3)]
    torch.testing.assert_close(layer_losses(logits, labels, REGRESSION), torch.stack(expected))


def test_losses_are_computed_in_fp32_whatever_the_model_runs_in():
    logits = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert layer_losses(logits, torch.zeros(6, dtype=torch.long), SINGLE).dtype == torch.float32


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({"num_labels": 3, "problem_type": SINGLE}, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])),
        ({"num_labels": 3, "problem_type": MULTI}, torch.ones(8, 3)),
        ({"num_labels": 1, "problem_type": REGRESSION}, torch.linspace(0, 5, 8)),
    ],
)
def test_the_loss_of_a_one_layer_model_is_that_of_transformers(tiny_model, inputs, fields, labels):
    model = tiny_model("bert", num_hidden_layers=1, **fields)
    with torch.no_grad():
        assert_same_logits(model(**inputs, labels=labels).loss, model.backbone(**inputs, labels=labels).loss)


@pytest.mark.parametrize(("num_labels", "problem_type"), [(1, REGRESSION), (2, SINGLE), (9, SINGLE)])
def test_a_problem_type_that_is_not_said_is_guessed_as_transformers_does(tiny_model, num_labels, problem_type):
    assert tiny_model("albert", num_labels=num_labels).problem_type == problem_type


def test_matrices_share_memory_with_the_model_and_each_other(tiny_model):
    model = tiny_model("albert", num_hidden_layers=6, num_hidden_groups=2, inner_group_num=2)
    weights = model.weights()
    first, last = weights.layers[0], weights.layers[-1]
    assert [step is first for step in weights.layers] == [True] * 3 + [False] * 3
    assert [step is last for step in weights.layers] == [False] * 3 + [True] * 3
    assert len(first) == 2
    assert first[0] is not first[1]
    assert all(head is weights.heads[0] for head in weights.heads)
    assert not weights.shared_layers
    layer = model.backbone.albert.encoder.albert_layer_groups[0].albert_layers[0]
    assert first[0].up.weight.data_ptr() == layer.ffn.weight.data_ptr()
    assert not first[0].qkv.weight.requires_grad


@pytest.mark.parametrize(("family", "shared"), [("albert", True), ("bert", False), ("distilbert", False)])
def test_shared_layers_are_told_from_distinct_ones(tiny_model, family, shared):
    weights = tiny_model(family).weights()
    assert weights.shared_layers == shared
    assert (weights.num_layers, weights.num_labels, weights.hidden_size) == (3, 2, 16)


def test_own_heads_share_the_pooler_only_where_they_have_none(tiny_model):
    linear, full = (tiny_model("albert", heads=heads).weights().heads for heads in ("linear", "full"))
    assert linear[0].dense.weight is linear[-1].dense.weight
    assert full[0].dense.weight is not full[-1].dense.weight
    assert not torch.equal(full[0].dense.weight, full[1].dense.weight)


@pytest.mark.parametrize("heads", ["shared", "full"])
def test_a_copied_model_is_independent(tiny_model, inputs, heads):
    model = tiny_model("albert", heads=heads)
    before = model(**inputs).logits
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(model(**inputs).logits, before)
    assert other(**inputs).logits.abs().max() == 0


def test_state_dicts_go_from_one_model_to_another(tiny_model, inputs):
    model, other = tiny_model("albert", heads="full"), tiny_model("albert", heads="full", seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(**inputs).logits, other(**inputs).logits)


def test_the_slow_gelu_is_replaced_and_the_answers_stay(tiny_config, inputs):
    torch.manual_seed(0)
    backbone = AutoModelForSequenceClassification.from_config(tiny_config("albert", hidden_act="gelu_new")).eval()
    with torch.no_grad():
        before = backbone(**inputs).logits
        model = MultiExitModel(backbone).eval()
        assert_same_logits(model(**inputs).logits[:, -1], before)
    assert not any(isinstance(module, NewGELUActivation) for module in model.modules())
    assert model.config.hidden_act == "gelu_new"


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_fast_activations_follow_their_formula(name):
    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(activation(name)(x), ACTIVATIONS[name](x), atol=1e-6, rtol=1e-5)


def test_an_activation_only_transformers_knows_is_taken_from_there():
    assert activation("quick_gelu")(torch.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden_act": "gelu_neww"}, "did you mean 'gelu_new'"),
        ({"num_hidden_layers": 0}, "asks for 0 layers"),
        ({"id2label": {1: "a", 2: "b"}}, "classes 0 to C - 1, not 1, 2"),
    ],
)
def test_a_configuration_that_cannot_have_exits_is_refused(tiny_config, fields, words):
    with pytest.raises(ModelError, match=words):
        family_of(tiny_config("albert", **fields))


def test_unknown_heads_are_refused(tiny_model):
    with pytest.raises(UsageError, match="did you mean 'linear'"):
        MultiExitModel(tiny_model("albert").backbone, "linaer")
