"""The transformers model through `torch.compile`, its shapes left open so that no batch compiles it anew."""

from __future__ import annotations

import torch

from elbert.evaluation.bench.job import Job, Run, Spec
from elbert.evaluation.bench.systems.eager import called, load_backbone


def load(job: Job, spec: Spec) -> Run:
    """Return the model; it is compiled at its first calls, which the first run counts."""
    return called(job, spec, torch.compile(load_backbone(job, spec), dynamic=True))
