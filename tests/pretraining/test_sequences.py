from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elbert.errors import DataError
from elbert.pretraining import PretrainSettings
from elbert.pretraining.batches import Batcher
from elbert.pretraining.corpus import TokenCorpus, split_documents, tokenize_corpus
from elbert.pretraining.sequences import MIDDLE, START, STOP, cut_sequences


@pytest.fixture
def tokens(corpus: Path, tiny_tokenizer: Any) -> TokenCorpus:
    return tokenize_corpus([corpus], tiny_tokenizer)


def every(corpus: TokenCorpus) -> np.ndarray:
    return np.arange(len(corpus))


def test_tokens_are_the_tokenizers_own_sentence_by_sentence(tmp_path: Path, tiny_tokenizer: Any) -> None:
    (tmp_path / "a.txt").write_text("A warm story. It was dull.\n\nThe film was great.\n")
    corpus = tokenize_corpus([tmp_path / "a.txt"], tiny_tokenizer)
    assert len(corpus) == 2
    assert corpus.documents.tolist() == [0, 2, 3]
    pieces = [corpus.tokens[a:b] for a, b in zip(corpus.sentences[:-1], corpus.sentences[1:], strict=True)]
    assert [tiny_tokenizer.decode(piece) for piece in pieces] == [
        "a warm story.",
        "it was dull.",
        "the film was great.",
    ]


def test_a_file_named_twice_counts_twice(corpus: Path, tiny_tokenizer: Any, tokens: TokenCorpus) -> None:
    assert len(tokenize_corpus([corpus, corpus], tiny_tokenizer)) == 2 * len(tokens)


def test_a_stored_corpus_comes_back_the_same(tmp_path: Path, tokens: TokenCorpus) -> None:
    tokens.save(tmp_path / "corpus.npz")
    again = TokenCorpus.load(tmp_path / "corpus.npz")
    for name in ("tokens", "sentences", "documents"):
        assert np.array_equal(getattr(tokens, name), getattr(again, name))


def test_held_out_documents_are_not_trained_on(tokens: TokenCorpus) -> None:
    train, held_out = split_documents(tokens, 100, seed=0)
    assert sorted([*train, *held_out]) == list(range(len(tokens)))
    assert 1 <= len(held_out) < len(train)


def test_a_corpus_of_one_document_cannot_be_split(tmp_path: Path, tiny_tokenizer: Any) -> None:
    (tmp_path / "one.txt").write_text("One line.\nAnother line.\n")
    with pytest.raises(DataError, match=r"one document.*blank lines"):
        split_documents(tokenize_corpus([tmp_path / "one.txt"], tiny_tokenizer), 100, seed=0)


def test_passages_stay_inside_a_document_and_leave_no_sentence_out(tokens: TokenCorpus) -> None:
    sequences = cut_sequences(tokens, every(tokens), room=60, single_sentences=0.0, rng=np.random.default_rng(0))
    starts = tokens.sentences[tokens.documents]
    document = np.searchsorted(starts, sequences[:, START], side="right")
    assert np.array_equal(document, np.searchsorted(starts, sequences[:, STOP], side="left"))
    assert (sequences[:, STOP] - sequences[:, START]).sum() == len(tokens.tokens)
    assert (sequences[:, STOP] - sequences[:, START]).max() <= 60


def test_single_sentences_are_single(tokens: TokenCorpus) -> None:
    sequences = cut_sequences(tokens, every(tokens), room=60, single_sentences=1.0, rng=np.random.default_rng(0))
    assert len(sequences) == len(tokens.sentences) - 1


def test_long_sentences_lose_their_end(tokens: TokenCorpus) -> None:
    sequences = cut_sequences(tokens, every(tokens), room=5, single_sentences=1.0, rng=np.random.default_rng(0))
    assert (sequences[:, STOP] - sequences[:, START]).max() == 5


def test_every_sequence_is_batched_once_and_no_batch_is_padded(
    tokens: TokenCorpus, tiny_tokenizer: Any, settings: Callable[..., PretrainSettings]
) -> None:
    batcher = Batcher(tokens, tiny_tokenizer, settings(single_sentences=0.5), positions=64)
    plan = batcher.plan(every(tokens), epoch=0)
    assert sorted(np.concatenate(plan.batches)) == list(range(len(plan.sequences)))
    assert plan.sizes.max() <= 64
    for index in range(len(plan)):
        batch = batcher.batch(plan, index)
        assert batch.ids.numel() == plan.sizes[index]
        assert not (batch.ids == tiny_tokenizer.pad_token_id).any()


def test_plans_differ_by_epoch_and_are_the_same_when_made_again(
    tokens: TokenCorpus, tiny_tokenizer: Any, settings: Callable[..., PretrainSettings]
) -> None:
    batcher = Batcher(tokens, tiny_tokenizer, settings(), positions=64)
    first, again, other = (batcher.plan(every(tokens), epoch) for epoch in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first.batches, again.batches, strict=True))
    assert not np.array_equal(first.sequences, other.sequences)
    one, two = batcher.batch(first, 3), batcher.batch(again, 3)
    assert torch.equal(one.masked_ids, two.masked_ids)
    assert torch.equal(one.swapped, two.swapped)


def test_swapped_segments_are_labelled_and_both_orders_occur(
    tokens: TokenCorpus, tiny_tokenizer: Any, settings: Callable[..., PretrainSettings]
) -> None:
    batcher = Batcher(tokens, tiny_tokenizer, settings(masked_words=0.0, single_sentences=0.0), positions=64)
    plan = batcher.plan(every(tokens), epoch=0)
    orders = []
    for index in range(len(plan)):
        batch = batcher.batch(plan, index)
        for row, rows in enumerate(plan.batches[index]):
            start, middle, stop = plan.sequences[rows][[START, MIDDLE, STOP]]
            first, second = tokens.tokens[start:middle].tolist(), tokens.tokens[middle:stop].tolist()
            if batch.swapped[row]:
                first, second = second, first
            cls, sep = tiny_tokenizer.cls_token_id, tiny_tokenizer.sep_token_id
            assert batch.ids[row].tolist() == [cls, *first, sep, *second, sep]
            assert batch.token_types[row].tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
            orders.append(int(batch.swapped[row]))
    assert 0.35 < np.mean(orders) < 0.65


def test_segments_meet_at_a_sentence_end_where_there_is_one(tokens: TokenCorpus) -> None:
    sequences = cut_sequences(tokens, every(tokens), room=60, single_sentences=0.0, rng=np.random.default_rng(0))
    inner = [row for row in sequences if np.isin(np.arange(row[START] + 1, row[STOP]), tokens.sentences).any()]
    assert len(inner) > 10
    assert all(row[MIDDLE] in tokens.sentences for row in inner)


def test_without_sentence_order_there_is_one_segment(
    tokens: TokenCorpus, tiny_tokenizer: Any, settings: Callable[..., PretrainSettings]
) -> None:
    batcher = Batcher(tokens, tiny_tokenizer, settings(sentence_order=0.0), positions=64)
    batch = batcher.batch(batcher.plan(every(tokens), epoch=0), 0)
    assert not batch.token_types.any()
    assert (batch.ids == tiny_tokenizer.sep_token_id).sum() == len(batch.ids)
