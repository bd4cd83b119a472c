"""A text on its way through a server, the request it came with, and the ticket that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from elbert.engine.requests import Arrival, Cause
from elbert.serving.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a text.

    Attributes:
        logits: [C].
        probs: [C] softmax, sigmoid or raw value.
        exit_layer: layers it ran.
        cause: why it left.
        queued: seconds it waited for a place.
        computed: seconds from then until it left.
        member: which model of a cascade answered, 1 the first; None where there is but one.
        cost: in layers of the cascade's last model; None likewise.
    """

    logits: list[float]
    probs: list[float]
    exit_layer: int
    cause: Cause
    queued: float
    computed: float
    member: int | None = None
    cost: float | None = None


Outcome: TypeAlias = Answer | Refusal


class Ticket:
    """What one request waits with: as many places as it has texts. Lives in the event loop alone.

    Args:
        places: how many.

    Attributes:
        loop: the event loop it lives in.
        outcomes: of each place; None where it is still to come.
        done: a future that is through when all have come.
    """

    def __init__(self, places: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.outcomes: list[Outcome | None] = [None] * places
        self.done: asyncio.Future[None] = self.loop.create_future()
        self._left = places

    def settle(self, place: int, outcome: Outcome) -> None:
        """Note what became of one text."""
        self.outcomes[place] = outcome
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class Row:
    """One tokenised text of a request.

    Attributes:
        arrival: as the scheduler takes it; its index is its own among all of the model's.
        place: among the texts of its request.
        ticket: of the request.
        deadline: by the worker's clock, when it has to leave the model; None for never.
        level: the number of its speed level; None where the request named a policy that is none.
        policy_name: of the policy it runs under, for people.
        queued_at: by the worker's clock, when it came.
        begun_at: likewise, when it was admitted.
        outcome: what became of it.
        key: number of the key it came with; None for the server's own texts.
        early: probabilities of the early answer that was sent, where the text runs on only to compare; else None.
    """

    arrival: Arrival
    place: int
    ticket: Ticket
    deadline: float | None = None
    level: int | None = None
    policy_name: str = ""
    queued_at: float = 0.0
    begun_at: float = 0.0
    outcome: Outcome | None = None
    key: int | None = None
    early: list[float] | None = None

    @property
    def index(self) -> int:
        """Its number among all texts of the model."""
        return self.arrival.index


def settle(rows: Iterable[Row]) -> None:
    """Tell each row's outcome to its ticket; called in the event loop."""
    for row in rows:
        if row.outcome is not None:
            row.ticket.settle(row.place, row.outcome)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request under way.

    Attributes:
        ticket: to wait with.
        rows: its texts, in order.
        truncated: of each, whether its end was cut off.
        tokenise_seconds: what tokenising took.
    """

    ticket: Ticket
    rows: list[Row]
    truncated: list[bool]
    tokenise_seconds: float

    @property
    def tokens(self) -> int:
        """Tokens of all its texts."""
        return sum(len(row.arrival.ids) for row in self.rows)
