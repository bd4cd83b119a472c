"""Hashed n-grams of token ids: every run of one, two or three tokens of a text falls into one of 2^20 buckets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

BITS = 20
BUCKETS = 1 << BITS
LONGEST = 3

# Odd constants of multiplicative hashing (Knuth 6.4): one mixes tokens into a gram, one spreads grams over buckets.
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, slots=True)
class Grams:
    """The distinct grams of some texts, G in all, text by text.

    Attributes:
        text: [G] which text, ascending.
        bucket: [G] which bucket, ascending within a text.
        count: [G] how often it stands there.
    """

    text: Integers
    bucket: Integers
    count: Integers


def packed(texts: Sequence[Sequence[int]]) -> tuple[Integers, Integers]:
    """Return the token ids of texts one behind the other, [T], and how many each has, [N]."""
    lengths = np.array([len(ids) for ids in texts], np.int64)
    return np.fromiter(chain.from_iterable(texts), np.int64, int(lengths.sum())), lengths


def gram_buckets(ids: Integers, lengths: Integers) -> tuple[Integers, Integers, Integers]:
    """Return every gram of every length as (text [n], first token [n], bucket [n]), grams of one token first.

    Args:
        ids: [T] token ids of all texts one behind the other.
        lengths: [N] tokens of each text; their sum is T.
    """
    text = np.repeat(np.arange(len(lengths)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(ids))  # tokens of its text from here on
    tokens = ids.astype(np.uint64) + np.uint64(1)
    mixed = tokens * _MIX
    texts, places, buckets = [text], [np.arange(len(ids))], [_spread(mixed)]
    for size in range(2, LONGEST + 1):
        mixed = (mixed[:-1] ^ (mixed[:-1] >> np.uint64(29))) * _MIX + tokens[size - 1 :] if len(mixed) else mixed
        starts = np.flatnonzero(left[: len(mixed)] >= size)
        texts.append(text[starts])
        places.append(starts)
        buckets.append(_spread(mixed[starts] * _MIX))
    return np.concatenate(texts), np.concatenate(places), np.concatenate(buckets)


def grams_of(ids: Integers, lengths: Integers) -> Grams:
    """Return the distinct grams of texts; arguments as `gram_buckets`."""
    text, _, bucket = gram_buckets(ids, lengths)
    keys = np.sort((text << BITS) | bucket)
    bounds = bounds_of(keys)
    keys = keys[bounds[:-1]]
    return Grams(keys >> BITS, keys & (BUCKETS - 1), bounds[1:] - bounds[:-1])


def bounds_of(values: Integers) -> Integers:
    """Return where each run of equal values begins, and where the last one ends.

    numpy's own words for it (`unique`, `diff`) cost a text that comes alone as much as all that is done with them.
    """
    new = np.ones(len(values) + 1, bool)
    np.not_equal(values[1:], values[:-1], out=new[1:-1])
    return np.flatnonzero(new)


def _spread(mixed: NDArray[np.uint64]) -> Integers:
    spread = (mixed ^ (mixed >> np.uint64(32))) * _SPREAD
    return (spread >> np.uint64(64 - BITS)).astype(np.int64)
