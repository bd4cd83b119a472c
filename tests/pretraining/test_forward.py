from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import AlbertConfig, AlbertForPreTraining

from elbert.pretraining import PretrainSettings
from elbert.pretraining.batches import Batch
from elbert.pretraining.forward import hidden_states
from elbert.pretraining.objectives import IGNORED
from elbert.pretraining.student import Student

# The usual ALBERT, one with two kinds of layers, and one whose layer is two in one.
SHAPES = [{}, {"num_hidden_groups": 2}, {"inner_group_num": 2}]


def network(**shape: int) -> AlbertForPreTraining:
    torch.manual_seed(0)
    config = AlbertConfig(
        vocab_size=50,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout_prob=0.0,
        **shape,
    )
    model = AlbertForPreTraining(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))  # norms and biases too, or they would go untested
    return model.train()


def batch() -> Batch:
    """3 sequences of 10 tokens, four places of two of them masked."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 50, (3, 10), generator=generator)
    types = (torch.arange(10) > 5).long().expand(3, 10)
    labels = torch.full((3, 10), IGNORED)
    for row, place in ((0, 3), (0, 4), (2, 1), (2, 8)):
        labels[row, place] = ids[row, place]
    return Batch(ids, torch.where(labels == IGNORED, ids, 4), labels, types, torch.tensor([1, 0, 1]))


def gradients(loss: Tensor, model: torch.nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_hidden_state_is_that_of_transformers(shape: dict[str, int]) -> None:
    albert, texts = network(**shape).albert, batch()
    expected = albert(texts.ids, token_type_ids=texts.token_types, output_hidden_states=True).hidden_states
    mine = hidden_states(albert, texts.ids, texts.token_types)
    assert len(mine) == len(expected)
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_last_layer_is_computed_only_where_it_is_read() -> None:
    albert, texts = network().albert, batch()
    seen: list[int] = []
    layer = albert.encoder.albert_layer_groups[0].albert_layers[0]
    layer.ffn.register_forward_hook(lambda _module, args, _output: seen.append(args[0].shape[:-1].numel()))
    places = torch.tensor([0, 3, 17])
    *_, last = hidden_states(albert, texts.ids, texts.token_types, places)
    assert seen == [30, 30, 30, 3]
    whole = hidden_states(albert, texts.ids, texts.token_types)[-1]
    torch.testing.assert_close(last, whole.flatten(0, 1)[places], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("objectives", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_gradients_are_those_of_transformers(
    objectives: tuple[float, float], shape: dict[str, int], settings: Callable[..., PretrainSettings]
) -> None:
    words, order = objectives
    student = Student(network(**shape), settings(masked_words=words, sentence_order=order), None)
    texts, model = batch(), student.network
    loss, parts = student(texts)
    mine = gradients(loss, model)
    output = model(texts.masked_ids, token_type_ids=texts.token_types)
    losses = {
        "masked_words": torch.nn.functional.cross_entropy(
            output.prediction_logits.flatten(0, 1), texts.labels.flatten()
        ),
        "sentence_order": torch.nn.functional.cross_entropy(output.sop_logits, texts.swapped),
    }
    expected = gradients(words * losses["masked_words"] + order * losses["sentence_order"], model)
    for name, part in parts.items():
        torch.testing.assert_close(part, losses[name].detach())
    assert set(parts) == {name for name, weight in zip(losses, objectives, strict=True) if weight}
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4)


def test_a_batch_that_nobody_asks_about_costs_nothing(settings: Callable[..., PretrainSettings]) -> None:
    student = Student(network(), settings(sentence_order=0.0), None)
    texts = batch()
    loss, _ = student(
        Batch(texts.ids, texts.ids, torch.full_like(texts.labels, IGNORED), texts.token_types, texts.swapped)
    )
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in gradients(loss, student.network).values())
