"""A fixed number of rows of one padded length on the device, and the round they go through again and again.

A round is a layer on all rows, the exits of all rows, and new texts for the rows that left. Rows nobody needs are run
too and their answers thrown away, so no shape, no address and no choice depends on a value: a round can be captured.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from elbert.engine.device.dense import DenseModel
from elbert.engine.device.launch import Action, Launcher
from elbert.engine.device.ledger import Ledger
from elbert.engine.device.rule import Rule
from elbert.exits import State


class Lane:
    """The rows in flight of one shape.

    Args:
        model: what computes.
        ledger: where texts come from and answers go; none may be waiting to be started while a lane is made.
        rule: who leaves.
        launcher: captures the round.
        slots: rows.
        length: places of a row.
        typed: whether some text may have a token type other than the first.

    Attributes:
        slots: rows.
        length: places of a row.
        run_round: takes all rows one round further.
    """

    def __init__(
        self,
        model: DenseModel,
        ledger: Ledger,
        rule: Rule,
        launcher: Launcher,
        *,
        slots: int,
        length: int,
        typed: bool,
    ) -> None:
        self.slots, self.length = slots, length
        self._model, self._ledger, self._rule = model, ledger, rule
        self._typed = typed and model.typed
        device = model.device
        self._hidden = torch.zeros(slots, length, model.hidden_size, dtype=model.dtype, device=device)
        self._number = torch.full((slots,), ledger.idle, dtype=torch.int64, device=device)
        self._layer = torch.zeros(slots, dtype=torch.int64, device=device)  # layers run
        self._fresh = rule.start(slots, device)
        self._state = {name: value.clone() for name, value in self._fresh.items()}
        self._at = torch.arange(length, device=device)
        self._positions = model.position_embeddings(length, typed=self._typed)
        self._zero = torch.zeros((), dtype=torch.int64, device=device)
        self._bias = torch.zeros(slots, length, dtype=model.dtype, device=device)  # added to attention scores
        self.run_round: Action = launcher.prepare(self._round)

    def take(self, other: Lane) -> None:
        """Take the rows in flight of another lane, which has no more of them than this one, free, has places."""
        rows = torch.argsort((other._number == self._ledger.idle).int(), stable=True)[: self.slots]
        self.clear()
        count, length = len(rows), min(self.length, other.length)
        self._number[:count] = other._number[rows]
        self._layer[:count] = other._layer[rows]
        self._hidden[:count, :length] = other._hidden[rows, :length]
        for name, values in other._state.items():
            self._state[name][:count] = values[rows]
        other.clear()

    def clear(self) -> None:
        """Forget all rows, and what they held: a masked place adds 0 times it, which is not 0 for NaN."""
        self._number.fill_(self._ledger.idle)
        self._hidden.zero_()

    def admit(self) -> None:
        """Start as many waiting texts as there are free rows."""
        self._admit(self._hidden, self._number, self._layer, self._state)

    def _round(self) -> None:
        hidden = self._hidden
        for _ in range(self._rule.at_once):
            hidden = self._model.step(hidden, self._bias[:, None, None, :])
        layer = (self._layer + self._rule.at_once).clamp(max=self._rule.layers)  # of idle slots, which run on
        logits, pooled = self._model.head(hidden[:, 0], layer)
        leave, state = self._rule.decide(self._state, logits, pooled, layer)
        leave = leave & (self._number != self._ledger.idle)
        self._ledger.write(self._number, layer, logits, leave)
        self._admit(hidden, torch.where(leave, self._ledger.idle, self._number), layer, state)

    def _admit(self, hidden: Tensor, number: Tensor, layer: Tensor, state: State) -> None:
        """Write the rows as given to this lane's buffers, with the next texts in those that are free."""
        ledger = self._ledger
        free = number == ledger.idle
        wanted = free.cumsum(0) - 1 + ledger.counters[0]
        takes = free & (wanted < ledger.limit)
        ledger.counters[0].add_(takes.sum())
        number = torch.where(takes, wanted, number)
        self._number.copy_(number)
        inside = self._at < ledger.lengths[number][:, None]
        self._bias.fill_(-math.inf).masked_fill_(inside, 0.0)
        torch.where(takes[:, None, None], self._arriving(number, inside), hidden, out=self._hidden)
        torch.where(takes, self._zero, layer, out=self._layer)
        for name, fresh in self._fresh.items():
            over_rows = takes.view(-1, *[1] * (fresh.dim() - 1))
            torch.where(over_rows, fresh, state[name], out=self._state[name])

    def _arriving(self, number: Tensor, inside: Tensor) -> Tensor:
        """Return [slots, length, H], the texts of these numbers before their first layer.

        Their padding is their own first token: behind a text lies the next one or one of an earlier window, and a NaN
        of theirs would get past the mask.

        Args:
            number: [slots] texts, or `idle`.
            inside: [slots, length] bool, the places that hold a token.
        """
        starts = self._ledger.starts[number][:, None]
        places = torch.where(inside, starts + self._at, starts)
        ids = self._ledger.tokens.take(places)
        types = self._ledger.types.take(places).int() if self._typed else None
        return self._model.embed(ids, types, self._positions)
