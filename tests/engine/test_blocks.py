"""Blocks of rows for attention: every token once, no block too large, little padding, one block off the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbert.engine.rows.blocks import MOST_SCORES, SHORT, Blocks, blocks_of
from elbert.engine.rows.packed import Layout

lengths_of_rows = st.lists(st.integers(1, 300), min_size=1, max_size=40)


def blocks_on(lengths: list[int], device: str = "cpu", *, apart: bool = False) -> Blocks:
    starts = np.cumsum(lengths) - lengths
    return blocks_of(np.array(lengths), starts, sum(lengths), torch.device(device), apart=apart)


@given(lengths=lengths_of_rows)
@settings(max_examples=60, deadline=None)
def test_there_and_back_gives_every_token_its_own_value(lengths: list[int]) -> None:
    layout = Layout(np.array(lengths))
    packed = torch.arange(layout.size)
    for blocks in (layout.blocks, layout.blocks_apart):
        if blocks.pad is None or blocks.unpad is None:
            assert len(set(lengths)) == 1
            continue
        back = packed[blocks.pad][blocks.unpad]
        assert torch.equal(back[: layout.tokens], packed[: layout.tokens])
        assert len(back) == layout.size


@given(lengths=lengths_of_rows, apart=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_row_attends_to_its_own_tokens_and_to_no_padding(lengths: list[int], apart: bool) -> None:
    rows = blocks_on(lengths, apart=apart)
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    place, seen = 0, []
    for block in rows.blocks:
        for number in range(block.rows):
            places = np.arange(block.first + number * block.length, block.first + (number + 1) * block.length)
            tokens = places if rows.pad is None else rows.pad.numpy()[places]
            (row,) = set(row_of[tokens])
            open_places = block.length if block.closed is None else int((block.closed[number, 0] == 0).sum())
            assert open_places == lengths[row]
            assert list(tokens[:open_places]) == list(np.flatnonzero(row_of == row))
            seen.append(row)
        place = block.end
    assert sorted(seen) == list(range(len(lengths)))
    assert place == rows.places


@given(lengths=lengths_of_rows)
@settings(max_examples=60, deadline=None)
def test_blocks_stay_small_on_a_cpu(lengths: list[int]) -> None:
    rows = blocks_on(lengths)
    assert all(block.rows * block.length**2 <= MOST_SCORES or block.rows == 1 for block in rows.blocks)


def test_one_long_row_does_not_pad_the_short_ones() -> None:
    lengths = [10] * 20 + [256]
    rows = blocks_on(lengths)
    assert rows.places == sum(lengths)


@pytest.mark.parametrize("lengths", [[5], [7, 7, 7], [90] * 30], ids=str)
def test_rows_of_one_length_are_not_moved(lengths: list[int]) -> None:
    assert blocks_on(lengths).pad is None


def test_elsewhere_all_rows_are_one_block() -> None:
    lengths = [3, 200, 50]
    rows = blocks_on(lengths, "meta")
    assert [(block.rows, block.length) for block in rows.blocks] == [(3, 200)]


@given(lengths=lengths_of_rows)
@settings(max_examples=60, deadline=None)
def test_long_rows_can_be_kept_apart_in_blocks_of_few_lengths(lengths: list[int]) -> None:
    rows = blocks_on(lengths, apart=True)
    ordered = sorted(lengths, reverse=True)
    for block in rows.blocks:
        here, ordered = ordered[: block.rows], ordered[block.rows :]
        assert all(length > SHORT for length in here) or all(length <= SHORT for length in here)
        assert block.length == here[0] or (here[0] > SHORT and block.length % 16 == 0 and block.length - here[0] < 16)
