"""The linear model of layer 0: from token ids to logits, some tens of microseconds a text, no loop over texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from elbert.errors import ModelError
from elbert.words.grams import BUCKETS, Integers, bounds_of, gram_buckets, grams_of, packed

Floats = NDArray[np.float32]

# What the file may weigh: half a bundled encoder.
MOST_BYTES = 8_000_000

_SHAPES = {"buckets": 1, "idf": 1, "weight": 2, "bias": 1}
# Saved where they are not 0, so that a model without them is what it always was.
_AT_EXITS, _REACH = "at_exits", "reach"


@dataclass(frozen=True, slots=True, eq=False)
class WordModel:
    """Logits of hashed n-grams: `Σ_g v_g W_g + b`, with `v_g = (1 + ln count_g) idf_g`, scaled to length 1 per text.

    The temperature that calibrates its probabilities is part of `weight` and `bias`.

    Attributes:
        buckets: [K] int32, the buckets it knows, ascending.
        idf: [K] fp16, inverse document frequency of each.
        weight: [K, C] fp16.
        bias: [C] fp32.
        at_exits: how much of its logits is added to those of every exit; 0 for nothing.
        reach: tokens it reads of a text, where the encoder reads fewer; 0 for as many as the encoder.
    """

    buckets: NDArray[np.int32]
    idf: NDArray[np.float16]
    weight: NDArray[np.float16]
    bias: Floats
    at_exits: float = 0.0
    reach: int = 0
    _place: NDArray[np.int32] = field(init=False, repr=False)  # of each bucket; K where it is unknown
    _idf: Floats = field(init=False, repr=False)
    _weight: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Lay out the tables that lookups need.

        Raises:
            ModelError: the arrays do not belong together, or hold what is no number.
        """
        self._check()
        place = np.full(BUCKETS, len(self.buckets), np.int32)
        place[self.buckets] = np.arange(len(self.buckets), dtype=np.int32)
        object.__setattr__(self, "_place", place)
        object.__setattr__(self, "_idf", self.idf.astype(np.float32))
        object.__setattr__(self, "_weight", self.weight.astype(np.float32))

    @property
    def num_labels(self) -> int:
        """C, the classes it was fitted for."""
        return len(self.bias)

    def asked(self, threshold: float | None) -> bool:
        """Tell whether it is looked at: a policy has a threshold for it, or it is added to every exit."""
        return threshold is not None or self.at_exits > 0

    def logits(self, ids: Integers, lengths: Integers) -> Floats:
        """Return [N, C]; a text without any known n-gram gets the bias.

        Args:
            ids: [T] token ids of all texts one behind the other, special tokens included.
            lengths: [N] tokens of each text.
        """
        grams = grams_of(ids, lengths)
        place = self._place[grams.bucket]
        known = np.flatnonzero(place < len(self.buckets))
        place, text = place[known], grams.text[known]
        value = (1 + np.log(grams.count[known], dtype=np.float32)) * self._idf[place]
        logits = np.empty((len(lengths), len(self.bias)), np.float32)
        logits[:] = self.bias
        if not len(known):
            return logits
        starts = bounds_of(text)[:-1]
        length = np.sqrt(np.add.reduceat(value * value, starts))
        summed = np.add.reduceat(value[:, None] * self._weight[place], starts, axis=0)
        logits[text[starts]] += summed / length[:, None]
        return logits

    def weighed(self, ids: Sequence[int]) -> tuple[Integers, Integers, Floats]:
        """Return what each known gram of one text adds to the logits; with `bias` they add up to them.

        A gram that stands there several times is told once, where it stands first.

        Args:
            ids: [T] token ids, special tokens included.

        Returns:
            (first token [G], tokens [G], added [G, C]).
        """
        _, first, bucket = gram_buckets(*packed([ids]))
        size = 1 + np.cumsum(np.diff(first, prepend=-1) <= 0)  # grams of one token come first, then those of two
        bucket, where, count = np.unique(bucket, return_index=True, return_counts=True)
        place = self._place[bucket]
        known = place < len(self.buckets)
        value = (1 + np.log(count[known], dtype=np.float32)) * self._idf[place[known]]
        length = np.sqrt((value * value).sum()) or 1.0
        return first[where[known]], size[where[known]], (value / length)[:, None] * self._weight[place[known]]

    def added(self, texts: Sequence[Sequence[int]]) -> Floats | None:
        """Return what is added to every exit's logits of tokenised texts, [N, C]; None for nothing.

        Args:
            texts: token ids of each of N texts, as `read_by_words` gives them.
        """
        if not self.at_exits or not len(texts):
            return None
        return np.float32(self.at_exits) * self.logits(*packed(texts))

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays saved as `words.safetensors`."""
        more = {_AT_EXITS: np.array([self.at_exits], np.float32), _REACH: np.array([self.reach], np.int32)}
        return {
            **{name: getattr(self, name) for name in _SHAPES},
            **{name: values for name, values in more.items() if values.any()},
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[np.generic]]) -> WordModel:
        """Return the model that `tensors` described.

        Raises:
            ModelError: an array is missing, unknown, or of another shape than its fellows ask for.
        """
        share, reach = (tensors.get(name, np.zeros(1)) for name in (_AT_EXITS, _REACH))
        if set(tensors) - {_AT_EXITS, _REACH} != set(_SHAPES) or not share.shape == reach.shape == (1,):
            given = ", ".join(sorted(tensors)) or "nothing"
            raise ModelError(f"words.safetensors holds {given}; it has to hold {', '.join(_SHAPES)}: fit it again")
        return cls(
            tensors["buckets"].astype(np.int32),
            tensors["idf"].astype(np.float16),
            tensors["weight"].astype(np.float16),
            tensors["bias"].astype(np.float32),
            float(share[0]),
            int(reach[0]) if np.isfinite(reach[0]) else -1,
        )

    def _check(self) -> None:
        shapes = {name: getattr(self, name).shape for name in _SHAPES}
        kinds = len(self.buckets), len(self.bias)
        wanted = {"buckets": kinds[:1], "idf": kinds[:1], "weight": kinds, "bias": kinds[1:]}
        if shapes != wanted:
            raise ModelError(f"the word model's arrays have shapes {shapes}; allowed: {wanted}: fit it again")
        numbers = all(np.isfinite(getattr(self, name)).all() for name in ("idf", "weight", "bias", _AT_EXITS))
        ordered = kinds[0] == 0 or (
            self.buckets[0] >= 0 and self.buckets[-1] < BUCKETS and bool((np.diff(self.buckets) > 0).all())
        )
        if not (numbers and ordered and self.reach >= 0):
            raise ModelError("the word model holds what is no number, or buckets out of order: fit it again")
