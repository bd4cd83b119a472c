"""OpenVINO on the whole exported model, in fp32, in bf16, or in int8 after NNCF's post-training quantisation.

Where 8-bit products saturate, NNCF is told to leave a bit of every weight free, as it advises for such processors.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any

import torch

from elbert.engine.backends.runtimes import import_openvino, openvino, openvino_core
from elbert.engine.layers.int8 import saturates
from elbert.errors import ElbertError
from elbert.evaluation.bench.batches import Array, in_batches, reader_of
from elbert.evaluation.bench.job import Job, Run, Spec
from elbert.evaluation.bench.systems.graph import exported
from elbert.lazy import from_extra

# Texts that NNCF looks at to choose scales.
_CALIBRATED_ON = 300


def build(job: Job, spec: Spec) -> None:
    """Export the model, and quantise it where int8 is asked for.

    Raises:
        MissingExtraError: NNCF is not installed.
        ElbertError: the quantised graph still multiplies in fp32.
    """
    exported(job)
    if spec.dtype == "int8" and not (job.scratch / "model.int8.xml").is_file():
        _quantise(job)


def load(job: Job, spec: Spec) -> Run:
    """Return the model in one inference request."""
    path = job.scratch / ("model.int8.xml" if spec.dtype == "int8" else "model.onnx")
    precision = torch.bfloat16 if spec.dtype == "bfloat16" else torch.float32
    request = openvino()(path, ("logits",), precision)

    def forward(feeds: dict[str, Array]) -> Array:
        return request(feeds)[0]

    return in_batches(job, spec, forward)


def _quantise(job: Job) -> None:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # this process only quantises: stays quiet
    library = import_openvino()
    nncf = from_extra("bench", "nncf")
    reader = reader_of(job)
    step = max(1, len(job.texts) // _CALIBRATED_ON)
    samples = [reader.feeds([row]) for row in islice(reader.rows(job.texts[::step]), _CALIBRATED_ON)]
    narrow = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)  # weights of 7 bits
    quantised = nncf.quantize(
        openvino_core().read_model(str(job.scratch / "model.onnx")),
        nncf.Dataset(samples),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(samples),
        advanced_parameters=narrow if saturates() else None,
    )
    check_quantised(quantised)
    library.save_model(quantised, str(job.scratch / "model.int8.xml"))


def check_quantised(model: Any) -> None:
    """Compile a quantised model and look whether its products with weights run in 8 bits.

    Raises:
        ElbertError: fewer than nine in ten do.
    """
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    notes = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    kinds = [_word(note["runtimePrecision"]) for note in notes if _word(note["layerType"]) == "FullyConnected"]
    eight = sum(kind in ("i8", "u8") for kind in kinds)
    if eight < 0.9 * len(kinds) or not kinds:
        raise ElbertError(f"only {eight} of {len(kinds)} products run in 8 bits: these would not be int8 numbers")


def _word(value: Any) -> str:
    return str(value.value) if hasattr(value, "value") else str(value)
