"""Tokens to training sequences: cut every pass anew, grouped by length so that nothing is padded.

A sequence is a run of neighbouring sentences of one document. A micro-batch holds sequences of exactly one length, so
there is no padding and no attention mask. Every draw comes from a generator the caller seeds: a plan can be made again
after a restart.
"""

from __future__ import annotations

import numpy as np

from elbert.pretraining.corpus import IntArray, TokenCorpus

# Passages are drawn between this many tokens and as many as there is room for.
SHORTEST_PASSAGE = 32
# A run of fewer tokens (a lone initial, a stray mark) teaches nothing.
FEWEST_TOKENS = 3

# Columns of a sequence table.
START, MIDDLE, STOP = 0, 1, 2


def cut_sequences(
    corpus: TokenCorpus, documents: IntArray, *, room: int, single_sentences: float, rng: np.random.Generator
) -> IntArray:
    """Cut documents into sequences of neighbouring sentences.

    Args:
        corpus: the tokens.
        documents: [d] which documents to cut.
        room: most tokens a sequence may hold, special tokens not counted; a longer sentence loses its end.
        single_sentences: part of the sequences that hold one sentence; the others fill up to a length drawn
            log-uniformly between 32 tokens and `room`.
        rng: source of every draw.

    Returns:
        [S, 3] start, middle and stop in `corpus.tokens`. The middle is the sentence bound nearest to the half, or the
        half itself where the sequence is a single sentence.
    """
    rows: list[tuple[int, int, int]] = []
    bounds = corpus.sentences.tolist()
    shortest = min(SHORTEST_PASSAGE, room)
    for document in documents.tolist():
        sentence, last = int(corpus.documents[document]), int(corpus.documents[document + 1])
        while sentence < last:
            start, end = bounds[sentence], sentence + 1
            if rng.random() >= single_sentences:
                target = shortest * (room / shortest) ** rng.random()
                while end < last and bounds[end + 1] - start <= target:
                    end += 1
            stop = min(bounds[end], start + room)
            if stop - start >= FEWEST_TOKENS:
                rows.append((start, _middle(bounds[sentence + 1 : end], start, stop), stop))
            sentence = end
    return np.asarray(rows, np.int64).reshape(-1, 3)


def plan_batches(lengths: IntArray, micro_tokens: int, rng: np.random.Generator) -> list[IntArray]:
    """Group sequences into micro-batches of one length each, in random order.

    Args:
        lengths: [S] tokens of each sequence, special tokens included.
        micro_tokens: most tokens of a micro-batch (a single longer sequence stands alone).
        rng: source of the order.

    Returns:
        Index arrays into `lengths`; every sequence appears exactly once.
    """
    order = rng.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
    batches: list[IntArray] = []
    for group in groups:
        if len(group):
            rows = max(1, micro_tokens // int(lengths[group[0]]))
            batches.extend(np.split(group, range(rows, len(group), rows)))
    return [batches[i] for i in rng.permutation(len(batches))]


def _middle(inner: list[int], start: int, stop: int) -> int:
    half = (start + stop) // 2
    return min((bound for bound in inner if bound < stop), key=lambda bound: abs(bound - half), default=half)
