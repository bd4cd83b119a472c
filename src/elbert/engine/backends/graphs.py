"""The encoder as ONNX graphs on packed rows, for runtimes other than torch.

There is one graph for the embedding, one per distinct step and one per distinct exit head. This module only writes
them; `runtimes` runs them. Every graph is free in the number of tokens, of rows and in the length of the longest row:

- embed: `ids` [tokens], `positions` [tokens], where the model has them `token_types` [tokens], to `hidden` [tokens, H];
- step: `hidden` [tokens, H], `pad` [rows, longest], `mask` [rows, 1, 1, longest], `unpad` [tokens], to `stepped`;
- head: `cls` [rows, H] to `logits` [rows, C] and `pooled` [rows, H].

`pad`, `unpad` and `mask` lay packed tokens out as a padded block for attention and bring them back, as in
`packed.Layout`; `mask` is added to the attention's scores, so matrix products see real tokens only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from elbert.errors import MissingExtraError, ModelError, did_you_mean
from elbert.modeling.files.exported import Graphs
from elbert.modeling.weights import EmbeddingWeights, EncoderWeights, HeadWeights, LayerWeights

# The first with Gelu in it, and the file format that came with it: what every runtime of the last years reads.
_OPSET = 20
_IR_VERSION = 9

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


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
            steps[key] = _step(group, weights)
    heads = {id(head): head for head in weights.heads}
    written = {key: _head(head) for key, head in heads.items()}
    return Graphs(
        embed=_embed(weights.embedding, weights.embedding_norm_eps),
        steps=tuple(steps[tuple(map(id, group))] for group in weights.layers),
        heads=tuple(written[id(head)] for head in weights.heads),
        token_types=reads_token_types(weights.embedding),
    )


def reads_token_types(embedding: EmbeddingWeights) -> bool:
    """Tell whether token types change the embedding: a family without them, or with a single one, reads none."""
    return embedding.token_type is not None and len(embedding.token_type) > 1


class _Writer:
    """Collects nodes and constants of one graph. Every method returns the name of the value it makes."""

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError as error:
            raise MissingExtraError("onnx", "onnx", error) from None
        self._onnx: Any = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def node(self, kind: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Add one operator; its output is named after its place unless `outputs` says otherwise."""
        names = list(outputs) or [f"{kind.lower()}_{len(self._nodes)}"]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def constant(self, value: Any, hint: str = "constant") -> str:
        """Add a constant: a torch tensor as fp32, or an array or list as int64."""
        array = value.detach().cpu().float().numpy() if isinstance(value, Tensor) else np.asarray(value)
        name = f"{hint}_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def linear(self, rows: str, weight: Tensor, bias: Tensor, **naming: Any) -> str:
        """`rows` [n, in] times `weight` [out, in], plus `bias`."""
        return self.node("Gemm", rows, self.constant(weight, "weight"), self.constant(bias, "bias"), transB=1, **naming)

    def norm(self, rows: str, weight: Tensor, bias: Tensor, eps: float, **naming: Any) -> str:
        """Layer norm over the last dimension."""
        scale, shift = self.constant(weight, "norm_weight"), self.constant(bias, "norm_bias")
        return self.node("LayerNormalization", rows, scale, shift, axis=-1, epsilon=eps, **naming)

    def activation(self, rows: str, name: str, **naming: Any) -> str:
        """The activation that transformers calls `name`."""
        kind = _ACTIVATIONS.get(name)
        if kind is None:
            raise ModelError(
                f"the graphs of other backends have no activation {name!r}{did_you_mean(name, _ACTIVATIONS)}; "
                "use the backend torch"
            )
        if kind == "silu":
            return self.node("Mul", rows, self.node("Sigmoid", rows), **naming)
        if kind.startswith("gelu"):
            return self.node("Gelu", rows, approximate="tanh" if kind == "gelu_tanh" else "none", **naming)
        return self.node("Relu" if kind == "relu" else "Tanh", rows, **naming)

    def model(self, inputs: dict[str, tuple[str, list[Any]]], outputs: dict[str, list[Any]]) -> bytes:
        """Return the finished graph; inputs are name -> (kind, shape), outputs name -> shape, all of fp32."""
        make, kinds = self._onnx.helper, self._onnx.TensorProto
        graph = make.make_graph(
            self._nodes,
            "elbert",
            [make.make_tensor_value_info(name, getattr(kinds, kind), shape) for name, (kind, shape) in inputs.items()],
            [make.make_tensor_value_info(name, kinds.FLOAT, shape) for name, shape in outputs.items()],
            self._constants,
        )
        opset = make.make_opsetid("", _OPSET)
        model = make.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="elbert")
        content: bytes = model.SerializeToString()
        return content


def _embed(table: EmbeddingWeights, eps: float) -> bytes:
    """Word + position (+ token type), norm, and where the family has one the projection from E to H."""
    writer = _Writer()
    places = table.position[table.position_offset :]
    inputs: dict[str, tuple[str, list[Any]]] = {"ids": ("INT64", ["tokens"]), "positions": ("INT64", ["tokens"])}
    if table.token_type is not None and not reads_token_types(table):
        places = places + table.token_type[0]
    hidden = writer.node(
        "Add",
        writer.node("Gather", writer.constant(table.word, "word"), "ids"),
        writer.node("Gather", writer.constant(places, "position"), "positions"),
    )
    if table.token_type is not None and reads_token_types(table):
        inputs["token_types"] = ("INT64", ["tokens"])
        kinds = writer.constant(table.token_type, "token_type")
        hidden = writer.node("Add", hidden, writer.node("Gather", kinds, "token_types"))
    if table.projection_weight is None or table.projection_bias is None:
        writer.norm(hidden, table.norm_weight, table.norm_bias, eps, outputs=["hidden"])
        return writer.model(inputs, {"hidden": ["tokens", table.word.shape[1]]})
    hidden = writer.norm(hidden, table.norm_weight, table.norm_bias, eps)
    writer.linear(hidden, table.projection_weight, table.projection_bias, outputs=["hidden"])
    return writer.model(inputs, {"hidden": ["tokens", len(table.projection_weight)]})


def _step(group: Sequence[LayerWeights], weights: EncoderWeights) -> bytes:
    """The layers between one exit and the next."""
    writer = _Writer()
    hidden = "hidden"
    for place, layer in enumerate(group):
        naming = {"outputs": ["stepped"]} if place == len(group) - 1 else {}
        hidden = _layer(writer, hidden, layer, weights, **naming)
    size = weights.hidden_size
    inputs: dict[str, tuple[str, list[Any]]] = {
        "hidden": ("FLOAT", ["tokens", size]),
        "pad": ("INT64", ["rows", "longest"]),
        "mask": ("FLOAT", ["rows", 1, 1, "longest"]),
        "unpad": ("INT64", ["tokens"]),
    }
    return writer.model(inputs, {"stepped": ["tokens", size]})


def _layer(writer: _Writer, hidden: str, layer: LayerWeights, weights: EncoderWeights, **naming: Any) -> str:
    qkv = writer.linear(hidden, layer.qkv_weight, layer.qkv_bias)  # [tokens, 3H]
    attended = writer.linear(_attend(writer, qkv, weights), layer.out_weight, layer.out_bias)
    hidden = writer.norm(
        writer.node("Add", attended, hidden), layer.attention_norm_weight, layer.attention_norm_bias, weights.norm_eps
    )
    inner = writer.activation(writer.linear(hidden, layer.up_weight, layer.up_bias), weights.activation)  # [tokens, F]
    out = writer.node("Add", writer.linear(inner, layer.down_weight, layer.down_bias), hidden)
    return writer.norm(out, layer.output_norm_weight, layer.output_norm_bias, weights.norm_eps, **naming)


def _attend(writer: _Writer, qkv: str, weights: EncoderWeights) -> str:
    """Self-attention of every row over its own tokens: packed [tokens, 3H] to packed [tokens, H]."""
    heads, size = weights.num_attention_heads, weights.hidden_size
    width = size // heads
    parts = [f"{qkv}_{part}" for part in ("q", "k", "v")]
    padded = writer.node("Gather", qkv, "pad", axis=0)  # [rows, longest, 3H]
    writer.node("Split", padded, writer.constant([size] * 3), outputs=parts, axis=-1)
    block = writer.constant([0, 0, heads, width])
    q, k, v = (
        writer.node("Transpose", writer.node("Reshape", part, block), perm=perm)
        for part, perm in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
    )
    scale = writer.constant(np.float32(1 / math.sqrt(width)))
    scores = writer.node("Add", writer.node("Mul", writer.node("MatMul", q, k), scale), "mask")
    mixed = writer.node("MatMul", writer.node("Softmax", scores, axis=-1), v)  # [rows, heads, longest, width]
    rows = writer.node("Transpose", mixed, perm=[0, 2, 1, 3])
    return writer.node("Gather", writer.node("Reshape", rows, writer.constant([-1, size])), "unpad", axis=0)


def _head(head: HeadWeights) -> bytes:
    """Logits and pooled state of one exit."""
    writer = _Writer()
    dense = writer.linear("cls", head.dense_weight, head.dense_bias)
    pooled = writer.activation(dense, head.dense_activation, outputs=["pooled"])
    writer.linear(pooled, head.out_weight, head.out_bias, outputs=["logits"])
    size, classes = len(head.dense_weight), len(head.out_weight)
    return writer.model({"cls": ("FLOAT", ["rows", size])}, {"logits": ["rows", classes], "pooled": ["rows", size]})
