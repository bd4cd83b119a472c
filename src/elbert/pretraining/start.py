"""Starting a student from its teacher: embeddings by a singular value decomposition, layers by copying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elbert.errors import UsageError
from elbert.modeling.weights import EmbeddingWeights, LayerWeights, Matrix, Norm
from elbert.pretraining.teacher import Teacher

# Places over which the mean length of an embedding is taken: most texts are no longer.
COMMON_PLACES = 128


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Factorised embeddings. V words, P positions, T token types, E embedding width, H hidden width.

    Attributes:
        word: [V, E].
        position: [P, E].
        token_type: [T, E].
        projection_weight: [H, E].
        projection_bias: [H].
    """

    word: Tensor
    position: Tensor
    token_type: Tensor
    projection_weight: Tensor
    projection_bias: Tensor


def factorise(embedding: EmbeddingWeights, size: int, word_weights: Tensor | None = None) -> Factors:
    """Turn `LayerNorm(word + position + type)` of width W into `projection(LayerNorm(word' + position' + type'))`.

    LayerNorm does not see the mean over the features, so it is taken out of every row first; what is left has W - 1
    directions. The E - 1 strongest are kept and laid into the subspace of E features whose mean is 0, where the
    student's LayerNorm (weight 1, bias 0) divides by the same length up to a constant. The teacher's LayerNorm weight
    and bias, and its projection where it has one, go into the student's projection. With E = W nothing is lost.

    Args:
        embedding: the teacher's.
        size: E.
        word_weights: [V] how much each word counts in the decomposition; all the same where None.
    """
    tables = [table - table.mean(dim=1, keepdim=True) for table in _tables(embedding)]
    weights = [torch.ones(len(table)).double() for table in tables]
    if word_weights is not None:
        weights[0] = word_weights.double()
    # Every text uses one row of each table at every place, so the tables count alike, whatever their length.
    scaled = [table * (weight / weight.sum()).sqrt()[:, None] for table, weight in zip(tables, weights, strict=True)]
    moments = torch.stack([table.T @ table for table in scaled]).sum(dim=0)
    directions = torch.linalg.eigh(moments).eigenvectors.flip(1)[:, : size - 1]  # [W, at most E - 1], strongest first
    basis = directions @ _mean_free(size)[:, : directions.shape[1]].T  # [W, E]
    word, position, token_type = (table @ basis for table in tables)
    weight = embedding.norm.weight.cpu().double()[:, None] * basis * _gain(tables, [word, position], len(basis) / size)
    bias = _bias_of(embedding.norm).cpu().double()
    if embedding.projection is not None:
        outer = embedding.projection.weight.cpu().double()
        weight, bias = outer @ weight, outer @ bias + _bias_of(embedding.projection).cpu().double()
    return Factors(word.float(), position.float(), token_type.float(), weight.float(), bias.float())


@torch.no_grad()
def start_student(student: Any, teacher: Teacher, layer: int, word_weights: Tensor | None = None) -> None:
    """Copy what fits from a teacher into a fresh `AlbertModel`, and let its pooler begin as the identity.

    Where the hidden widths differ only the embedding tables are taken over.

    Args:
        student: the `AlbertModel` to fill in place.
        teacher: where to copy from.
        layer: 1-based teacher layer for the first hidden group, the others evenly from there to the teacher's last; 0
            leaves all as they are.
        word_weights: [V] passed to `factorise`.

    Raises:
        UsageError: the teacher has no such layer.
    """
    if layer > len(teacher.layers):
        raise UsageError(f"teacher_layer is {layer}; allowed: 0 to {len(teacher.layers)}, the layers of {teacher.name}")
    factors = factorise(teacher.embedding, student.config.embedding_size, word_weights)
    embeddings = student.embeddings
    embeddings.word_embeddings.weight.copy_(factors.word)
    _copy_rows(embeddings.position_embeddings.weight, factors.position)
    _copy_rows(embeddings.token_type_embeddings.weight, factors.token_type)
    student.pooler.weight.copy_(torch.eye(student.config.hidden_size))
    student.pooler.bias.zero_()
    if student.config.hidden_size != teacher.hidden_size:
        return
    projection = student.encoder.embedding_hidden_mapping_in
    projection.weight.copy_(factors.projection_weight)
    projection.bias.copy_(factors.projection_bias)
    if layer:
        groups = student.encoder.albert_layer_groups
        for group, source in zip(groups, spread_layers(layer, len(teacher.layers), len(groups)), strict=True):
            _copy_layer(group.albert_layers[0], teacher.layers[source - 1])


def spread_layers(first: int, last: int, count: int) -> list[int]:
    """Return `count` layer numbers, evenly from `first` to `last`, both included; for one, `first` alone."""
    return [first + round(number * (last - first) / max(count - 1, 1)) for number in range(count)]


def _copy_layer(target: Any, source: LayerWeights) -> None:
    """Copy one layer; matrices of another feed-forward width are left as they are."""
    attention = target.attention
    query, key, value = (attention.query, attention.key, attention.value)
    for linear, weight, bias in zip(
        (query, key, value), source.qkv.weight.chunk(3), _bias_of(source.qkv).chunk(3), strict=True
    ):
        _copy(linear, Matrix(weight, bias))
    _copy(attention.dense, source.out)
    if source.attention_norm is not None:
        _copy(attention.LayerNorm, source.attention_norm)
    _copy(target.ffn, source.up)
    _copy(target.ffn_output, source.down)
    _copy(target.full_layer_layer_norm, source.output_norm)


def _copy(module: Any, source: Matrix | Norm) -> None:
    if module.weight.shape == source.weight.shape:
        module.weight.copy_(source.weight)
        module.bias.copy_(_bias_of(source))


def _bias_of(source: Matrix | Norm) -> Tensor:
    """Return the bias, zeros where there is none."""
    return source.weight.new_zeros(len(source.weight)) if source.bias is None else source.bias


def _copy_rows(table: Tensor, rows: Tensor) -> None:
    count = min(len(table), len(rows))
    table[:count] = rows[:count]


def _tables(embedding: EmbeddingWeights) -> list[Tensor]:
    """Return word, position and token-type tables in float64 on the CPU, positions from the first real one on."""
    word = embedding.word.cpu().double()
    position = torch.zeros(1, word.shape[1]).double()
    if embedding.position is not None:
        position = embedding.position.cpu().double()[embedding.position_offset :]
    types = embedding.token_type
    token_type = torch.zeros(1, word.shape[1]).double() if types is None else types.cpu().double()
    return [word, position, token_type]


def _mean_free(size: int) -> Tensor:
    """Return [E, E - 1] orthonormal columns that each sum to 0."""
    helper = torch.cat([torch.ones(size, 1), torch.eye(size)[:, : size - 1]], dim=1).double()
    basis: Tensor = torch.linalg.qr(helper).Q
    return basis[:, 1:]


def _gain(whole: list[Tensor], kept: list[Tensor], widths: float) -> Tensor:
    """Return what mends the length of a normed embedding: the change of width, and what the weak directions held."""
    lengths = [
        tables[0].square().sum(-1).mean() + tables[1][:COMMON_PLACES].square().sum(-1).mean()
        for tables in (kept, whole)
    ]
    return (widths * lengths[0] / lengths[1]).sqrt()
