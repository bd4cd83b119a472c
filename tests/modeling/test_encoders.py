"""Real weights: what the engine makes of MiniLM and MPNet is what transformers makes of them, and they take exits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from elbert.engine import Arrival, Engine
from elbert.engine.rows.packed import Layout
from elbert.modeling.files.load import load_model

TEXTS = [
    "A man is eating food.",
    "The new movie is awesome!",
    "What is the capital of the country with the longest coast?",
    "No.",
    "The committee met for four hours, and what it decided was to meet again, in a smaller room. " * 4,
]


@pytest.fixture(scope="module", params=["minilm", "mpnet"])
def encoder(request: pytest.FixtureRequest) -> Path:
    folder = Path(__file__).parents[2] / "encoders" / request.param
    if not (folder / "model.safetensors").is_file():
        pytest.skip("real encoders are not here: make encoders")
    return folder


def sentence_vectors(states: list[Tensor]) -> Tensor:
    """Mean over the tokens [S, H] of each text, of length 1, as sentence-transformers makes them."""
    means = torch.stack([state.mean(0) for state in states])
    return means / means.norm(dim=1, keepdim=True)


def of_transformers(folder: Path) -> tuple[list[list[int]], Tensor]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    ids = [tokenizer(text, truncation=True, max_length=128)["input_ids"] for text in TEXTS]
    with torch.no_grad():
        states = [model(torch.tensor([row])).last_hidden_state[0] for row in ids]
    return ids, sentence_vectors(states)


def test_sentence_vectors_are_those_of_transformers(encoder: Path) -> None:
    ids, expected = of_transformers(encoder)
    backend = Engine(load_model(encoder, num_labels=2)[0].weights()).layers()
    layout = Layout(np.array([len(row) for row in ids]))
    with torch.inference_mode():
        hidden = backend.embed(layout.packed(ids), None, layout)
        for depth in range(len(backend.layers)):
            hidden, layout = backend.step(hidden, layout, depth)
    states = list(hidden[: layout.tokens].split(layout.lengths.tolist()))
    torch.testing.assert_close(sentence_vectors(states), expected, atol=1e-4, rtol=0)


def test_every_exit_says_what_the_model_in_training_says(encoder: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer, _ = load_model(encoder, num_labels=3)
    rows: list[Any] = [tokenizer(text, truncation=True, max_length=64) for text in TEXTS]
    padded = tokenizer.pad(rows, return_tensors="pt")
    with torch.no_grad():
        expected = model(padded["input_ids"], padded["attention_mask"]).logits
    texts = [Arrival(number, row["input_ids"]) for number, row in enumerate(rows)]
    torch.testing.assert_close(Engine(model.weights()).record(texts).logits, expected, atol=1e-4, rtol=0)
