"""A length schedule: how many of its tokens a row keeps behind each layer. Which ones is the engine's to find out.

Sources: Kim and Cho, "Length-Adaptive Transformer" (arXiv 2010.07003), and Dynamic-TinyBERT (arXiv 2111.09645): one
schedule for all texts, which they find by an evolutionary or a Bayesian search, here by trying few (`schedules`).
TR-BERT (arXiv 2105.11618): a learned score. What TiltedBERT (arXiv 2201.03327) scores by could not be had; the
attention that a token receives is our reading.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.errors import UsageError, did_you_mean
from elbert.exits.parameters import SPEC, Spec

Integers = NDArray[np.int64]

# What tokens are ranked by: the attention they received, or a score learned to foretell what they will receive.
SCORES = ("attention", "learned")

# Tokens a count may name at most.
_MOST = 1_000_000

# What stands for the grid of `schedules`.
AUTO = "auto"

# Where the grid's schedules cut, in shares of the depth, and what is left of a row behind the last cut. Each cut of a
# schedule keeps the same share of what there is, as LAT's smallest model does layer by layer. There are three cuts, all
# in the first half: a cut needs the attention of its layer worked out, and where texts leave early a later one saves
# nothing. None is behind layer 1 where there are layers to spare: its attention says little of what will matter.
_CUTS = (1 / 6, 1 / 3, 1 / 2)
_LEFT = (1 / 2, 1 / 4, 1 / 8)

_ALLOWED = 'an object such as {"3": 0.5, "score": "attention"}, or none (off)'


@dataclass(frozen=True, slots=True)
class TokenSchedule:
    """Behind layer k a row goes on with its best-scoring tokens, the first always among them, in their order.

    Attributes:
        keep: (layer, kept) with layers ascending and 1-based. Up to 1, `kept` is a share of the tokens the row came
            with, rounded up; from 2 on it is a count. Nothing grows with depth.
        score: what tokens are ranked by, one of `SCORES`.
        weights: [M - 1, H] of the learned score, a row behind each layer but the last; None where there are none. Not
            part of `==`.

    Raises:
        UsageError: a value is not allowed.
    """

    keep: tuple[tuple[int, float], ...]
    score: str = SCORES[0]
    weights: NDArray[np.float32] | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check every value."""
        if self.score not in SCORES:
            raise UsageError(f"tokens: score is {reprlib.repr(self.score)}{did_you_mean(str(self.score), SCORES)}")
        if not self.keep:
            raise UsageError("tokens: no layer is named; name one or more, such as 3=0.5")
        before: dict[bool, tuple[int, float]] = {}
        last = 0
        for layer, kept in self.keep:
            if not _is_whole(layer) or layer < 1:
                raise UsageError(
                    f"tokens: {reprlib.repr(layer)} is no layer; allowed: whole numbers of 1 or more, and score"
                )
            if layer == last:
                raise UsageError(f"tokens: layer {layer} is named twice; name it once")
            last = layer
            if not (_is_whole(kept) and 1 <= kept <= _MOST) and not (isinstance(kept, float) and 0 < kept < 1):
                raise UsageError(
                    f"tokens: layer {layer} keeps {reprlib.repr(kept)}; allowed: a share above 0 and up to 1, or a "
                    f"count of 2 to {_MOST:,} tokens"
                )
            at, least = before.get(kept <= 1, (layer, kept))
            if kept > least:
                raise UsageError(
                    f"tokens: layer {layer} keeps {kept:g}, layer {at} before it only {least:g}; what is dropped does "
                    "not come back: let it keep as much or less"
                )
            before[kept <= 1] = (layer, kept)

    @classmethod
    def from_dict(cls, values: Any) -> TokenSchedule:
        """Return the schedule that `to_dict` described; layers in any order.

        Raises:
            UsageError: it is no such object, or a value is not allowed.
        """
        if not isinstance(values, Mapping):
            raise UsageError(f"tokens is {reprlib.repr(values)}; allowed: {_ALLOWED}")
        layers = [(_layer(key), kept) for key, kept in values.items() if key != "score"]
        if all(isinstance(layer, int) for layer, _ in layers):
            layers.sort(key=lambda each: each[0])
        return cls(tuple(layers), values.get("score", SCORES[0]))

    def __str__(self) -> str:
        """Return the schedule as flags name it: `2=0.5 4=16`, with the score where it is not attention."""
        kept = " ".join(f"{layer}={kept:g}" for layer, kept in self.keep)
        return kept if self.score == SCORES[0] else f"{kept} score={self.score}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object: what is kept, by layer, and the score."""
        return {**{str(layer): kept for layer, kept in self.keep}, "score": self.score}

    def check_fits(self, num_layers: int) -> None:
        """Raise UsageError where a layer is named behind which no other comes."""
        last = self.keep[-1][0]
        if last >= num_layers:
            raise UsageError(
                f"tokens: layer {last} is named, and the model has {num_layers}; allowed: 1 to {num_layers - 1}, as "
                "what is kept is for the layers behind"
            )

    def with_weights(self, weights: ArrayLike) -> TokenSchedule:
        """Return the schedule with the weights of its learned score.

        Raises:
            UsageError: tokens are ranked by something else, or these are no [M - 1, H] finite numbers.
        """
        given = np.array(weights, np.float32)
        if self.score != "learned" or given.ndim != 2 or not np.isfinite(given).all():
            raise UsageError(
                f"tokens: score {self.score} was given weights of shape {given.shape}; allowed: [layers - 1, units] "
                "finite numbers for score learned, none for others"
            )
        return dataclasses.replace(self, weights=given)

    def kept(self, lengths: Integers, layer: Integers) -> Integers:
        """Return how many tokens each row has behind a layer, [rows], at least 1.

        Args:
            lengths: [rows] tokens that each came with.
            layer: [rows] layers that each has run; 0 for none yet.
        """
        left = lengths
        for at, kept in self.keep:
            share = np.maximum(np.ceil(lengths * kept - 1e-9), 1).astype(np.int64)  # 0.07 x 100 is a hair above 7
            left = np.where(layer >= at, np.minimum(left, share if kept <= 1 else int(kept)), left)
        return left


def token_layers(schedule: TokenSchedule | None, lengths: Integers, exit_layer: Integers) -> Integers:
    """Return what each text cost, [N]: the tokens of every layer that it ran, added up.

    Depth and length are compared by this: full depth costs `lengths` x M.

    Args:
        schedule: what was kept; None for all.
        lengths: [N] tokens that each came with.
        exit_layer: [N] layers that each ran.
    """
    if schedule is None:
        return lengths * exit_layer
    total = np.zeros_like(lengths)
    for ran in range(int(exit_layer.max(initial=0))):
        total += np.where(ran < exit_layer, schedule.kept(lengths, np.full_like(lengths, ran)), 0)
    return total


def schedules(num_layers: int) -> tuple[TokenSchedule, ...]:
    """Return the few schedules that are tried where none is named, from the longest to the shortest rows.

    Args:
        num_layers: M, at least 2.

    Raises:
        UsageError: there is no layer behind which another comes.
    """
    if num_layers < 2:
        raise UsageError("tokens: the model has 1 layer, behind which none comes that could run on fewer; leave it out")
    layers = sorted({min(max(round(share * num_layers), 1), num_layers - 1) for share in _CUTS})
    return tuple(
        TokenSchedule(
            tuple((layer, float(f"{left ** (cut / len(layers)):.3g}")) for cut, layer in enumerate(layers, 1))
        )
        for left in _LEFT
    )


def asked_schedules(asked: Any, num_layers: int) -> tuple[TokenSchedule, ...]:
    """Return the schedules to try beside all tokens, each once.

    Args:
        asked: None for none, `auto` for the grid of `schedules`, a schedule as such or as its JSON, or several.
        num_layers: M.

    Raises:
        UsageError: it is none of that, or does not fit the model.
    """
    if asked is None:
        return ()
    if asked == AUTO:
        return schedules(num_layers)
    several = asked if isinstance(asked, Sequence) and not isinstance(asked, str) else [asked]
    read = [each if isinstance(each, TokenSchedule) else TokenSchedule.from_dict(each) for each in several]
    for each in read:
        each.check_fits(num_layers)
    return tuple(dict.fromkeys(read))


def schedule(about: str) -> Any:
    """Describe a field of a policy that holds a schedule, given as such or as its JSON; None means off."""

    def read(value: Any) -> TokenSchedule | None:
        return value if value is None or isinstance(value, TokenSchedule) else TokenSchedule.from_dict(value)

    return dataclasses.field(default=None, metadata={SPEC: Spec(about, _ALLOWED, read)})


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0


def _layer(key: Any) -> Any:
    """Return a layer as a number where the key is one."""
    return int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key
