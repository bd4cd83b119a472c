"""EarlyExitTrainer as a user of transformers would hold it: its optimiser, its loss, its scores."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from elbert.modeling import load_model
from elbert.training import EarlyExitTrainer, schemes
from elbert.training.encoding import encode
from elbert.training.scores import layer_scores
from elbert.training.settings import TrainSettings
from elbert.training.start import default_model, set_dropout, start_model
from tests.conftest import FAMILIES


@pytest.fixture
def trainer(tiny_model, tiny_tokenizer, plain_tokenizer, reviews, tmp_path):
    encoded = encode(reviews, plain_tokenizer, 32, progress=False)
    args = TrainingArguments(str(tmp_path / "run"), use_cpu=True, max_steps=3, learning_rate=1e-3, weight_decay=0.1)
    model = tiny_model(heads="full")
    scheme = schemes.make("elbert", model.num_layers)
    sets = {"train_dataset": encoded, "eval_dataset": encoded}
    return EarlyExitTrainer(model, scheme, args, tokenizer=tiny_tokenizer, **sets, head_rate=5.0)


def test_heads_and_scheme_have_rates_of_their_own_and_every_parameter_is_in_one_group(trainer):
    groups = trainer.create_optimizer().param_groups
    encoder, heads, own = [(1e-3, 0.1), (1e-3, 0.0)], [(5e-3, 0.1), (5e-3, 0.0)], [(1e-2, 0.0)]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [*encoder, *heads, *own]
    assert [parameter is trainer.scheme.logits for parameter in groups[4]["params"]] == [True]
    names = {id(parameter): name for name, parameter in trainer.multi_exit.named_parameters()}
    of_heads = {names[id(parameter)] for group in groups[2:4] for parameter in group["params"]}
    assert of_heads == {name for name in names.values() if "pooler" in name or "classifier" in name or "exit_" in name}
    ids = [id(parameter) for group in groups for parameter in group["params"]]
    wanted = [id(parameter) for parameter in trainer.model.parameters()]
    assert sorted(ids) == sorted(wanted)
    assert all(parameter.ndim > 1 for parameter in groups[0]["params"])


def test_the_loss_is_the_schemes_over_the_exits(trainer, tiny_model):
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(6)])
    trainer.model.eval()
    loss, output = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    targets = batch["labels"]
    losses = [torch.nn.functional.cross_entropy(output.logits[:, layer], targets) for layer in range(3)]
    assert loss.item() == pytest.approx(trainer.scheme(torch.stack(losses)).item(), rel=1e-5)


def test_clipping_leaves_the_schemes_gradient_alone(trainer):
    trainer.create_optimizer()
    for parameter in trainer.model.parameters():
        parameter.grad = torch.full_like(parameter, 5.0)
    trainer._clip_grad_norm(trainer.model)
    assert torch.equal(trainer.scheme.logits.grad, torch.full((2,), 5.0))
    total = torch.cat([parameter.grad.flatten() for parameter in trainer.multi_exit.parameters()]).norm()
    assert total.item() == pytest.approx(1.0, rel=1e-3)


def test_it_trains_evaluates_and_saves_by_itself(trainer, tmp_path):
    trainer.train()
    metrics = trainer.evaluate()
    assert {"eval_final", "eval_mean-exit", "eval_layer_1", "eval_layer_2", "eval_layer_3"} <= metrics.keys()
    trainer.save_model(str(tmp_path / "model"))
    _, _, elbert = load_model(tmp_path / "model")
    assert elbert["scheme"]["name"] == "elbert"


def test_scores_name_every_layer_the_last_and_the_mean():
    given, labels = np.array([[0, 1], [0, 0], [1, 1], [1, 0]]), np.array([1, 0, 1, 0])
    evaluated = types.SimpleNamespace(predictions=given, label_ids=labels)
    scores = layer_scores(evaluated, problem_type="single_label_classification", metric="accuracy")
    assert scores == {"layer_1": 0.5, "layer_2": 1.0, "final": 1.0, "mean-exit": 0.75, "error": 0.0}


def test_the_error_of_a_score_is_its_spread_over_dev_texts():
    right = np.arange(400) % 5 > 0
    evaluated = types.SimpleNamespace(predictions=right[:, None].astype(int), label_ids=np.ones(400, int))
    scores = layer_scores(evaluated, problem_type="single_label_classification", metric="accuracy")
    assert scores["error"] == pytest.approx((0.8 * 0.2 / 400) ** 0.5, rel=0.25)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_set_in_modules_and_configuration_of_every_family(tiny_model, family):
    model = tiny_model(family)
    set_dropout(model, 0.3, 0.4)
    head = model.family.head(model.backbone)[1]
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout) and module is not head}
    assert rates == {0.3}
    assert head.p == 0.4
    if family == "mpnet":
        return  # its configuration has one rate for the head and everything else
    again = type(model.backbone)(model.config)
    assert sorted(m.p for m in again.modules() if isinstance(m, torch.nn.Dropout)) == sorted(
        m.p for m in model.backbone.modules() if isinstance(m, torch.nn.Dropout)
    )


def test_the_seed_fixes_the_fresh_model(reviews):
    models = [start_model("random-tiny", reviews, TrainSettings(seed=seed))[0] for seed in (0, 0, 1)]
    first, again, other = [model.state_dict()["backbone.classifier.weight"] for model in models]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_default_model_can_be_started_from(reviews):
    model, _ = start_model(default_model(), reviews, TrainSettings())
    assert model.num_labels == 2
