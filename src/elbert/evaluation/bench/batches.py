"""The road that peers without one of their own take: tokens, order by length, padded batches, logits, answers.

Tokenising and ordering are the very functions the engine uses, so nobody gains or loses by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.data import Text
from elbert.engine.engine import SORTING_WINDOW, by_length
from elbert.engine.texts import Arrival
from elbert.evaluation.bench.job import Answer, Answers, Job, Run
from elbert.results import LABEL_CUT
from elbert.tokens import arrivals

Array = NDArray[Any]

# From `input_ids`, `attention_mask` and where the model reads them `token_type_ids`, each int64 [rows, longest], to
# logits [rows, C].
Forward = Callable[[dict[str, Array]], Array]


def load_tokenizer(job: Job) -> Any:
    """Return the model's own fast tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(job.folder, local_files_only=True, trust_remote_code=False)


def in_batches(job: Job, forward: Forward) -> Run:
    """Return a system that pads batches of texts of about one length and runs `forward` on each.

    Args:
        job: the model and how it is read.
        forward: the model itself.
    """
    tokenizer = load_tokenizer(job)
    typed = "token_type_ids" in tokenizer.model_input_names
    padding = tokenizer.pad_token_id or 0

    def run(texts: Sequence[Text], batch: int) -> Answers:
        source = by_length(arrivals(texts, tokenizer, job.max_length, {}), SORTING_WINDOW * batch)
        labels: list[Answer] = [0] * len(texts)
        while rows := list(islice(source, batch)):
            logits = forward(padded(rows, padding, typed=typed))
            for row, label in zip(rows, read(logits, job.problem_type), strict=True):
                labels[row.index] = label
        return Answers(labels)

    return run


def padded(rows: Sequence[Arrival], padding: int, *, typed: bool) -> dict[str, Array]:
    """Return texts as arrays, padded to the longest of them.

    Args:
        rows: the tokenised texts.
        padding: token id of the places behind a text.
        typed: whether the model reads token types.
    """
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, mask, types = np.full(shape, padding, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = row.ids
        mask[place, : len(row.ids)] = 1
        if row.token_types:
            types[place, : len(row.ids)] = row.token_types
    feeds = {"input_ids": ids, "attention_mask": mask}
    return {**feeds, "token_type_ids": types} if typed else feeds


def read(logits: Array, problem_type: str) -> list[Answer]:
    """Return the answers that logits [rows, C] stand for."""
    if problem_type == "single_label_classification":
        return [int(index) for index in logits.argmax(-1)]
    if problem_type == "multi_label_classification":
        return [cut(row) for row in (np.tanh(logits / 2) + 1) / 2]  # the sigmoid, without overflow
    return [float(row[0]) if len(row) == 1 else [float(value) for value in row] for row in logits]


def cut(probs: Sequence[float] | Array) -> list[float]:
    """Return one zero or one per class: what is said of a multi-label text of these probabilities [C]."""
    return [float(each >= LABEL_CUT) for each in probs]
