"""EarlyBERT: what goes is what counts for least, and what is cut answers as what has zeros there."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import early_bert
from early_bert import Kept, Slim, Work, cut, zero
from elbert import TrainSettings, load_data
from elbert.data import labelled
from elbert.engine import Engine
from elbert.engine.requests import Arrival
from elbert.exits import make
from elbert.training import start_model
from tests.conftest import FAMILIES

TEXTS = [Arrival(0, [2, 7, 9, 11, 8, 3]), Arrival(1, [2, 5, 3]), Arrival(2, [2, 10, 20, 30, 40, 50, 60, 70, 3])]


def answers(weights: Any) -> torch.Tensor:
    """Return the full-depth logits of three texts."""
    found = torch.empty(len(TEXTS), 2)
    for departures in Engine(weights).run(TEXTS, make("full")):
        found[departures.index] = departures.logits
    return found


def masks(layers: int, heads: int, neurons: int) -> Kept:
    """Return what stays by coefficients drawn at random."""
    torch.manual_seed(1)
    return Kept.best(torch.rand(layers, heads), torch.rand(layers, neurons))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_cut_answers_as_what_has_zeros_there(tiny_model: Any, family: str) -> None:
    width = {"n_heads" if family == "distilbert" else "num_attention_heads": 4}
    network = tiny_model(family, **width)
    kept = masks(1 if family == "albert" else 3, 4, 24)
    whole, hooked = network.weights(), copy.deepcopy(network)
    ids, mask = torch.tensor([TEXTS[0].ids]), torch.ones(1, 6, dtype=torch.long)
    early_bert.without(hooked, kept)
    zero(network, kept)
    thin = answers(cut(whole, kept))
    torch.testing.assert_close(thin, answers(network.weights()), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(thin, answers(tiny_model(family, **width).weights()), atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(hooked(ids, mask).logits[0, -1], thin[0], atol=1e-5, rtol=1e-5)


def test_a_third_of_each_layers_heads_and_two_fifths_of_all_neurons_go() -> None:
    heads = torch.tensor([[1.0, 0.1, 0.9, -2.0, 0.2, 0.8], [0.5, 0.6, 0.7, 0.1, -0.2, 0.9]])
    neurons = torch.tensor([[0.1, 0.2, 0.05, 0.15, 0.3], [1.0, -2.0, 3.0, 0.25, 5.0]])
    kept = Kept.best(heads, neurons)
    assert kept.heads.tolist() == [[True, False, True, True, False, True], [True, True, True, False, False, True]]
    assert kept.neurons.tolist() == [[False, False, False, False, True], [True] * 5]
    none = Kept.best(heads, torch.stack([neurons[0] / 100, neurons[1]]) * torch.tensor([[1.0], [9.0]]))
    assert none.neurons.any(1).all()


def test_work_is_counted_by_depth_and_weights_once(tiny_model: Any) -> None:
    shared, own = (tiny_model(family).weights() for family in ("albert", "bert"))
    matrices = 4 * 16 * 16 + 2 * 16 * 24
    assert Work.of(shared) == Work(3 * matrices, 3 * 2 * 16, matrices)
    assert Work.of(own) == Work(3 * matrices, 3 * 2 * 16, 3 * matrices)
    assert Work.of(own).on(torch.tensor([2, 5])) == 3 * matrices * 7 + 3 * 2 * 16 * 29
    halved = cut(shared, Kept(torch.tensor([[True, False]]), torch.arange(24)[None] < 6))
    assert Work.of(halved).products == 3 * (2 * 16 * 16 + 2 * 16 * 6)
    assert Work.of(halved).pairs == 3 * 2 * 8


def test_coefficients_are_drawn_while_the_model_learns(tiny_texts: list[str]) -> None:
    data = load_data(labelled(tiny_texts * 10, ["good", "bad"] * 40))
    settings = TrainSettings(epochs=2, batch_size=4, learning_rate=1e-2, dtype="float32", max_length=16, words=False)
    seen: list[Slim] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(early_bert, "Slim", lambda layers: seen.append(Slim(layers)) or seen[-1])
        drawn = early_bert.draw(*start_model("random-tiny", data, settings), data, settings)
    assert drawn.heads.shape == (1, 2)
    assert drawn.neurons.sum() == 64 - int(64 * early_bert.NEURONS)
    sizes = seen[0].neurons.detach().abs()
    assert sizes[drawn.neurons].min() >= sizes[~drawn.neurons].max()
    for learnt in (seen[0].heads, seen[0].neurons):  # 4 steps of about 1e-2: a fifth of an epoch, and no more
        assert 0.02 < (learnt.detach() - 1).abs().max() < 0.06
    again = early_bert.draw(*start_model("random-tiny", data, settings), data, settings)
    assert torch.equal(again.neurons, drawn.neurons)
