"""What goes into an engine and what comes out of it, whatever runs in between."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from elbert.errors import UsageError


@dataclass(frozen=True)
class Arrival:
    """One tokenised text on its way in.

    Attributes:
        index: the caller's number, given back when the row leaves.
        ids: token ids, special tokens included; at least one.
        token_types: segment ids beside `ids`; None means all zero.
    """

    index: int
    ids: list[int]
    token_types: list[int] | None = None


def check_arrival(arrival: Arrival, most: int) -> None:
    """Raise UsageError where a text has no token, or more than the `most` that the model reads."""
    tokens = len(arrival.ids)
    if not 1 <= tokens <= most:
        mend = "cut it off" if tokens else "the tokenizer has to add the special tokens"
        raise UsageError(f"text {arrival.index + 1} has {tokens} tokens; allowed: 1 to {most}: {mend}")


@dataclass(frozen=True)
class Departures:
    """Rows that left after one step, on the CPU.

    Attributes:
        index: [rows] the caller's numbers.
        exit_layer: [rows] layers each row ran, 1-based.
        logits: [rows, C] fp32.
        probs: [rows, C] fp32 softmax, sigmoid or raw value.
    """

    index: Tensor
    exit_layer: Tensor
    logits: Tensor
    probs: Tensor
