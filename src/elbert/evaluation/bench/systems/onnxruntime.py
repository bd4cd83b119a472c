"""onnxruntime on the whole exported model, in fp32 or with weights in int8 and activations quantised as they come."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from elbert.engine.backends.runtimes import import_onnxruntime
from elbert.engine.layers.int8 import saturates
from elbert.errors import ElbertError, MissingExtraError
from elbert.evaluation.bench.batches import Array, in_batches
from elbert.evaluation.bench.job import Job, Run, Spec
from elbert.evaluation.bench.systems.graph import exported

# Share of the weights of matrix products that may be left in fp32: a head of a few classes, not a layer.
_LEFT_OVER = 0.05

# A graph of so many bytes is mostly weights, so that int8 has to show in its size.
_WEIGHTY = 1_000_000


def build(job: Job, spec: Spec) -> None:
    """Export the model, and quantise it where int8 is asked for.

    Raises:
        ElbertError: the quantised graph still multiplies by fp32 weights.
    """
    path, target = exported(job), job.scratch / "model.int8.onnx"
    if spec.dtype == "int8" and not target.is_file():
        _quantise(path, target)


def load(job: Job, spec: Spec) -> Run:
    """Return the model in one session."""
    path = job.scratch / ("model.int8.onnx" if spec.dtype == "int8" else "model.onnx")
    session = session_of(path)

    def forward(feeds: dict[str, Array]) -> Array:
        logits: Array = session.run(("logits",), feeds)[0]
        return logits

    return in_batches(job, spec, forward)


def session_of(graph: Path) -> Any:
    """Return a session as the library makes it by itself, but for the threads, which are everybody's.

    What our own backend sets for its packed graphs is no business of a peer.
    """
    library = import_onnxruntime()
    options = library.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return library.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _quantise(source: Path, target: Path) -> None:
    import_onnxruntime()  # checks that it is there, telemetry off
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingExtraError(error.name or "onnxruntime", "bench", error) from None
    prepared = target.with_suffix(".prepared")
    # Symbolic shapes are only needed where shapes decide what is quantised; here only weights do.
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(
        str(prepared), str(target), weight_type=QuantType.QInt8, per_channel=True, reduce_range=saturates()
    )
    prepared.unlink()
    check_quantised(target, source)


def check_quantised(path: Path, source: Path) -> None:
    """Look whether the weights of matrix products really are int8: a shared weight is easily left out.

    Args:
        path: the quantised graph.
        source: the one it was made of.

    Raises:
        ElbertError: they are not, or the file is not smaller.
    """
    import onnx

    model: Any = onnx.load(str(path))
    floats = onnx.TensorProto.FLOAT
    sizes = {each.name: math.prod(each.dims) for each in model.graph.initializer}
    kinds = {each.name: each.data_type for each in model.graph.initializer}
    used = {name: node.op_type for node in model.graph.node for name in node.input if name in sizes}
    left = sum(sizes[n] for n, op in used.items() if op in ("MatMul", "Gemm", "FusedMatMul") and kinds[n] == floats)
    done = sum(sizes[n] for n, op in used.items() if op.startswith(("MatMulInteger", "QGemm", "DynamicQuantize")))
    before, after = source.stat().st_size, path.stat().st_size
    if left > _LEFT_OVER * (left + done) or not done or (before > _WEIGHTY and after > 0.6 * before):
        raise ElbertError(
            f"quantisation left {left:,} of {left + done:,} weights in fp32 and {after:,} of {before:,} bytes: "
            "these would not be int8 numbers"
        )
