"""A teacher: a frozen encoder that says what each layer of the student should look like.

Any encoder of the families that `elbert.modeling` reads will do, classifier or not; its head is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from elbert.modeling.families import family_of
from elbert.modeling.files.load import load_model
from elbert.modeling.weights import EmbeddingWeights, LayerWeights


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A frozen encoder. B sequences of L tokens, H hidden units, K layers.

    Attributes:
        name: as the user gave it.
        encoder: transformers' module, in the run's dtype.
        tokenizer: the teacher's, which the student keeps.
        embedding: its embedding as plain float32 matrices.
        layers: K layers as plain float32 matrices.
        positions: longest sequence it reads.
    """

    name: str
    encoder: Any
    tokenizer: Any
    embedding: EmbeddingWeights
    layers: tuple[LayerWeights, ...]
    positions: int

    @property
    def hidden_size(self) -> int:
        """Return H."""
        return int(self.encoder.config.hidden_size)

    @torch.no_grad()
    def hidden_states(self, ids: Tensor, token_types: Tensor) -> tuple[Tensor, ...]:
        """Return K + 1 tensors [B, L, H]: the embedding, then every layer.

        Args:
            ids: [B, L] token ids without padding.
            token_types: [B, L]; left out for teachers that know one type or none.
        """
        types = {} if self._types() < 2 else {"token_type_ids": token_types}
        states: tuple[Tensor, ...] = self.encoder(ids, output_hidden_states=True, **types).hidden_states
        return states

    @torch.no_grad()
    def embed(self, ids: Tensor, token_types: Tensor, shift: int) -> Tensor:
        """Return [B, L, H], what the first layer would read if the text stood at position `shift`.

        Args:
            ids: [B, L] token ids.
            token_types: [B, L].
            shift: 0-based position of the first token; `shift + L` is at most `positions`.
        """
        weights = self.embedding
        first = weights.position_offset + shift
        summed = F.embedding(ids, weights.word)
        if weights.position is not None:
            summed = summed + weights.position[first : first + ids.shape[1]]
        if weights.token_type is not None:
            summed = summed + F.embedding(token_types.clamp(max=self._types() - 1), weights.token_type)
        norm, projection = weights.norm, weights.projection
        normed = F.layer_norm(summed, summed.shape[-1:], norm.weight, norm.bias, norm.eps)
        return normed if projection is None else F.linear(normed, projection.weight, projection.bias)

    def _types(self) -> int:
        return 0 if self.embedding.token_type is None else len(self.embedding.token_type)


def load_teacher(name: str, dtype: torch.dtype, device: torch.device) -> Teacher:
    """Load a teacher from a folder, by hub id, or by the name of a bundled checkpoint.

    Args:
        name: which.
        dtype: of its layers' products.
        device: where it computes.

    Raises:
        UsageError: there is no such model.
        ModelError: it cannot be read, or is of a family elbert does not know.
    """
    model, tokenizer, _ = load_model(name, num_labels=2)
    family, backbone = family_of(model.config), model.backbone.to(device)
    tensors = dict(backbone.named_parameters())
    embedding = family.embedding_weights(tensors, model.config)
    layers = tuple(step[-1] for step in family.layer_weights(tensors, model.config))
    # The plain matrices above stay float32: casting gives the module new ones.
    encoder = family.encoder(backbone)
    encoder.set_attn_implementation("eager")
    encoder.requires_grad_(False).eval().to(dtype)
    return Teacher(
        name,
        encoder,
        tokenizer,
        embedding,
        layers,
        family.max_length(model.config),
    )
