"""Beginning where another run ended: an earlier encoder's weights, shape and tokenizer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AlbertConfig, AlbertForPreTraining, AutoTokenizer

from elbert.errors import ModelError
from elbert.metadata import read_json
from elbert.modeling.files.sources import find_folder
from elbert.modeling.quiet import quiet_transformers
from elbert.pretraining.settings import PretrainSettings

# Settings that an earlier encoder decides, and what its configuration calls them.
SHAPE = {
    "layers": "num_hidden_layers",
    "hidden_groups": "num_hidden_groups",
    "hidden_size": "hidden_size",
    "attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "embedding_size": "embedding_size",
    "max_positions": "max_position_embeddings",
    "hidden_act": "hidden_act",
}


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """An ALBERT to go on with, and its tokenizer; heads it was saved without are new."""

    network: AlbertForPreTraining
    tokenizer: Any

    def shape(self, settings: PretrainSettings) -> PretrainSettings:
        """Return the settings with this encoder's shape."""
        config = self.network.config
        return dataclasses.replace(settings, **{name: getattr(config, key) for name, key in SHAPE.items()})


def load_earlier(name: str, dropout: float) -> Earlier:
    """Load an ALBERT from a folder, by hub id, or by the name of a bundled checkpoint.

    Args:
        name: which.
        dropout: of hidden states and attention in the run to come.

    Raises:
        UsageError: there is no such model.
        ModelError: it is no ALBERT, or cannot be read.
    """
    folder = find_folder(name)
    _check_albert(folder)
    try:
        with quiet_transformers():
            config = AlbertConfig.from_pretrained(folder, local_files_only=True)
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
            network = AlbertForPreTraining.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"the encoder in {folder} cannot be read: {reason}") from error
    return Earlier(network, tokenizer)


def _check_albert(folder: Path) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} is no model folder: it has no config.json")
    kind = read_json(path).get("model_type")
    if kind != "albert":
        raise ModelError(f"{folder} is of the family {kind!r}; only an ALBERT can be pretrained further")
