"""A corpus of a hundred short documents, a teacher of a few thousand parameters, and settings that take seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from elbert.pretraining import PretrainSettings

SUBJECTS = ("The film", "A story", "This actor", "The music", "Her book", "The ending")
VERBS = ("was", "seemed", "is", "became", "felt")
WORDS = ("wonderful", "dull", "warm", "careless", "slow", "great", "poor", "witty", "cold", "lovely")

TINY: dict[str, Any] = {
    "layers": 4,
    "hidden_size": 16,
    "attention_heads": 2,
    "intermediate_size": 32,
    "embedding_size": 8,
    "max_positions": 64,
    "vocabulary": 200,
    "max_length": 32,
    "micro_tokens": 64,
    "batch_tokens": 128,
    "tokens": 3000,
    "epochs": 50.0,
    "learning_rate": 3e-3,
    "held_out_tokens": 100,
    "checkpoint_minutes": 1e-9,  # after every step
    "dtype": "float32",
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A text file of 100 documents of 2 to 6 sentences."""
    rng = np.random.default_rng(0)
    documents = []
    for number in range(100):
        sentences = [
            f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(WORDS)} and {rng.choice(WORDS)}."
            for _ in range(rng.integers(2, 7))
        ]
        documents.append(f"Title {number}\n{' '.join(sentences)}\n")
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(documents))
    return path


@pytest.fixture(scope="session")
def settings() -> Callable[..., PretrainSettings]:
    """`settings(teacher=False, **values)`: a tiny shape, a budget of 3,000 tokens, and whatever else is given."""

    def make(*, teacher: bool = False, **values: Any) -> PretrainSettings:
        return PretrainSettings.from_dict(TINY | values, teacher=teacher)

    return make


@pytest.fixture(scope="session")
def teacher_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., Any], tiny_tokenizer: Any
) -> Callable[..., Path]:
    """`teacher_folder(family="bert")`: an encoder of 3 layers of 16 units with random weights, and its tokenizer."""

    def make(family: str = "bert") -> Path:
        folder = tmp_path_factory.mktemp("teachers") / family
        torch.manual_seed(1)
        encoder = AutoModel.from_config(tiny_config(family))
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))  # norms and biases too, or they would go untested
        encoder.save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return make
