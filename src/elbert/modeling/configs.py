"""ALBERT shapes that start from random weights: nothing to download, and nothing learned yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elbert.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from transformers import AlbertConfig

# name: (layers, hidden, attention heads, feed-forward, embedding, vocabulary at most, learning rate)
_SHAPES: dict[str, tuple[int, int, int, int, int, int, float]] = {
    "random-tiny": (4, 32, 2, 64, 16, 512, 3e-4),  # for tests
    "random-small": (12, 192, 3, 768, 128, 8000, 3e-4),  # trains on two CPU cores in minutes
    "albert-base-shape": (12, 768, 12, 3072, 128, 30000, 3e-5),
    "albert-large-shape": (24, 1024, 16, 4096, 128, 30000, 3e-5),
    "albert-xlarge-shape": (24, 2048, 16, 8192, 128, 30000, 3e-5),
    "albert-xxlarge-shape": (12, 4096, 64, 16384, 128, 30000, 3e-5),
}

RANDOM_CONFIGS: tuple[str, ...] = tuple(_SHAPES)


def vocab_limit(name: str) -> int:
    """Return how many entries the tokenizer of the built-in configuration `name` may have."""
    return _shape(name)[5]


def random_config(name: str, *, vocab_size: int | None = None, **overrides: Any) -> AlbertConfig:
    """Return the built-in configuration called `name`.

    Args:
        name: one of `RANDOM_CONFIGS`.
        vocab_size: entries of the tokenizer it is to work with; None for the shape's own.
        overrides: any field of `AlbertConfig`, such as `num_hidden_layers` or `num_labels`.

    Raises:
        UsageError: there is no such configuration.
    """
    from transformers import AlbertConfig  # seconds to import, and not needed to know the names

    layers, hidden, heads, feed_forward, embedding, vocabulary, rate = _shape(name)
    fields: dict[str, Any] = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": feed_forward,
        "embedding_size": embedding,
        "vocab_size": vocab_size or vocabulary,
        "max_position_embeddings": 512,
        "fine_tuning_learning_rate": rate,
    }
    return AlbertConfig(**{**fields, **overrides})


def _shape(name: str) -> tuple[int, int, int, int, int, int, float]:
    if name not in _SHAPES:
        raise UsageError(f"unknown built-in configuration {name!r}{did_you_mean(name, _SHAPES)}")
    return _SHAPES[name]
