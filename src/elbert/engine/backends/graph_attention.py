"""Self-attention as nodes of an ONNX graph, with what a layer knows of places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from elbert.engine.backends.writer import GraphWriter
from elbert.engine.layers.places import rotary_frequencies
from elbert.modeling.weights import Disentangled, LayerWeights

# Added to the scores of tokens outside the window: their weight is then exactly 0.
_NOTHING = np.float32(-1e9)


def attend(writer: GraphWriter, qkv: str, layer: LayerWeights) -> str:
    """Attention of every row over its own tokens: packed [tokens, 3H] to packed [tokens, H].

    The graph's inputs `pad` and `unpad` lay rows out and bring them back, `mask` is added to their scores.
    """
    heads, size = layer.spec.heads, len(layer.qkv.weight) // 3
    width = size // heads
    padded = writer.node("Gather", qkv, "pad", axis=0)  # [rows, longest, 3H]
    block = writer.constant([0, 0, heads, width])
    query, key, value = (
        writer.node("Transpose", writer.node("Reshape", part, block), perm=[0, 2, 1, 3])
        for part in writer.split(padded, [size] * 3)
    )  # [rows, heads, longest, width]
    places = _Places(writer)
    if layer.spec.rotary_base is not None:
        query, key = places.rotated([query, key], layer.spec.rotary_base, width)
    query = writer.node("Mul", query, writer.constant(np.float32(layer.spec.scale(width))))
    scores = writer.node("MatMul", query, _turned(writer, key))
    for added in places.added(query, key, layer):
        scores = writer.node("Add", scores, added)
    scores = writer.node("Add", scores, "mask")
    mixed = writer.node("MatMul", writer.node("Softmax", scores, axis=-1), value)
    rows = writer.node("Transpose", mixed, perm=[0, 2, 1, 3])
    return writer.node("Gather", writer.node("Reshape", rows, writer.constant([-1, size])), "unpad", axis=0)


def _turned(writer: GraphWriter, value: str) -> str:
    return writer.node("Transpose", value, perm=[0, 1, 3, 2])


class _Places:
    """What depends on places alone, for rows as long as the input `pad` says."""

    def __init__(self, writer: GraphWriter) -> None:
        self._writer = writer

    def rotated(self, parts: Sequence[str], base: float, width: int) -> list[str]:
        """Rotary position embedding of [rows, heads, longest, width] each."""
        node, constant = self._writer.node, self._writer.constant
        places = node("Unsqueeze", node("Cast", self._places(), to=1), constant([1]))  # [longest, 1] fp32
        angles = node("Mul", places, constant(rotary_frequencies(base, width)[None], "frequencies"))
        angles = node("Concat", angles, angles, axis=-1)
        cos, sin = node("Cos", angles), node("Sin", angles)
        rotated = []
        for part in parts:
            first, second = self._writer.split(part, [width // 2] * 2)
            turned = node("Concat", node("Neg", second), first, axis=-1)
            rotated.append(node("Add", node("Mul", part, cos), node("Mul", turned, sin)))
        return rotated

    def added(self, query: str, key: str, layer: LayerWeights) -> list[str]:
        """What is added to the scores besides the mask; `query` is scaled."""
        node, constant, added = self._writer.node, self._writer.constant, []
        bias, terms, window = layer.attention.relative_bias, layer.attention.disentangled, layer.spec.window
        if bias is not None:
            added.append(node("Gather", constant(bias, "relative_bias"), self._distances(bias.shape[1]), axis=1))
        if window is not None:
            far = node("Greater", node("Abs", self._distances(1)), constant(window))
            added.append(node("Mul", node("Cast", far, to=1), constant(_NOTHING)))
        if terms is not None:
            added += self._terms(query, key, layer, terms)
        return added

    def _terms(self, query: str, key: str, layer: LayerWeights, terms: Disentangled) -> list[str]:
        """DeBERTa's terms."""
        node, constant, heads = self._writer.node, self._writer.constant, layer.spec.heads
        index = node("Gather", constant(terms.index.cpu().numpy()), self._distances(len(terms.index)))
        scale = layer.spec.scale(len(layer.qkv.weight) // (3 * heads))
        sizes = node("Slice", node("Shape", query), constant([0]), constant([2]))  # rows, heads
        added = []
        if terms.key is not None:
            table = constant(terms.key.view(len(terms.key), heads, -1).permute(1, 2, 0), "content_to_position")
            whole = node("Expand", index, node("Concat", sizes, constant([1, 1]), axis=0))
            added.append(node("GatherElements", node("MatMul", query, table), whole, axis=3))
        if terms.query is not None:
            scaled = terms.query.view(len(terms.query), heads, -1).permute(1, 2, 0) * scale
            turned = node("Transpose", index, perm=[1, 0])
            whole = node("Expand", turned, node("Concat", sizes, constant([1, 1]), axis=0))
            by_key = node("MatMul", key, constant(scaled, "position_to_content"))
            added.append(_turned(self._writer, node("GatherElements", by_key, whole, axis=3)))
        return added

    def _places(self) -> str:
        """Places of the longest row, [longest] int64."""
        node, constant = self._writer.node, self._writer.constant
        longest = node("Gather", node("Shape", "pad"), constant(1))
        return node("Range", constant(0), longest, constant(1))

    def _distances(self, table: int) -> str:
        """Distance of key from query, [longest, longest] int64, counted from the middle of a table that long."""
        node, constant = self._writer.node, self._writer.constant
        places = self._places()
        apart = node("Sub", node("Unsqueeze", places, constant([0])), node("Unsqueeze", places, constant([1])))
        return apart if table == 1 else node("Add", apart, constant(table // 2))
