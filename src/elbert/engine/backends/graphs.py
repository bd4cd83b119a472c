"""The encoder as ONNX graphs on packed rows, for runtimes other than torch.

There is one graph for the embedding, one per distinct step and one per distinct exit head. This module only writes
them; `runtimes` runs them. Every graph is free in the number of tokens, of rows and in the length of the longest row:

- embed: `ids` [tokens], where the embedding knows them `positions` and `token_types` [tokens], to `hidden` [tokens, H];
- step: `hidden` [tokens, H], `pad` [rows, longest], `mask` [rows, 1, 1, longest], `unpad` [tokens], to `stepped`;
- head: `cls` [rows, H], [CLS] or the mean over the tokens, to `logits` [rows, C] and `pooled` [rows, H].

`pad`, `unpad` and `mask` lay packed tokens out as a padded block for attention and bring them back, as in
`packed.Layout`; `mask` is added to the attention's scores, so matrix products see real tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elbert.engine.backends.graph_attention import attend
from elbert.engine.backends.writer import GraphWriter
from elbert.engine.layers.formula import forward
from elbert.modeling.files.exported import Graphs
from elbert.modeling.weights import EmbeddingWeights, EncoderWeights, HeadWeights, LayerWeights, Matrix, Norm


def build_graphs(weights: EncoderWeights) -> Graphs:
    """Write a model as ONNX graphs in fp32.

    Args:
        weights: the model as plain matrices.

    Raises:
        MissingExtraError: the onnx package is not installed.
        ModelError: the graphs have no word for the model's activation.
    """
    steps: dict[tuple[int, ...], bytes] = {}
    for group in weights.layers:
        key = tuple(map(id, group))
        if key not in steps:
            steps[key] = _step(group)
    heads = {id(head): head for head in weights.heads}
    written = {key: _head(head) for key, head in heads.items()}
    return Graphs(
        embed=_embed(weights.embedding),
        steps=tuple(steps[tuple(map(id, group))] for group in weights.layers),
        heads=tuple(written[id(head)] for head in weights.heads),
        token_types=reads_token_types(weights.embedding),
        positions=weights.embedding.position is not None,
    )


def reads_token_types(embedding: EmbeddingWeights) -> bool:
    """Tell whether token types change the embedding: a family without them, or with a single one, reads none."""
    return embedding.token_type is not None and len(embedding.token_type) > 1


def _embed(table: EmbeddingWeights) -> bytes:
    """The sum of a token's embeddings, its norm, and where the family has one the projection from E to H."""
    writer = GraphWriter()
    inputs: dict[str, tuple[str, list[Any]]] = {"ids": ("INT64", ["tokens"])}
    hidden = writer.node("Gather", writer.constant(table.word, "word"), "ids")
    single = table.token_type is not None and not reads_token_types(table)
    if table.position is not None:
        inputs["positions"] = ("INT64", ["tokens"])
        places = table.position[table.position_offset :]
        added = writer.node("Gather", writer.constant(places, "position"), "positions")
        hidden = writer.node("Add", hidden, added)
    if table.token_type is not None and single:
        hidden = writer.node("Add", hidden, writer.constant(table.token_type[0], "token_type"))
    elif table.token_type is not None:
        inputs["token_types"] = ("INT64", ["tokens"])
        kinds = writer.constant(table.token_type, "token_type")
        hidden = writer.node("Add", hidden, writer.node("Gather", kinds, "token_types"))
    if table.projection is not None and table.norm_last:
        hidden = writer.linear(hidden, table.projection)
    last: dict[str, Any] = {"outputs": ["hidden"]}
    if table.projection is None or table.norm_last:
        writer.norm(hidden, table.norm, **last)
    else:
        writer.linear(writer.norm(hidden, table.norm), table.projection, **last)
    size = table.word.shape[1] if table.projection is None else len(table.projection.weight)
    return writer.model(inputs, {"hidden": ["tokens", size]})


def _step(group: Sequence[LayerWeights]) -> bytes:
    """The layers between one exit and the next."""
    writer = GraphWriter()
    ops = _GraphOps(writer)
    hidden = "hidden"
    for layer in group:
        hidden = forward(ops, layer.spec, layer, hidden, None)
    writer.node("Identity", hidden, outputs=["stepped"])
    size = len(group[0].out.weight)
    inputs: dict[str, tuple[str, list[Any]]] = {
        "hidden": ("FLOAT", ["tokens", size]),
        "pad": ("INT64", ["rows", "longest"]),
        "mask": ("FLOAT", ["rows", 1, 1, "longest"]),
        "unpad": ("INT64", ["tokens"]),
    }
    return writer.model(inputs, {"stepped": ["tokens", size]})


class _GraphOps:
    """The formula as nodes of a graph; values are their names."""

    def __init__(self, writer: GraphWriter) -> None:
        self._writer = writer

    def norm(self, x: str, norm: Norm) -> str:
        return self._writer.norm(x, norm)

    def product(self, x: str, product: Matrix) -> str:
        return self._writer.linear(x, product)

    def attention(self, qkv: str, layer: LayerWeights, rows: None) -> str:  # noqa: ARG002
        return attend(self._writer, qkv, layer)

    def activation(self, x: str, layer: LayerWeights) -> str:
        if not layer.spec.gated:
            return self._writer.activation(x, layer.spec.activation)
        first, second = self._writer.split(x, [len(layer.up.weight) // 2] * 2)
        return self._writer.node("Mul", self._writer.activation(first, layer.spec.activation), second)

    def plus(self, x: str, product: Matrix, residual: str) -> str:
        return self._writer.node("Add", self._writer.linear(x, product), residual)


def _head(head: HeadWeights) -> bytes:
    """Logits and pooled state of one exit."""
    writer = GraphWriter()
    last: dict[str, Any] = {"outputs": ["pooled"]}
    cls = "cls" if head.final_norm is None else writer.norm("cls", head.final_norm)
    pooled = writer.linear(cls, head.dense)
    if head.norm is None:
        pooled = writer.activation(pooled, head.activation, **last)
    else:
        pooled = writer.norm(writer.activation(pooled, head.activation), head.norm, **last)
    writer.linear(pooled, head.out, outputs=["logits"])
    size, classes = len(head.dense.weight), len(head.out.weight)
    return writer.model({"cls": ("FLOAT", ["rows", size])}, {"logits": ["rows", classes], "pooled": ["rows", size]})
