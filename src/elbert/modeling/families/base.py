"""What one encoder family has to say about itself: how it embeds, steps and reads out, and what its tensors are called.

A family holds no state; it is a set of functions over transformers' own module of that family, and a table of tensor
names over its checkpoint. To add one, copy the nearest file in this folder, change it, and list it in
`families/__init__.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from elbert.modeling.spec import LayerSpec
from elbert.modeling.weights import EmbeddingWeights, HeadWeights, Layer, LayerWeights, Matrix, Norm, PositionWeights

Tensors = Mapping[str, Tensor]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LayerNames:
    """What the Linears and norms of a layer are called, behind the layer's own name."""

    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    up: str
    down: str
    output_norm: str


BERT_LAYER = LayerNames(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    output_norm="output.LayerNorm",
)


class Family(ABC):
    """One encoder family. `backbone` is always its transformers `...ForSequenceClassification`.

    Names are those of the family's checkpoint, which are the names of its transformers module's parameters. `config` is
    a transformers configuration, or anything with the fields of `fields`.

    Attributes:
        model_type: transformers' name of the family, as in `config.json`.
        head_activation: activation between the head's two Linears: `tanh`, `relu` or `gelu`.
        drops_cls: True where the head also drops out its input, the [CLS] state.
        prefix: name of the encoder below the classification head.
        layers: name of a layer without `prefix`, with a place for its number.
        layer: names within a layer.
        projection: name, without `prefix`, of what widens the embedding, or None where the family has none.
        dense, dropout, out: names of the head's parts.
        token_types: False where the family has none.
        fields: what the plain matrices depend on, each with its key in `config.json`.
    """

    model_type: ClassVar[str]
    head_activation: ClassVar[str]
    drops_cls: ClassVar[bool] = False
    prefix: ClassVar[str]
    layers: ClassVar[str] = "encoder.layer.{}"
    layer: ClassVar[LayerNames] = BERT_LAYER
    projection: ClassVar[str | None] = None
    dense: ClassVar[str]
    dropout: ClassVar[str] = "dropout"
    out: ClassVar[str] = "classifier"
    token_types: ClassVar[bool] = True
    fields: ClassVar[dict[str, str]] = {
        "vocab_size": "vocab_size",
        "max_position_embeddings": "max_position_embeddings",
        "type_vocab_size": "type_vocab_size",
        "hidden_size": "hidden_size",
        "num_hidden_layers": "num_hidden_layers",
        "num_attention_heads": "num_attention_heads",
        "intermediate_size": "intermediate_size",
        "hidden_act": "hidden_act",
        "layer_norm_eps": "layer_norm_eps",
    }

    def encoder(self, backbone: nn.Module) -> Any:
        """Return the encoder below the classification head (`backbone.albert`, `backbone.bert`, ...)."""
        return backbone.base_model

    @abstractmethod
    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return what the first layer reads, [B, S, H], for token ids [B, S]."""

    def steps(self, backbone: nn.Module) -> Sequence[nn.Module]:
        """Return the module between each exit and the one before, M of them, each called `step(hidden, mask)`."""
        return [backbone.get_submodule(name) for (name,) in self.layer_names(backbone.config)]

    def head(self, backbone: nn.Module) -> tuple[nn.Linear, nn.Dropout, nn.Linear]:
        """Return the backbone's own head: the dense layer of the pooler, the dropout, the classifier."""
        dense, dropout, out = map(backbone.get_submodule, (self.dense, self.dropout, self.out))
        return dense, dropout, out  # type: ignore[return-value]

    def layer_names(self, config: Any) -> list[tuple[str, ...]]:
        """Return the names of the layers that each step runs, M tuples."""
        return [(f"{self.prefix}.{self.layers.format(step)}",) for step in range(config.num_hidden_layers)]

    def projection_name(self, config: Any) -> str | None:
        """Return the name of what widens the embedding, or None where nothing does."""
        if self.projection is None or self.embedding_size(config) == config.hidden_size:
            return None
        return f"{self.prefix}.{self.projection}"

    def shapes(self, config: Any) -> dict[str, Shape]:
        """Return the shape of every tensor that a checkpoint of this family holds, by name."""
        hidden, width, inner = config.hidden_size, self.embedding_size(config), self.feed_forward_size(config)
        embeddings, projection, part = f"{self.prefix}.embeddings", self.projection_name(config), self.layer
        tables = {"word": config.vocab_size, "position": config.max_position_embeddings}
        if self.token_types:
            tables["token_type"] = config.type_vocab_size
        shapes: dict[str, Shape] = {
            f"{embeddings}.{table}_embeddings.weight": (rows, width) for table, rows in tables.items()
        }
        linears: dict[str, Shape] = {self.dense: (hidden, hidden), self.out: (len(config.id2label), hidden)}
        norms = {f"{embeddings}.LayerNorm": width}
        if projection is not None:
            linears[projection] = (hidden, width)
        for name in dict.fromkeys(name for step in self.layer_names(config) for name in step):
            linears |= {f"{name}.{each}": (hidden, hidden) for each in (part.query, part.key, part.value, part.out)}
            linears |= {f"{name}.{part.up}": (inner, hidden), f"{name}.{part.down}": (hidden, inner)}
            norms |= {f"{name}.{part.attention_norm}": hidden, f"{name}.{part.output_norm}": hidden}
        for name, size in linears.items():
            shapes |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
        for name, length in norms.items():
            shapes |= {f"{name}.weight": (length,), f"{name}.bias": (length,)}
        return shapes

    def embedding_weights(self, tensors: Tensors, config: Any) -> EmbeddingWeights:
        """Return the embedding as plain matrices."""
        embeddings, projection = f"{self.prefix}.embeddings", self.projection_name(config)
        return EmbeddingWeights(
            word=tensors[f"{embeddings}.word_embeddings.weight"].detach(),
            position=tensors[f"{embeddings}.position_embeddings.weight"].detach(),
            token_type=tensors[f"{embeddings}.token_type_embeddings.weight"].detach() if self.token_types else None,
            norm=norm(tensors, f"{embeddings}.LayerNorm", self.norm_eps(config)),
            projection=None if projection is None else matrix(tensors, projection),
            position_offset=self.position_offset(config),
        )

    def layer_weights(self, tensors: Tensors, config: Any) -> tuple[tuple[LayerWeights, ...], ...]:
        """Return the layers of every step as plain matrices, the same object wherever a layer is shared."""
        steps = self.layer_names(config)
        spec, eps = self.spec(config), self.norm_eps(config)
        built = {
            step: tuple(_layer_weights(tensors, name, self.layer, spec, eps) for name in step)
            for step in dict.fromkeys(steps)
        }
        return tuple(built[step] for step in steps)

    def spec(self, config: Any) -> LayerSpec:
        """Return what a layer is."""
        return LayerSpec(int(config.num_attention_heads), self.feed_forward_activation(config))

    def head_weights(self, tensors: Tensors) -> HeadWeights:
        """Return the family's own head as plain matrices."""
        return HeadWeights(matrix(tensors, self.dense), self.head_activation, matrix(tensors, self.out))

    def embedding_size(self, config: Any) -> int:
        """Return E, the width of the embedding before its projection."""
        return int(config.hidden_size)

    def feed_forward_size(self, config: Any) -> int:
        """Return F, the width inside a layer."""
        return int(config.intermediate_size)

    def feed_forward_activation(self, config: Any) -> str:
        """Return transformers' name of the activation inside a layer."""
        return str(config.hidden_act)

    def norm_eps(self, config: Any) -> float:
        """Return the epsilon of every norm."""
        return float(config.layer_norm_eps)

    def position_offset(self, config: Any) -> int:  # noqa: ARG002
        """Return the row of the position table that the first token takes."""
        return 0

    def max_length(self, config: Any) -> int:
        """Return how many tokens a text may have, special tokens included."""
        return int(config.max_position_embeddings) - self.position_offset(config)


def matrix(tensors: Tensors, *names: str) -> Matrix:
    """Return the Linear of that name; of several names one Linear with all their outputs, behind one another."""
    weights, biases = ([tensors[f"{name}.{part}"].detach() for name in names] for part in ("weight", "bias"))
    if len(names) == 1:
        return Matrix(weights[0], biases[0])
    return Matrix(torch.cat(weights), torch.cat(biases))


def norm(tensors: Tensors, name: str, eps: float) -> Norm:
    """Return the norm of that name."""
    return Norm(tensors[f"{name}.weight"].detach(), tensors[f"{name}.bias"].detach(), eps)


def _layer_weights(tensors: Tensors, name: str, names: LayerNames, spec: LayerSpec, eps: float) -> LayerWeights:
    """Return one layer's matrices; only query, key and value are copied, into one matrix."""
    return Layer(
        spec=spec,
        qkv=matrix(tensors, *(f"{name}.{part}" for part in (names.query, names.key, names.value))),
        attention=PositionWeights(),
        out=matrix(tensors, f"{name}.{names.out}"),
        attention_norm=norm(tensors, f"{name}.{names.attention_norm}", eps),
        up=matrix(tensors, f"{name}.{names.up}"),
        down=matrix(tensors, f"{name}.{names.down}"),
        output_norm=norm(tensors, f"{name}.{names.output_norm}", eps),
    )
