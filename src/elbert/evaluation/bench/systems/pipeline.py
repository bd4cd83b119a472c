"""transformers' own `pipeline("text-classification")`, the way most people run a checkpoint.

It tokenises text by text and pads batch by batch. Left in input order it would pad short texts to long ones, so it is
given them by length; the order is worked out once and outside the clock, which is a gift to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from elbert.data import Text
from elbert.engine.placement import DTYPES
from elbert.engine.tokens import arrivals
from elbert.evaluation.bench.job import Answer, Answers, Job, Run, Spec
from elbert.modeling.files.open import open_tokenizer
from elbert.tasks import Task, task_of


def load(job: Job, spec: Spec) -> Run:
    """Return the pipeline."""
    quick = open_tokenizer(job.folder)
    pipe = transformers.pipeline(
        "text-classification",
        model=str(job.folder),
        tokenizer=quick.to_transformers(),
        device=job.device,
        dtype=DTYPES[spec.dtype],
    )
    ids = {str(name): int(index) for name, index in pipe.model.config.label2id.items()}
    task = task_of(job.problem_type)
    settings: dict[str, Any] = {"truncation": True, "max_length": job.max_length}
    if not task.exclusive:
        settings |= {"top_k": None, "function_to_apply": task.squash}
    places = {index: len(row.ids) for row in arrivals(job.texts, quick, job.max_length, {}) for index in [row.index]}
    order = sorted(places, key=lambda index: places[index], reverse=True)

    @torch.inference_mode()
    def run(texts: Sequence[Text], batch: int) -> Answers:
        chosen = order if len(texts) == len(order) else range(len(texts))
        inputs = [_input(texts[index]) for index in chosen]
        labels: list[Answer] = [0] * len(texts)
        for index, output in zip(chosen, pipe(inputs, batch_size=batch, **settings), strict=True):
            labels[index] = _answer(output, ids, task)
        return Answers(labels)

    return run


def _input(text: Text) -> Any:
    return text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}


def _answer(output: Any, ids: dict[str, int], task: Task) -> Answer:
    """Return a class index, zeros and ones by class, or the values, from what the pipeline says of one text."""
    scores = [0.0] * len(ids)
    for each in output if isinstance(output, list) else [output]:
        scores[ids[each["label"]]] = each["score"]
    answer: Answer = task.decisions(torch.tensor(scores)).tolist()
    return answer
