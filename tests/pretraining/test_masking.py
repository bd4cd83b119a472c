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
CONTINUES = (np.arange(V) >= 150) & ~SPECIAL
MASK = 4


@pytest.fixture
def masker() -> Masker:
    return Masker(MASK, SPECIAL, CONTINUES, 0.15, 3)


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
    masker = Masker(MASK, SPECIAL, CONTINUES, 0.03, 3)  # few enough that runs seldom touch
    rng = np.random.default_rng(2)
    counts = np.zeros(4)
    for _ in range(2000):
        row = sentence(100, rng)
        chosen = masker.choose(row, rng)
        first = int(np.flatnonzero(chosen)[0])
        run = int(np.argmin(np.append(chosen[first:], False)))
        counts[min(run, 3)] += 1
    # The budget of 3 places allows one run of 3, or one of 2 and one of 1, or three of 1.
    assert counts[1] > counts[2] > counts[3] > 0


def test_words_are_masked_whole(masker: Masker) -> None:
    rng = np.random.default_rng(3)
    word = [10, 160, 161]
    row = np.array([2, *(word * 20), 3])
    for _ in range(50):
        chosen = masker.choose(row, rng)[1:-1].reshape(-1, 3)
        assert (chosen.all(axis=1) == chosen.any(axis=1)).all()
        assert chosen.any()


def test_a_row_without_words_is_left_alone(masker: Masker) -> None:
    assert not masker.choose(np.array([2, 3]), np.random.default_rng(0)).any()


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
