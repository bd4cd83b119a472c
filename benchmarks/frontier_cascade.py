"""A cascade as people build it: TF-IDF answers what it is sure of, an int8 MiniLM in ONNX Runtime the rest.

A system of the race; its folder holds `cascade.json`, which names both and the threshold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from elbert.data import Text
from elbert.evaluation.bench.batches import read
from elbert.evaluation.bench.job import Answers, Job, Run, Spec
from elbert.evaluation.bench.systems import SYSTEMS, Kind, onnxruntime
from frontier_linear import Linear, confidence

_ABOUT = "cascade.json"

SYSTEMS.setdefault(
    "cascade", Kind(__name__, "scikit-learn's TF-IDF first, ONNX Runtime in int8 for the rest", builds=True)
)


def write(folder: Path, words: Linear, encoder: Path, threshold: float) -> None:
    """Write the folder of a cascade.

    Args:
        folder: to be.
        words: answers what it is surer of than `threshold`.
        encoder: folder of the fine-tuned model behind it.
        threshold: of the greatest probability.
    """
    words.write(folder)
    about = {"encoder": str(encoder), "threshold": threshold}
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


def build(job: Job, spec: Spec) -> None:
    """Export and quantise the encoder."""
    onnxruntime.build(_encoder(job), replace(spec, dtype="int8"))


def load(job: Job, spec: Spec) -> Run:
    """Return both stages as one system."""
    words, rest = Linear.read(job.folder), onnxruntime.load(_encoder(job), replace(spec, dtype="int8"))
    threshold = _about(job)["threshold"]

    def run(texts: Sequence[Text], batch: int) -> Answers:
        logits = words.logits(texts)
        labels = read(logits, job.problem_type)
        unsure = np.flatnonzero(confidence(logits, job.problem_type) <= threshold).tolist()
        if unsure:
            said = rest([texts[place] for place in unsure], batch).labels
            for place, label in zip(unsure, said, strict=True):
                labels[place] = label
        return Answers(labels)

    return run


def _about(job: Job) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((job.folder / _ABOUT).read_text(encoding="utf-8"))
    return about


def _encoder(job: Job) -> Job:
    return replace(job, folder=Path(_about(job)["encoder"]))
