"""The whole transformers model as one ONNX graph, exported once for all systems that read one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from elbert.evaluation.bench.batches import load_tokenizer
from elbert.evaluation.bench.job import Job
from elbert.lazy import from_extra

_OPSET = 18


class _Logits(nn.Module):
    """Calls a classifier with inputs by place, as an export needs it."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits [rows, C]."""
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def exported(job: Job) -> Path:
    """Return the model's graph in fp32, written at the first call; rows and length are free.

    Plain attention is exported: it is the pattern that the runtimes know how to fuse.

    Raises:
        MissingExtraError: the onnx package is not installed, or cannot be imported.
    """
    path = job.scratch / "model.onnx"
    if path.is_file():
        return path
    from_extra("bench", "onnx")  # what the export writes with
    model = AutoModelForSequenceClassification.from_pretrained(
        job.folder, attn_implementation="eager", local_files_only=True, trust_remote_code=False
    )
    tokenizer = load_tokenizer(job)
    example = dict(tokenizer(["a text", "a text that is longer"], padding=True, return_tensors="pt"))
    names = list(example)
    free = {name: {0: "rows", 1: "longest"} for name in names} | {"logits": {0: "rows"}}
    draft = path.with_suffix(".part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter says at every call that there is a newer one
        torch.onnx.export(
            _Logits(model, names).eval(),
            tuple(example.values()),
            str(draft),
            input_names=names,
            output_names=["logits"],
            dynamic_axes=free,
            opset_version=_OPSET,
            dynamo=False,
        )
    draft.replace(path)
    return path
