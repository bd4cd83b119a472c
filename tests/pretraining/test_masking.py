from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from elbert.pretraining.masking import Masker, make_masker
from elbert.pretraining.objectives import IGNORED, masked_word_loss

V = 200
SPECIAL = np.arange(V) < 5
ORDINARY = np.flatnonzero(~SPECIAL)
CONTINUES = (np.arange(V) >= 150) & ~SPECIAL
MASK = 4


@pytest.fixture
def masker() -> Masker:
    return Masker(MASK, SPECIAL, ORDINARY, CONTINUES, 0.15, 3)


def sentence(length: int, rng: np.random.Generator) -> np.ndarray:
    """[CLS] whole words only [SEP]."""
    return np.concatenate([[2], rng.integers(5, 150, length), [3]])


def test_a_fraction_of_the_places_is_chosen_and_specials_never(masker: Masker) -> None:
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(np.stack([sentence(100, rng) for _ in range(100)]))
    masked, labels = masker(ids, rng)
    chosen = labels != IGNORED
    assert chosen[:, 1:-1].float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert not chosen[:, 0].any()
    assert not chosen[:, -1].any()
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(masked[~chosen], ids[~chosen])


def test_chosen_places_become_mask_random_word_or_stay_in_bert_proportions(masker: Masker) -> None:
    rng = np.random.default_rng(1)
    ids = torch.from_numpy(np.stack([sentence(100, rng) for _ in range(300)]))
    masked, labels = masker(ids, rng)
    chosen = labels != IGNORED
    assert (masked[chosen] == MASK).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (masked[chosen] == ids[chosen]).float().mean().item() == pytest.approx(0.1, abs=0.015)
    assert not torch.isin(masked[chosen], torch.tensor([0, 1, 2, 3])).any()


def test_runs_of_n_words_come_up_in_proportion_to_one_over_n() -> None:
    masker = Masker(MASK, SPECIAL, ORDINARY, CONTINUES, 0.03, 3)  # few enough that runs seldom touch
    rng = np.random.default_rng(2)
    counts = np.zeros(4)
    for _ in range(2000):
        chosen = masker.choose(sentence(100, rng)[None], rng)[0]
        first = int(np.flatnonzero(chosen)[0])
        run = int(np.argmin(np.append(chosen[first:], False)))
        counts[min(run, 3)] += 1
    # The budget of 3 places allows one run of 3, or one of 2 and one of 1, or three of 1.
    assert counts[1] > counts[2] > counts[3] > 0


def test_words_are_masked_whole(masker: Masker) -> None:
    rng = np.random.default_rng(3)
    word = [10, 160, 161]
    rows = np.tile([2, *(word * 20), 3], (50, 1))
    chosen = masker.choose(rows, rng)[:, 1:-1].reshape(50, 20, 3)
    assert (chosen.all(axis=2) == chosen.any(axis=2)).all()
    assert chosen.any(axis=(1, 2)).all()


def test_a_row_without_words_is_left_alone(masker: Masker) -> None:
    rng = np.random.default_rng(0)
    assert not masker.choose(np.array([[2, 3]]), rng).any()
    # Beside a row with words too; pieces that continue no word of the row belong to none.
    assert masker.choose(np.array([[2, 160, 161, 3], [2, 10, 11, 3]]), rng).any(axis=1).tolist() == [False, True]


def choose_one(masker: Masker, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rule for one row, word by word: runs in random order, each if it touches no other and fits the budget."""
    places = range(len(row))
    starts = [place for place in places if not SPECIAL[row[place]] and not CONTINUES[row[place]]]
    breaks = [place for place in places if SPECIAL[row[place]] or not CONTINUES[row[place]]] + [len(row)]
    ends = [min(place for place in breaks if place > start) for start in starts]
    left = budget = max(1, round(masker.fraction * sum(not SPECIAL[token] for token in row)))
    chosen = np.zeros(len(row), np.bool_)
    weights = 1 / np.arange(1, masker.max_ngram + 1)
    for word in rng.permutation(len(starts)):
        run = rng.choice(len(weights), p=weights / weights.sum()) + 1
        start, stop = starts[word], ends[min(word + run, len(starts)) - 1]
        if left > 0 and not chosen[start:stop].any() and (stop - start <= left or left == budget):
            chosen[start:stop] = True
            left -= stop - start
    return chosen & ~SPECIAL[row]


def test_rows_side_by_side_are_masked_as_often_as_one_at_a_time(masker: Masker) -> None:
    rng = np.random.default_rng(4)
    # A long row, one that begins inside a word and has two segments, and one shorter than a run; [PAD] is special.
    rows = np.zeros((3, 24), np.int64)
    rows[0] = [2, *rng.integers(5, V, 22), 3]
    rows[1] = [2, 160, 10, 161, 3, 162, 11, 12, 163, 164, 13, 3, *([0] * 12)]
    rows[2, :4] = [2, 10, 11, 3]
    draws = 3000
    together = masker.choose(np.tile(rows, (draws, 1)), rng).reshape(draws, *rows.shape)
    alone = np.stack([[choose_one(masker, row, rng) for row in rows] for _ in range(draws)])
    # Four standard errors of a difference of two frequencies.
    allowed = 4 * (0.5 / draws) ** 0.5
    assert np.abs(together.mean(axis=0) - alone.mean(axis=0)).max() < allowed
    # Neighbours fall together as often, too.
    pairs = [(masks[:, :, 1:] & masks[:, :, :-1]).mean(axis=0) for masks in (together, alone)]
    assert np.abs(pairs[0] - pairs[1]).max() < allowed
    sizes = [
        np.array([np.bincount(masks[:, row].sum(axis=1), minlength=25) for row in range(3)]) / draws
        for masks in (together, alone)
    ]
    assert np.abs(sizes[0] - sizes[1]).max() < allowed


def test_one_seed_gives_one_mask(masker: Masker) -> None:
    ids = torch.from_numpy(sentence(30, np.random.default_rng(0)))[None]
    first = masker(ids, np.random.default_rng(7))
    second = masker(ids, np.random.default_rng(7))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_masker_reads_word_pieces_from_the_tokenizer(tiny_tokenizer: Any) -> None:
    masker = make_masker(tiny_tokenizer, 0.15, 3)
    words = tiny_tokenizer.convert_ids_to_tokens(range(len(tiny_tokenizer)))
    assert masker.continues.sum() == sum(word.startswith("##") for word in words) > 0
    assert set(np.flatnonzero(masker.special)) == set(tiny_tokenizer.all_special_ids)


def test_loss_and_gradient_come_from_masked_places_only() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 20)
    hidden = torch.randn(2, 5, 8, requires_grad=True)
    labels = torch.full((2, 5), IGNORED)
    labels[0, 1], labels[1, 3] = 7, 11
    loss = masked_word_loss(head, hidden, labels)
    expected = F.cross_entropy(head(hidden).flatten(0, 1), labels.flatten())
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert torch.equal(gradient.abs().sum(-1) > 0, labels != IGNORED)


def test_only_masked_places_meet_the_vocabulary() -> None:
    seen: list[int] = []

    def head(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return torch.zeros(len(rows), 20)

    labels = torch.full((4, 16), IGNORED)
    labels[:, 2] = 3
    masked_word_loss(head, torch.randn(4, 16, 8), labels)
    assert seen == [4]


def test_a_batch_without_masks_costs_nothing() -> None:
    loss = masked_word_loss(torch.nn.Linear(8, 20), torch.randn(1, 3, 8), torch.full((1, 3), IGNORED))
    assert loss.item() == 0
