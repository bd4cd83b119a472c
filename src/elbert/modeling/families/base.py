"""What one encoder family has to say about itself: what its layers are, and what its modules and tensors are called.

A family holds no state; it is a table of names over transformers' own module of that family and its checkpoint, which
call things alike, and a few functions of a configuration. To add one, copy the nearest file in this folder, change it,
and list it in `families/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from elbert.modeling.families.tensors import Tensors, matrix, norm
from elbert.modeling.spec import LayerSpec
from elbert.modeling.weights import (
    EmbeddingWeights,
    HeadWeights,
    Layer,
    LayerWeights,
    PositionWeights,
)

Shape = tuple[int, ...]
Step = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class LayerNames:
    """What the Linears and norms of a layer are called, behind the layer's own name.

    Attributes:
        qkv: query, key and value, or one Linear that holds all three.
        up: what widens; where the layer is gated the activated half and its multiplier, or one Linear that holds both.
    """

    qkv: tuple[str, ...]
    out: str
    attention_norm: str
    up: tuple[str, ...]
    down: str
    output_norm: str


BERT_LAYER = LayerNames(
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up=("intermediate.dense",),
    down="output.dense",
    output_norm="output.LayerNorm",
)


class Family:
    """One encoder family. `backbone` is always its transformers `...ForSequenceClassification`.

    Names are those of the family's checkpoint, which are the names of its transformers module's parameters. `config` is
    a transformers configuration, or anything with the fields of `fields` and `options`.

    Attributes:
        model_type: transformers' name of the family, as in `config.json`.
        prefix: name of the encoder below the classification head.
        word, position, token_type, embedding_norm: names, without `prefix`, of the embedding's parts; None for a part
            the family has not.
        projection: name, without `prefix`, of what widens the embedding, or None where the family has none.
        projection_inside: True where the module `embeddings` does that itself, before its norm.
        layers: name of a layer without `prefix`, with a place for its number.
        layer: names within a layer.
        final_norm: name of the norm behind the last layer, which every exit here gets; None for none.
        dense, dropout, out: names of the head's parts.
        head_norm: name of the norm behind the head's activation; None for none.
        cls_dropout: name of what drops out the head's input, the [CLS] state; None for nothing.
        head_activation: activation between the head's two Linears, see `head_act`.
        fields: what the plain matrices depend on, each with its key in `config.json`.
        options: further keys of `config.json`, each with what holds where it is absent.
    """

    model_type: ClassVar[str]
    prefix: ClassVar[str]
    word: ClassVar[str] = "embeddings.word_embeddings"
    position: ClassVar[str | None] = "embeddings.position_embeddings"
    token_type: ClassVar[str | None] = "embeddings.token_type_embeddings"
    embedding_norm: ClassVar[str] = "embeddings.LayerNorm"
    projection: ClassVar[str | None] = None
    projection_inside: ClassVar[bool] = False
    layers: ClassVar[str] = "encoder.layer.{}"
    layer: ClassVar[LayerNames] = BERT_LAYER
    final_norm: ClassVar[str | None] = None
    dense: ClassVar[str]
    dropout: ClassVar[str] = "dropout"
    out: ClassVar[str] = "classifier"
    head_norm: ClassVar[str | None] = None
    cls_dropout: ClassVar[str | None] = None
    head_activation: ClassVar[str]
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
    options: ClassVar[dict[str, Any]] = {}

    # What runs in training, on transformers' own modules.

    def encoder(self, backbone: nn.Module) -> Any:
        """Return the encoder below the classification head (`backbone.albert`, `backbone.bert`, ...)."""
        return backbone.base_model

    def embed(self, backbone: nn.Module, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return what the first layer reads, [B, S, H], for token ids [B, S].

        A model with a single token type, or with none, takes the same for every token.
        """
        config: Any = backbone.config
        types = {} if self.type_rows(config) < 2 else {"token_type_ids": token_type_ids}
        embedded: Tensor = self.encoder(backbone).embeddings(input_ids, **types)  # [B, S, E]
        name = None if self.projection_inside else self.projection_name(config)
        projected: Tensor = embedded if name is None else backbone.get_submodule(name)(embedded)
        return projected

    def steps(self, backbone: nn.Module) -> Sequence[nn.Module]:
        """Return the module between each exit and the one before, M of them."""
        return [backbone.get_submodule(name) for (name,) in self.layer_names(backbone.config)]

    def stepping(self, backbone: nn.Module, hidden: Tensor, attention_mask: Tensor | None) -> Step:
        """Return how to call a step on hidden states [B, S, H], given the embedding's and the mask [B, S]."""
        from transformers.masking_utils import create_bidirectional_mask

        mask = create_bidirectional_mask(backbone.config, hidden, attention_mask)
        return lambda step, hidden: step(hidden, mask)

    def head(self, backbone: nn.Module) -> tuple[nn.Linear, nn.Dropout, nn.Linear]:
        """Return the backbone's own head: the dense layer of the pooler, the dropout, the classifier."""
        dense, dropout, out = map(backbone.get_submodule, (self.dense, self.dropout, self.out))
        return dense, dropout, out  # type: ignore[return-value]

    def head_norms(self, backbone: nn.Module) -> tuple[nn.Module | None, nn.Module | None]:
        """Return the norm of what the head reads and the one behind its activation, each None where there is none."""
        names = (None if self.final_norm is None else f"{self.prefix}.{self.final_norm}", self.head_norm)
        final, behind = (None if name is None else backbone.get_submodule(name) for name in names)
        return final, behind

    # What the configuration says.

    def check(self, config: Any) -> None:
        """Raise ModelError for a configuration that asks for what is not supported here."""

    def reads_mean(self, config: Any) -> bool:  # noqa: ARG002
        """Tell whether the family's own head, and so every exit, reads the mean over the tokens and not the first."""
        return False

    def spec(self, config: Any, step: int) -> LayerSpec:  # noqa: ARG002
        """Return what the layers of a step are."""
        return LayerSpec(int(config.num_attention_heads), self.feed_forward_activation(config))

    def layer_names(self, config: Any) -> list[tuple[str, ...]]:
        """Return the names of the layers that each step runs, M tuples."""
        return [(f"{self.prefix}.{self.layers.format(step)}",) for step in range(config.num_hidden_layers)]

    def projection_name(self, config: Any) -> str | None:
        """Return the name of what widens the embedding, or None where nothing does."""
        if self.projection is None or self.embedding_size(config) == config.hidden_size:
            return None
        return f"{self.prefix}.{self.projection}"

    def embedding_size(self, config: Any) -> int:
        """Return E, the width of the embedding before its projection."""
        return int(config.hidden_size)

    def feed_forward_size(self, config: Any) -> int:
        """Return F, the width inside a layer."""
        return int(config.intermediate_size)

    def feed_forward_activation(self, config: Any) -> str:
        """Return transformers' name of the activation inside a layer."""
        return str(config.hidden_act)

    def head_act(self, config: Any) -> str:  # noqa: ARG002
        """Return transformers' name of the activation between the head's two Linears."""
        return self.head_activation

    def norm_eps(self, config: Any) -> float:
        """Return the epsilon of every norm."""
        return float(config.layer_norm_eps)

    def position_rows(self, config: Any) -> int:
        """Return P, the rows of the position table; 0 for none."""
        return int(config.max_position_embeddings) if self.position else 0

    def position_offset(self, config: Any) -> int:  # noqa: ARG002
        """Return the row of the position table that the first token takes."""
        return 0

    def type_rows(self, config: Any) -> int:
        """Return the rows of the table of token types; 0 for none."""
        return int(config.type_vocab_size) if self.token_type else 0

    def max_length(self, config: Any) -> int:
        """Return how many tokens a text may have, special tokens included."""
        return int(config.max_position_embeddings) - self.position_offset(config)

    def biased(self, config: Any, part: str) -> bool:  # noqa: ARG002
        """Tell whether a part has biases: `projection`, `attention`, `feed_forward`, `norm`, `dense`."""
        return True

    def attention_normed(self, step: int) -> bool:  # noqa: ARG002
        """Tell whether the layers of a step have a norm of their own for attention."""
        return True

    def extra_shapes(self, config: Any) -> dict[str, Shape]:  # noqa: ARG002
        """Return the shapes of tensors that other families have not."""
        return {}

    def positions(self, tensors: Tensors, config: Any) -> Callable[[str], PositionWeights]:  # noqa: ARG002
        """Return what tells, by a layer's name, what its attention knows of places, beside what `spec` says."""
        return lambda name: PositionWeights()  # noqa: ARG005

    # What follows from all that.

    def shapes(self, config: Any) -> dict[str, Shape]:
        """Return the shape of every tensor that a checkpoint of this family holds, by name."""
        from elbert.modeling.families.shapes import shapes_of

        return shapes_of(self, config)

    def embedding_weights(self, tensors: Tensors, config: Any) -> EmbeddingWeights:
        """Return the embedding as plain matrices."""
        projection = self.projection_name(config)
        word, position, token_type = (
            tensors[f"{self.prefix}.{name}.weight"].detach() if name and rows else None
            for name, rows in (
                (self.word, config.vocab_size),
                (self.position, self.position_rows(config)),
                (self.token_type, self.type_rows(config)),
            )
        )
        assert word is not None
        return EmbeddingWeights(
            word=word,
            position=position,
            token_type=token_type,
            norm=norm(tensors, f"{self.prefix}.{self.embedding_norm}", self.norm_eps(config)),
            projection=None if projection is None else matrix(tensors, projection),
            position_offset=self.position_offset(config),
            norm_last=self.projection_inside,
        )

    def layer_weights(self, tensors: Tensors, config: Any) -> tuple[tuple[LayerWeights, ...], ...]:
        """Return the layers of every step as plain matrices, the same object wherever a layer is shared."""
        steps = self.layer_names(config)
        first = {step: steps.index(step) for step in dict.fromkeys(steps)}
        eps, positions = self.norm_eps(config), self.positions(tensors, config)
        built = {
            names: tuple(
                _layer_weights(tensors, name, self.layer, self.spec(config, step), eps, positions(name))
                for name in names
            )
            for names, step in first.items()
        }
        return tuple(built[step] for step in steps)

    def head_weights(self, tensors: Tensors, config: Any) -> HeadWeights:
        """Return the family's own head as plain matrices."""
        eps = self.norm_eps(config)
        return HeadWeights(
            dense=matrix(tensors, self.dense),
            activation=self.head_act(config),
            out=matrix(tensors, self.out),
            final_norm=None if self.final_norm is None else norm(tensors, f"{self.prefix}.{self.final_norm}", eps),
            norm=None if self.head_norm is None else norm(tensors, self.head_norm, eps),
        )


def _layer_weights(
    tensors: Tensors, name: str, names: LayerNames, spec: LayerSpec, eps: float, positions: PositionWeights
) -> LayerWeights:
    """Return one layer's matrices; only matrices that a checkpoint holds in parts are copied, into one."""
    bare = f"{name}.{names.attention_norm}.weight" not in tensors
    return Layer(
        spec=spec,
        qkv=matrix(tensors, *(f"{name}.{part}" for part in names.qkv)),
        attention=positions,
        out=matrix(tensors, f"{name}.{names.out}"),
        attention_norm=None if bare else norm(tensors, f"{name}.{names.attention_norm}", eps),
        up=matrix(tensors, *(f"{name}.{part}" for part in names.up)),
        down=matrix(tensors, f"{name}.{names.down}"),
        output_norm=norm(tensors, f"{name}.{names.output_norm}", eps),
    )
