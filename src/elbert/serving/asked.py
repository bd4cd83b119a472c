"""A request under way."""

from __future__ import annotations

from dataclasses import dataclass

from elbert.serving.rows import Row, Ticket


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
