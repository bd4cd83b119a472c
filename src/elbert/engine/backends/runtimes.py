"""How onnxruntime and OpenVINO are made to run one graph on the CPU. Knows nothing of layers or rows.

Each takes a graph and returns a function from named arrays to the arrays asked for. Both are imported when first asked
for, with their telemetry off. Their threads are torch's, so that a user sets them in one place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elbert.errors import MissingExtraError, ModelError, UsageError
from elbert.modeling.files.exported import Graph

Array = np.ndarray[Any, Any]
Run = Callable[[dict[str, Array]], Sequence[Array]]
# (graph, names of the outputs, in which precision) -> what runs it.
Runtime = Callable[[Graph, tuple[str, ...], torch.dtype], Run]


def onnxruntime() -> Runtime:
    """Return onnxruntime's CPU provider; it computes in fp32.

    Raises:
        MissingExtraError: it is not installed, or cannot be imported.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # patterns are for one shape; here every call has its own
    options.log_severity_level = 3  # errors only

    def load(graph: Graph, outputs: tuple[str, ...], dtype: torch.dtype) -> Run:
        del dtype
        source = str(graph) if isinstance(graph, Path) else graph
        try:
            session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _unreadable(graph, "onnxruntime", error) from error

        def run(feeds: dict[str, Array]) -> Sequence[Array]:
            answers: Sequence[Array] = session.run(outputs, feeds)
            return answers

        return run

    return load


def openvino() -> Runtime:
    """Return OpenVINO's CPU device, compiled once per graph for every shape.

    Raises:
        MissingExtraError: it is not installed, or cannot be imported.
    """
    core = openvino_core()

    def load(graph: Graph, outputs: tuple[str, ...], dtype: torch.dtype) -> Run:
        precision = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UsageError("this CPU has no bfloat16 arithmetic that openvino could use; use dtype float32")
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        try:
            model = core.read_model(str(graph) if isinstance(graph, Path) else graph)
            compiled = core.compile_model(model, "CPU", settings)
            request = compiled.create_infer_request()
        except RuntimeError as error:
            raise _unreadable(graph, "openvino", error) from error

        def run(feeds: dict[str, Array]) -> Sequence[Array]:
            # Inputs are read in place. Outputs are copied out: the request's own memory is overwritten by its next run.
            answers = request.infer(feeds, share_inputs=True, share_outputs=False)
            return [answers[name] for name in outputs]

        return run

    return load


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off, which otherwise reports every import to its makers.

    Raises:
        MissingExtraError: it is not installed, or cannot be imported.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at its import
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", error) from None
    return onnxruntime


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which otherwise reports every import over the network.

    Raises:
        MissingExtraError: it is not installed, or cannot be imported.
    """
    loaded = "openvino_telemetry" in sys.modules
    if not loaded:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # "not installed"; OpenVINO has a stub
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", error) from None
    finally:
        if not loaded:
            del sys.modules["openvino_telemetry"]
    return openvino


def openvino_core() -> Any:
    """Return OpenVINO's core, the only one of this process.

    Where the processor has AMX, a core gives the thread that it begins in a stack for signal handlers, and when it goes
    puts the one before back. Of two the later puts back what the earlier has freed: the next signal is a segmentation
    fault.

    Raises:
        MissingExtraError: as `import_openvino`.
    """
    return _core(import_openvino())


@cache
def _core(library: Any) -> Any:
    return library.Core()


def _unreadable(graph: Graph, runtime: str, error: Exception) -> ModelError:
    what = str(graph) if isinstance(graph, Path) else "the model's graph"
    return ModelError(f"{runtime} cannot read {what} ({' '.join(str(error).split())[:200]}): export the model again")
