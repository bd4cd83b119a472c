"""Everything a pretraining run is decided by, in one frozen record that a TOML or JSON file can hold."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from elbert.errors import UsageError
from elbert.runs.settings import Settings
from elbert.seeds import check_seed

DTYPES = ("auto", "float32", "bfloat16")

# The three things to learn from; with a teacher and nothing said, it alone is learned from.
OBJECTIVES = ("masked_words", "sentence_order", "distillation")


@dataclass(frozen=True)
class PretrainSettings(Settings):
    """Shape, objectives, data and optimisation of one run; the shape's defaults are those of the bundled encoder.

    Attributes:
        layers: exits; how often a layer is applied.
        hidden_groups: layers with weights of their own, at most `layers`; 1 shares one over the whole depth, as many as
            `layers` share none.
        hidden_size: H, width of the layer.
        attention_heads: heads of the layer; divides `hidden_size`.
        intermediate_size: width of the feed-forward part.
        embedding_size: E, width of the factorised embeddings.
        max_positions: longest text the model will ever read, in tokens.
        hidden_act: activation of the feed-forward part, transformers' name.
        dropout: of hidden states and attention; ALBERT's later versions use none.
        vocabulary: entries of a new tokenizer, trained on the corpus; a teacher's or an earlier model's is kept.
        masked_words: weight of the masked-word loss; 0 switches it off.
        sentence_order: weight of the sentence-order loss; 0 switches it off.
        distillation: weight of the distance to the teacher; 0 switches it off.
        sentence_vector: weight, inside distillation, of every layer's pooled `[CLS]` against the teacher's mean.
        leap: the same of every layer's pooled mean over tokens: each is pulled to the end (LEAP, arXiv 2605.01058).
        teacher_layer: 1-based layer of the teacher that the first hidden group starts from, the others evenly from
            there to the teacher's last; 0 keeps the random start.
        mask_fraction: part of the places that is masked.
        max_ngram: longest run of words masked together.
        max_length: longest training sequence, in tokens, special tokens included.
        single_sentences: part of the sequences that hold one sentence; the rest are passages of up to `max_length`.
        micro_tokens: most tokens of one forward and backward pass.
        batch_tokens: most tokens of one optimiser step; a multiple of `micro_tokens` accumulates gradients.
        learning_rate: peak rate.
        warm_up: part of the run over which the rate rises from 0; over the rest it falls linearly to 0.
        weight_decay: AdamW's, on matrices.
        beta2: AdamW's decay of the second moment.
        max_gradient_norm: gradients are clipped to it.
        epochs: passes over the corpus after which the run ends.
        tokens: training tokens after which it ends, if that is earlier; 0 for no such limit.
        hours: hours of training after which it ends, if that is earlier; 0 for no such limit. The parts of a resumed
            run count together.
        held_out_tokens: tokens kept aside for the held-out loss.
        checkpoint_minutes: minutes between checkpoints, each with a held-out loss.
        seed: of every random choice.
        dtype: of the matrix products: `auto`, `float32` or `bfloat16`; auto is bfloat16 where the machine computes it.
            The weights that are updated are float32 always.
    """

    about: ClassVar[str] = "pretraining setting"

    layers: int = 12
    hidden_groups: int = 1
    hidden_size: int = 384
    attention_heads: int = 12
    intermediate_size: int = 1536
    embedding_size: int = 128
    max_positions: int = 512
    hidden_act: str = "gelu"
    dropout: float = 0.0
    vocabulary: int = 16_000
    masked_words: float = 1.0
    sentence_order: float = 1.0
    distillation: float = 0.0
    sentence_vector: float = 0.5
    leap: float = 0.0
    teacher_layer: int = 0
    mask_fraction: float = 0.15
    max_ngram: int = 3
    max_length: int = 128
    single_sentences: float = 0.1
    micro_tokens: int = 2048
    batch_tokens: int = 4096
    learning_rate: float = 1e-3
    warm_up: float = 0.05
    weight_decay: float = 0.01
    beta2: float = 0.98
    max_gradient_norm: float = 1.0
    epochs: float = 1.0
    tokens: int = 0
    hours: float = 0.0
    held_out_tokens: int = 20_000
    checkpoint_minutes: float = 5.0
    seed: int = 0
    dtype: str = "auto"

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: one is out of range; the message says what is allowed.
        """
        counts = ("layers", "hidden_size", "attention_heads", "intermediate_size", "max_ngram", "micro_tokens")
        self.check(*counts, low=1)
        self.check("warm_up", "single_sentences", "mask_fraction", "dropout", "beta2", low=0, high=1)
        limits = ("sentence_vector", "leap", "teacher_layer", "tokens", "hours", "weight_decay")
        self.check(*OBJECTIVES, *limits, low=0)
        check_seed(self.seed)
        self.check("hidden_groups", low=1, high=self.layers)
        self.check("embedding_size", low=2)
        self.check("max_length", low=8, high=self.max_positions)
        self.check("batch_tokens", low=self.micro_tokens)
        self.check_positive("learning_rate", "epochs", "max_gradient_norm", "held_out_tokens", "checkpoint_minutes")
        self.check_choice(dtype=DTYPES)
        if self.hidden_size % self.attention_heads:
            raise UsageError(f"attention_heads is {self.attention_heads}, which does not divide {self.hidden_size}")
        if not any(getattr(self, name) for name in OBJECTIVES):
            raise UsageError(f"there is nothing to learn: {', '.join(OBJECTIVES)} are all 0")

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, teacher: bool = False) -> PretrainSettings:
        """Make settings from a dictionary; what it leaves out keeps its default.

        Args:
            values: settings by name.
            teacher: whether there is a teacher. Then, where no objective is named, distillation is the only one.

        Raises:
            UsageError: an unknown key (the message names the closest), or a value of the wrong type or range.
        """
        if teacher and not any(name in values for name in OBJECTIVES):
            values = {**dict.fromkeys(OBJECTIVES, 0.0), "distillation": 1.0, **values}
        return super().from_dict(values)


def read_settings(path: Path) -> dict[str, Any]:
    """Return the table that a `.toml` or `.json` settings file holds.

    Raises:
        UsageError: the file is missing, is neither, or does not parse.
    """
    if not path.is_file():
        raise UsageError(f"there is no settings file {str(path)!r}")
    if path.suffix not in (".toml", ".json"):
        raise UsageError(f"settings file {path.name!r} has an unknown ending; allowed: .toml, .json")
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:  # of either format, and of broken UTF-8
        raise UsageError(f"settings file {path} does not parse: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"settings file {path} must hold one table of settings")
    return values
