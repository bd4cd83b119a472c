"""The corpus as token ids: tokenised once, kept as one flat array, split into training and held-out documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from elbert.errors import DataError
from elbert.pretraining.readers import read_documents

IntArray = NDArray[np.int64]

# No more than this part of a corpus is kept aside, however much the settings ask for.
MOST_HELD_OUT = 0.05
# Documents handed to the tokenizer at a time.
CHUNK = 512


@dataclass(frozen=True, slots=True, eq=False)
class TokenCorpus:
    """A tokenised corpus. N tokens, S sentences, D documents.

    Attributes:
        tokens: [N] ids, no special tokens.
        sentences: [S + 1] where each sentence starts in `tokens`, and where the last one ends.
        documents: [D + 1] the same for documents in `sentences`.
    """

    tokens: NDArray[np.int32]
    sentences: IntArray
    documents: IntArray

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.documents) - 1

    def save(self, path: Path) -> None:
        """Write one `.npz` file, whole or not at all."""
        part = path.with_suffix(".part.npz")
        np.savez(part, tokens=self.tokens, sentences=self.sentences, documents=self.documents)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> TokenCorpus:
        """Read what `save` wrote; holds no pickles."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["tokens"], arrays["sentences"], arrays["documents"])


def tokenize_corpus(paths: Iterable[Path], tokenizer: Any, *, show_progress: bool | None = False) -> TokenCorpus:
    """Tokenise files in order; a file named twice counts twice.

    Args:
        paths: corpus files.
        tokenizer: a fast tokenizer of transformers.
        show_progress: a bar on stderr; None for one where stderr is a terminal.

    Raises:
        DataError: there is no text in any of them, or one cannot be read.
    """
    tokens: list[NDArray[np.int32]] = []
    lengths: list[IntArray] = []
    counts: list[int] = []
    with tqdm(desc="tokenising", unit="doc", disable=None if show_progress is None else not show_progress) as bar:
        for documents in _chunks(chain.from_iterable(read_documents(path) for path in paths)):
            flat = [sentence for document in documents for sentence in document]
            ids = tokenizer(flat, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
            lengths.append(np.fromiter(map(len, ids), np.int64, len(flat)))
            tokens.append(np.fromiter(chain.from_iterable(ids), np.int32))
            counts.extend(map(len, documents))
            bar.update(len(documents))
    if not sum(map(len, tokens)):
        raise DataError("the corpus holds no text: every document of every file is empty")
    return TokenCorpus(np.concatenate(tokens), _bounds(np.concatenate(lengths)), _bounds(np.asarray(counts, np.int64)))


def split_documents(corpus: TokenCorpus, held_out_tokens: int, seed: int) -> tuple[IntArray, IntArray]:
    """Return the numbers of the documents to train on, and of those kept aside.

    Args:
        corpus: what to split.
        held_out_tokens: tokens to keep aside; never more than a twentieth of the corpus, never less than a document.
        seed: of the draw.

    Raises:
        DataError: there are fewer than two documents.
    """
    if len(corpus) < 2:
        raise DataError(
            "the corpus holds one document, and one is kept aside for the held-out loss; "
            "separate documents by blank lines, or give more text"
        )
    order = np.random.default_rng(seed).permutation(len(corpus))
    sizes = np.diff(corpus.sentences[corpus.documents])[order]
    wanted = min(held_out_tokens, int(MOST_HELD_OUT * len(corpus.tokens)))
    count = min(max(1, int(np.searchsorted(np.cumsum(sizes), wanted))), len(corpus) - 1)
    return np.sort(order[count:]), np.sort(order[:count])


def _bounds(lengths: IntArray) -> IntArray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def _chunks(documents: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    while chunk := list(islice(documents, CHUNK)):
        yield chunk
