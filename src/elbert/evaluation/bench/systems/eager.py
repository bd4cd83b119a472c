"""The transformers model called by hand on sorted padded batches: what the pipeline would be without its overhead."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from elbert.engine.placement import DTYPES
from elbert.evaluation.bench.batches import Array, in_batches
from elbert.evaluation.bench.job import Job, Run, Spec


def load(job: Job, spec: Spec) -> Run:
    """Return the model, called as it is."""
    return called(job, spec, load_backbone(job, spec))


def load_backbone(job: Job, spec: Spec) -> Any:
    """Return the plain checkpoint in the precision and on the device asked for."""
    model = AutoModelForSequenceClassification.from_pretrained(
        job.folder, dtype=DTYPES[spec.dtype], local_files_only=True, trust_remote_code=False
    )
    return model.to(job.device).eval()


def called(job: Job, spec: Spec, model: Any) -> Run:
    """Return `model` as a system; it takes and returns what a transformers classifier does."""

    @torch.no_grad()
    def forward(feeds: dict[str, Array]) -> Array:
        logits = model(**{name: torch.from_numpy(value).to(job.device) for name, value in feeds.items()}).logits
        answer: Array = logits.float().cpu().numpy()
        return answer

    return in_batches(job, spec, forward)
