"""Tokenised once, batched by length, padded to the batch, in an order that seed and epoch fix."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbert.data import Labels, TextDataset
from elbert.training.encoding import Collator, EncodedDataset, LengthGroupedBatches, LongestFirst, collator_for, encode

LABELS = Labels("single_label_classification", ("good", "bad"))


def test_encode_cuts_texts_and_counts_them(tiny_tokenizer, plain_tokenizer, tiny_texts):
    encoded = encode(TextDataset(tiny_texts, [0] * 8, LABELS), plain_tokenizer, 11, progress=False)
    assert max(encoded.lengths) == 11
    whole = [len(ids) for ids in tiny_tokenizer(tiny_texts)["input_ids"]]
    assert encoded.truncated == sum(length > 11 for length in whole)
    assert encoded.token_type_ids is None
    assert encoded[0].keys() == {"input_ids", "labels"}


def test_encode_tells_the_texts_of_a_pair_apart(plain_tokenizer):
    encoded = encode(TextDataset([("warm film", "dull")], [1], LABELS), plain_tokenizer, 32, progress=False)
    types = encoded[0]["token_type_ids"]
    assert types == sorted(types)
    assert set(types) == {0, 1}


def test_a_batch_is_padded_to_its_longest_text_and_no_further():
    rows = [
        {"input_ids": [2, 5, 3], "token_type_ids": [0, 1, 1], "labels": 1},
        {"input_ids": [2, 3], "token_type_ids": [0, 0], "labels": 0},
    ]
    batch = Collator(9, torch.int64)(rows)
    assert batch["input_ids"].tolist() == [[2, 5, 3], [2, 3, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 1, 1], [0, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]


def test_labels_are_ids_or_floats_as_the_loss_wants_them(tiny_tokenizer):
    assert collator_for(tiny_tokenizer, "single_label_classification").label_dtype == torch.int64
    assert collator_for(tiny_tokenizer, "multi_label_classification").label_dtype == torch.float32
    assert collator_for(tiny_tokenizer, "regression").label_dtype == torch.float32


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.integers(1, 40), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_every_row_comes_once_an_epoch(lengths, batch_size, seed):
    sampler = LengthGroupedBatches(lengths, batch_size, seed)
    assert sorted(sampler) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    lengths = [row % 17 for row in range(200)]
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            sampler = LengthGroupedBatches(lengths, 8, seed)
            sampler.set_epoch(epoch)
            orders[seed, epoch] = list(sampler)
            torch.rand(3)
            assert list(sampler) == orders[seed, epoch]
    assert len({tuple(order) for order in orders.values()}) == 4


def test_batches_hold_texts_of_like_length():
    lengths = torch.randint(5, 60, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    order = list(LengthGroupedBatches(lengths, 20, 0))
    padded = sum(20 * max(lengths[row] for row in order[start : start + 20]) for start in range(0, 1000, 20))
    assert padded < 1.05 * sum(lengths)


def test_evaluation_goes_from_the_longest_to_the_shortest():
    assert list(LongestFirst([3, 9, 1, 9])) == [1, 3, 0, 2]


def test_lengths_are_token_counts():
    assert EncodedDataset([[1, 2], [1]], None, [0, 1], 0).lengths == [2, 1]
