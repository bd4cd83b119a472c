"""From texts to batches: tokenised once up front, batched by length, padded no further than the batch needs.

Knows no model. The order of every epoch is a function of (seed, epoch) alone, so that a resumed run meets the very
batches an unbroken one would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from elbert.data import TextDataset
from elbert.errors import DataError
from elbert.tasks import task_of
from elbert.words import read_by_words

# Texts given to the fast tokenizer at a time: enough to keep its threads busy.
_TOKENIZE_AT_ONCE = 4096
# Batches drawn together and then sorted by length, as transformers' own grouping does.
_BATCHES_SORTED_TOGETHER = 50


@dataclass(frozen=True)
class EncodedDataset(Dataset[dict[str, Any]]):
    """N tokenised texts in memory.

    Attributes:
        input_ids: N lists of token ids, special tokens included.
        token_type_ids: N lists, 1 for the second text of a pair; None where there are no pairs, or the
            model does not tell their texts apart.
        labels: N ids, N rows of zeros and ones, or N values.
        truncated: how many texts were cut off.
        words: by place, the token ids that layer 0 reads of a text that was cut off; it may read more of it.
        answers: [N, C] what a teacher says of each, see `elbert.training.lesson`; None where there is none.
        labelled: how many of the texts, the first ones, have a label; the others stand behind them with a label that
            means nothing. 0 where all have one, and nobody teaches.
    """

    input_ids: list[list[int]]
    token_type_ids: list[list[int]] | None
    labels: Sequence[Any]
    truncated: int
    words: Mapping[int, list[int]] = field(default_factory=dict)
    answers: Tensor | None = None
    labelled: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = {"input_ids": self.input_ids[index], "labels": self.labels[index]}
        if self.token_type_ids is not None:
            row["token_type_ids"] = self.token_type_ids[index]
        if self.answers is not None:
            row["answers"] = self.answers[index]
        if self.labelled:
            row["labelled"] = index < self.labelled
        return row

    @property
    def lengths(self) -> list[int]:
        """Tokens of every text."""
        return [len(ids) for ids in self.input_ids]

    def read_by_words(self, places: Iterable[int]) -> list[list[int]]:
        """Return the token ids that layer 0 reads of some texts."""
        return [self.words.get(place, self.input_ids[place]) for place in places]


def encode(
    dataset: TextDataset, tokenizer: Any, max_length: int, *, reach: int = 0, progress: bool = True
) -> EncodedDataset:
    """Tokenise a labelled data set.

    Args:
        dataset: with labels.
        tokenizer: the model's `PlainTokenizer`.
        max_length: tokens kept of a text, special tokens included; of a pair the longer text is cut first.
        reach: tokens that layer 0 reads of a text, where those are more.
        progress: whether to show a bar on stderr.

    Raises:
        DataError: a text holds what the model cannot read; the line names its row.
        UsageError: `max_length` leaves no room for the words.
    """
    ids: list[list[int]] = []
    types: list[list[int]] = []
    words: dict[int, list[int]] = {}
    truncated = 0
    starts = range(0, len(dataset), _TOKENIZE_AT_ONCE)
    for start in tqdm(starts, desc="tokenising", unit="chunk", disable=not progress or len(starts) < 3, leave=False):
        texts = dataset.texts[start : start + _TOKENIZE_AT_ONCE]
        encoded = tokenizer(list(texts), truncation=True, max_length=max_length, reach=reach)
        for row, tokens in enumerate(encoded["input_ids"], start=start + 1):
            if problem := tokenizer.problem(tokens):
                raise DataError(f"{dataset.name}, text {row}: {problem}")
        ids += encoded["input_ids"]
        types += encoded.get("token_type_ids", [])
        cut = {place: one for place, one in enumerate(encoded.encodings, start=start) if one.overflowing}
        truncated += len(cut)
        if reach > max_length:
            words |= {place: read_by_words(one, reach) for place, one in cut.items()}
    pairs = any(
        isinstance(text, tuple) for text in dataset.texts
    )  # single texts are all of type 0, the model's default
    return EncodedDataset(ids, types if pairs and types else None, dataset.labels or [], truncated, words)


@dataclass(frozen=True)
class Collator:
    """Pads the rows of a batch to the longest of them.

    Attributes:
        pad_token_id: what to pad `input_ids` with.
        label_dtype: int64 for class ids, float32 for zeros and ones and for values.
    """

    pad_token_id: int
    label_dtype: torch.dtype

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask`, maybe `token_type_ids`, each [B, S], and `labels` [B] or [B, C].

        With a teacher also its `answers` [B, C]; where some texts may have no label, [B] whether each is `labelled`.
        """
        lengths = [len(row["input_ids"]) for row in rows]
        width = max(lengths)
        batch = {
            "input_ids": torch.tensor(_padded([row["input_ids"] for row in rows], width, self.pad_token_id)),
            "attention_mask": torch.tensor([[1] * length + [0] * (width - length) for length in lengths]),
            "labels": torch.tensor([row["labels"] for row in rows], dtype=self.label_dtype),
        }
        if "token_type_ids" in rows[0]:
            batch["token_type_ids"] = torch.tensor(_padded([row["token_type_ids"] for row in rows], width, 0))
        if "answers" in rows[0]:
            batch["answers"] = torch.stack([row["answers"] for row in rows])
        if "labelled" in rows[0]:
            batch["labelled"] = torch.tensor([row["labelled"] for row in rows])
        return batch


def collator_for(tokenizer: Any, problem_type: str) -> Collator:
    """Return the collator of a tokenizer and a problem type."""
    return Collator(int(tokenizer.pad_token_id or 0), getattr(torch, task_of(problem_type).target_dtype))


class LengthGroupedBatches(Sampler[int]):
    """Row numbers in an order that puts texts of like length into one batch, shuffled anew each epoch.

    Args:
        lengths: tokens of every text.
        batch_size: texts a batch.
        seed: of the shuffle; with the epoch it fixes the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = torch.tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass belongs to (the trainer does)."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=generator)
        size = self.batch_size * _BATCHES_SORTED_TOGETHER
        sorted_chunks = [chunk[self.lengths[chunk].argsort(descending=True, stable=True)] for chunk in rows.split(size)]
        batches = torch.cat(sorted_chunks).split(self.batch_size)
        whole, rest = (batches, ()) if len(batches[-1]) == self.batch_size else (batches[:-1], batches[-1:])
        order = torch.randperm(len(whole), generator=generator).tolist()
        # The incomplete batch, if there is one, stays last: batches are cut from this order again.
        return iter(torch.cat([whole[place] for place in order] + list(rest)).tolist())


class LongestFirst(Sampler[int]):
    """Row numbers from the longest text to the shortest: the least padding, for evaluation."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.order = torch.tensor(lengths).argsort(descending=True, stable=True).tolist()

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)


def _padded(rows: list[list[int]], width: int, value: int) -> list[list[int]]:
    return [row + [value] * (width - len(row)) for row in rows]
