"""What goes into an engine and what comes out of it, whatever runs in between; nothing is let in unchecked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, TypeAlias

from torch import Tensor

from elbert.errors import ElbertError, NotFiniteError, UsageError
from elbert.exits import ExitPolicy
from elbert.modeling.weights import EncoderWeights

# Why a row left: its policy's rule fired, the model has no more layers, somebody hurried it, or it came to the last
# layer that its arrival allowed.
Cause: TypeAlias = Literal["rule", "last_layer", "hurried", "budget"]


@dataclass(frozen=True)
class Arrival:
    """One tokenised text on its way in.

    Attributes:
        index: the caller's number, given back when the row leaves.
        ids: token ids, special tokens included; at least one.
        token_types: segment ids, one beside each of `ids`; None means all zero.
        policy: who decides where it leaves; None for the scheduler's own. Rows are decided on together where they have
            the very same policy object.
        last_layer: where it leaves at the latest, 1 .. M; None for M.
        priority: higher ones take free places first; among equals whoever came first.
        words: token ids that layer 0 reads, `ids` and what follows them in a text that is longer; None for `ids`.
    """

    index: int
    ids: list[int]
    token_types: list[int] | None = None
    policy: ExitPolicy | None = None
    last_layer: int | None = None
    priority: int = 0
    words: list[int] | None = None

    @property
    def read_by_words(self) -> list[int]:
        """Token ids that layer 0 reads."""
        return self.words or self.ids

    @property
    def common(self) -> bool:
        """True where nothing but its tokens is its own, so that it runs as its neighbours do."""
        return self.policy is None and self.last_layer is None and self.priority == 0


@dataclass(frozen=True)
class Failure:
    """A row that was given up, and nobody else with it.

    Attributes:
        index: the caller's number.
        error: what happened, in one line that names the text; its `__cause__` is what was raised.
    """

    index: int
    error: ElbertError

    @property
    def reason(self) -> str:
        """The one line."""
        return str(self.error)


@dataclass(frozen=True)
class Departures:
    """Rows that left after one step, on the CPU.

    Attributes:
        index: [rows] the caller's numbers.
        exit_layer: [rows] layers each row ran, 1-based, without those it skipped; 0 where its words sufficed.
        logits: [rows, C] fp32.
        probs: [rows, C] fp32 softmax, sigmoid or raw value.
        cause: why each of them left, see `Cause`.
        failed: rows that left without an answer.
    """

    index: Tensor
    exit_layer: Tensor
    logits: Tensor
    probs: Tensor
    cause: tuple[Cause, ...]
    failed: tuple[Failure, ...] = ()


def raise_failed(failed: Sequence[Failure]) -> None:
    """Raise what the first of them says, where there is any; of outputs that are not finite, with all such texts.

    Raises:
        ElbertError: a row failed.
    """
    if not failed:
        return
    first = failed[0].error
    if isinstance(first, NotFiniteError):
        indices = [each.index for each in failed if isinstance(each.error, NotFiniteError)]
        raise NotFiniteError(f"text {indices[0] + 1}", first.layer, indices)
    raise first


class Door:
    """Checks a text whole before it comes in, so that nothing of it can fail, or reach a neighbour, later.

    Args:
        weights: the model.
        all_stay: why no token of a row can be dropped here; None where it can.
    """

    def __init__(self, weights: EncoderWeights, all_stay: str | None = None) -> None:
        table = weights.embedding.token_type
        self._vocabulary = weights.embedding.word.shape[0]
        self._types = None if table is None else table.shape[0]
        self._most = weights.max_length
        self._layers = weights.num_layers
        self._hidden_size = weights.hidden_size
        self._all_stay = all_stay

    def check(self, arrival: Arrival) -> None:
        """Let a text in.

        Raises:
            UsageError: it has no token or more than the model reads, a token or token type that the model has not,
                token types of another length, or a policy, a last layer or a priority that is none.
        """
        text, tokens = f"text {arrival.index + 1}", len(arrival.ids)
        if not 1 <= tokens <= self._most:
            mend = "cut it off" if tokens else "the tokenizer has to add the special tokens"
            raise UsageError(f"{text} has {tokens} tokens; allowed: 1 to {self._most}: {mend}")
        _within(arrival.ids, self._vocabulary, f"{text} has the token id")
        if arrival.token_types is not None:
            if len(arrival.token_types) != tokens:
                types = len(arrival.token_types)
                raise UsageError(f"{text} has {types} token types; allowed: {tokens}, one per token")
            if self._types is not None:
                _within(arrival.token_types, self._types, f"{text} has the token type")
        if arrival.policy is not None and not isinstance(arrival.policy, ExitPolicy):
            raise UsageError(f"{text} has the policy {arrival.policy!r}; allowed: an ExitPolicy, see elbert.exits.make")
        if arrival.policy is not None:
            self.check_policy(arrival.policy)
        if arrival.last_layer is not None and not _whole(arrival.last_layer, 1, self._layers):
            raise UsageError(f"{text} has the last layer {arrival.last_layer!r}; allowed: 1 to {self._layers}, or None")
        if not _whole(arrival.priority, arrival.priority, arrival.priority):
            raise UsageError(f"{text} has the priority {arrival.priority!r}; allowed: a whole number")

    def check_policy(self, policy: ExitPolicy) -> None:
        """Let a policy in.

        Raises:
            UsageError: it drops tokens behind a layer that the model has not, or where that can't be done; or its gates
                have no weights, or those of another model.
        """
        if policy.gates is not None:
            policy.gates.check_fits(self._layers, self._hidden_size)
        if policy.tokens is None:
            return
        policy.tokens.check_fits(self._layers)
        if policy.tokens.score == "learned" and policy.tokens.weights is None:
            raise UsageError(
                f"exit policy {policy.name!r} ranks tokens by a learned score that was never fitted: call "
                "Classifier.fit_tokens, or take score attention"
            )
        if self._all_stay is not None:
            raise UsageError(f"exit policy {policy.name!r} drops tokens, but {self._all_stay}, or leave tokens away")


def _whole(value: object, low: int, high: int) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and low <= int(value) <= high


def _within(numbers: Sequence[int], end: int, what: str) -> None:
    """Raise UsageError unless all are whole numbers from 0 up to `end`, exclusive."""
    lowest, highest = min(numbers), max(numbers)
    if not 0 <= lowest <= highest < end:
        outside = lowest if lowest < 0 else highest
        raise UsageError(f"{what} {outside}; allowed: 0 to {end - 1}: is the tokenizer the model's own?")
