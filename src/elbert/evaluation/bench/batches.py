"""The road that peers without one of their own take: tokens, order by length, padded batches, logits, answers.

Tokenising, ordering and the tokens of a step are the engine's own, so nobody gains or loses by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elbert.data import Text
from elbert.engine.engine import SORTING_WINDOW, by_length
from elbert.engine.placement import DTYPES, most_tokens
from elbert.engine.requests import Arrival
from elbert.engine.tokens import arrivals
from elbert.errors import ElbertError
from elbert.evaluation.bench.job import Answer, Answers, Job, Run, Spec
from elbert.modeling.files.open import open_tokenizer
from elbert.tasks import task_of

Array = NDArray[Any]

# From `input_ids`, `attention_mask` and where the model reads them `token_type_ids`, each int64 [rows, longest], to
# logits [rows, C].
Forward = Callable[[dict[str, Array]], Array]


def load_tokenizer(job: Job) -> Any:
    """Return the model's fast tokenizer as transformers has it; it names the inputs that the model reads."""
    return open_tokenizer(job.folder).to_transformers()


@dataclass(frozen=True)
class Reader:
    """How a model's texts become arrays.

    Attributes:
        tokenizer: that our classifier runs.
        max_length: tokens read of a text.
        padding: token id of the places behind a text.
        typed: whether the model reads token types.
    """

    tokenizer: Any
    max_length: int
    padding: int
    typed: bool

    def rows(self, texts: Iterable[Text]) -> Iterator[Arrival]:
        """Tokenise, lazily and in about the order given."""
        return arrivals(texts, self.tokenizer, self.max_length, {})

    def feeds(self, rows: Sequence[Arrival]) -> dict[str, Array]:
        """Return tokenised texts as the arrays a model is called with."""
        return padded(rows, self.padding, typed=self.typed)


def reader_of(job: Job) -> Reader:
    """Return how this model's texts become arrays.

    Raises:
        ElbertError: there is no token to pad with.
    """
    quick = open_tokenizer(job.folder)
    tokenizer = quick.to_transformers()
    if tokenizer.pad_token_id is None:
        raise ElbertError(
            f"{job.folder}: the tokenizer has no padding token and batches need one; name one as pad_token in "
            "tokenizer_config.json"
        )
    return Reader(quick, job.max_length, int(tokenizer.pad_token_id), quick.token_types)


def in_batches(job: Job, spec: Spec, forward: Forward) -> Run:
    """Return a system that pads batches of texts of about one length and runs `forward` on each.

    A batch has at most the tokens, padding included, that our engine steps together on this device in this dtype.

    Args:
        job: the model and how it is read.
        spec: the system.
        forward: the model itself.
    """
    reader = reader_of(job)
    most = most_tokens(torch.device(job.device), DTYPES[spec.dtype])

    def run(texts: Sequence[Text], batch: int) -> Answers:
        source = by_length(reader.rows(texts), SORTING_WINDOW * batch)
        labels: list[Answer] = [0] * len(texts)
        for rows in held(source, batch, most):
            logits = forward(reader.feeds(rows))
            for row, label in zip(rows, read(logits, job.problem_type), strict=True):
                labels[row.index] = label
        return Answers(labels)

    return run


def held(source: Iterable[Arrival], batch: int, most: int) -> Iterator[list[Arrival]]:
    """Yield neighbours as batches held to a number of rows and of tokens.

    Args:
        source: tokenised texts, those of about one length together.
        batch: rows at most.
        most: rows times the longest of them at most; a row longer than that goes alone.
    """
    rows: list[Arrival] = []
    longest = 0
    for row in source:
        longest = max(longest, len(row.ids))
        if rows and (len(rows) == batch or (len(rows) + 1) * longest > most):
            yield rows
            rows, longest = [], len(row.ids)
        rows.append(row)
    if rows:
        yield rows


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
    task = task_of(problem_type)
    answers: list[Answer] = task.decisions(task.probabilities(torch.as_tensor(logits))).tolist()
    return answers
