"""Writing one ONNX graph, node by node. Knows the operators and nothing of encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from elbert.errors import MissingExtraError, ModelError, did_you_mean
from elbert.modeling.activations import gelu_form
from elbert.modeling.weights import Matrix, Norm

# The first with Gelu in it, and the file format that came with it: what every runtime of the last years reads.
_OPSET = 20
_IR_VERSION = 9

_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "silu": "Swish", "swish": "Swish"}


class GraphWriter:
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
        """Add one operator; its outputs are named after its place unless `outputs` says otherwise."""
        names = list(outputs) or [f"{kind.lower()}_{len(self._nodes)}"]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def constant(self, value: Any, hint: str = "constant") -> str:
        """Add a constant: a torch tensor as fp32, or an array or list as int64."""
        array = value.detach().cpu().float().numpy() if isinstance(value, Tensor) else np.asarray(value)
        name = f"{hint}_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def linear(self, rows: str, matrix: Matrix, **naming: Any) -> str:
        """`rows` [n, in] times the matrix, plus its bias."""
        bias = () if matrix.bias is None else (self.constant(matrix.bias, "bias"),)
        return self.node("Gemm", rows, self.constant(matrix.weight, "weight"), *bias, transB=1, **naming)

    def norm(self, rows: str, norm: Norm, **naming: Any) -> str:
        """Layer norm over the last dimension."""
        bias = () if norm.bias is None else (self.constant(norm.bias, "norm_bias"),)
        scale = self.constant(norm.weight, "norm_weight")
        return self.node("LayerNormalization", rows, scale, *bias, axis=-1, epsilon=norm.eps, **naming)

    def activation(self, rows: str, name: str, **naming: Any) -> str:
        """The activation that transformers calls `name`."""
        form, kind = gelu_form(name), _ACTIVATIONS.get(name)
        if form is not None:
            return self.node("Gelu", rows, approximate=form, **naming)
        if kind is None:
            known = ("gelu", *_ACTIVATIONS)
            raise ModelError(
                f"the graphs of other backends have no activation {name!r}{did_you_mean(name, known)}; "
                "use the backend torch"
            )
        if kind == "Swish":
            return self.node("Mul", rows, self.node("Sigmoid", rows), **naming)
        return self.node(kind, rows, **naming)

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """The last dimension in parts of these sizes."""
        names = [f"{value}_{part}" for part in range(len(sizes))]
        self.node("Split", value, self.constant(list(sizes)), outputs=names, axis=-1)
        return names

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
