"""Continuous depth-wise batching: rows come, are stepped together at whatever depth they stand, and leave.

The scheduler knows rows, a backend and policies; where rows come from and who waits for them is the caller's business.
Who waits for a place is `waiting`'s, how a text becomes a row `embedding`'s, which rows are stepped together `pools`',
what exits say `asking`'s, who leaves `deciding`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elbert.engine import dropping, skipping
from elbert.engine.asking import Exits
from elbert.engine.backends.backend import Backend
from elbert.engine.deciding import Bools, Said, decide, failure
from elbert.engine.embedding import Embedder
from elbert.engine.forks import check_process
from elbert.engine.layer_zero import LayerZero
from elbert.engine.placement import most_tokens
from elbert.engine.pools import Pools
from elbert.engine.recorder import Watcher
from elbert.engine.requests import Arrival, Cause, Departures, Door, Failure
from elbert.engine.rows.blocks import Integers
from elbert.engine.rows.packed import Rows
from elbert.engine.waiting import Waiting
from elbert.errors import UsageError
from elbert.exits import ExitPolicy
from elbert.modeling.weights import EncoderWeights
from elbert.words import WordModel

# What the scheduler is for. "throughput": texts are embedded in blocks ahead of their places, pools wait until they are
# full or somebody in them has waited long. "latency": texts are embedded for the very next step, and the rows that came
# first are stepped.
Mode: TypeAlias = Literal["throughput", "latency"]

# Texts that may leave at layer 0 before the next step, as a multiple of the rows in flight.
_AT_ONCE = 8

# What leaves in one piece: index, exit layer, logits, probabilities and causes of some rows.
_Piece: TypeAlias = tuple[Integers, Integers, NDArray[np.float32], NDArray[np.float32], tuple[Cause, ...]]


class Scheduler:
    """Holds the rows in flight, steps them, and lets them go; no clock and no timer anywhere.

    Nobody waits for ever and memory is bounded: of rows that wait for their pool to fill, those that came more than
    64 x `batch_size` texts ago are stepped as they are, and of as many places one goes to each priority that waits.
    A row that fails, fails alone and is told by its index. One thread owns a scheduler.

    Args:
        weights: the model; says which layers share their weights.
        backend: runs embed, step and head.
        policy: decides who leaves, of the rows that bring no policy of their own; at the last layer everybody does.
        batch_size: rows stepped together at most, and with distinct layers the rows that make a pool worth a step.
        max_tokens: tokens stepped together at most, and embedded ahead of their places at most, but for a row that
            alone has more; None for `most_tokens` of the backend's device and dtype.
        mode: what to be good at, see `Mode`; no text's answer depends on it.
        recorder: if given, is shown every exit's output.
        words: layer 0, for texts whose policy has a threshold for it, and what it adds to all exits; None where the
            model has none.
        ask_words: False where whoever admits has asked layer 0 already; what it adds is added all the same.
    """

    def __init__(
        self,
        weights: EncoderWeights,
        backend: Backend,
        policy: ExitPolicy,
        *,
        batch_size: int = 32,
        max_tokens: int | None = None,
        mode: Mode = "throughput",
        recorder: Watcher | None = None,
        words: WordModel | None = None,
        ask_words: bool = True,
    ) -> None:
        check_process()
        self._weights = weights
        self._backend = backend
        self._batch_size = batch_size
        self._max_tokens = most_tokens(backend.device, backend.dtype) if max_tokens is None else max_tokens
        self._eager = mode == "latency"
        self._exits = Exits(weights, backend, recorder)
        self._door = Door(weights, dropping.why_all_tokens_stay(weights, backend))
        self._door.check_policy(policy)
        self._here: set[int] = set()  # indices of everybody who was admitted and has not left
        self._hurried: set[int] = set()
        self._embedder = Embedder(weights, backend, policy, words)
        self._zero = LayerZero(words if ask_words else None, policy, weights.problem_type)
        self._waiting = Waiting(batch_size)
        self._staged: Rows | None = None  # embedded together; the first `_moved` of them have found a place
        self._moved = 0
        self._pools = Pools(weights, batch_size, self._max_tokens, eager=self._eager)
        self._admitted = 0
        self._failed: list[Failure] = []  # not told yet

    @property
    def busy(self) -> bool:
        """True while any row is in flight, or one that failed is still to be told."""
        return bool(self._here)

    @property
    def full(self) -> bool:
        """True while enough rows wait for a place, or for the next step to tell what their words said."""
        if self._zero.leaving >= _AT_ONCE * self._batch_size:
            return True
        staged = self._staged.count - self._moved if self._staged else 0
        return len(self._waiting) + staged >= self._batch_size

    def admit(self, arrival: Arrival) -> None:
        """Take one row in: it is embedded with its fellows, and steps as soon as there is a place.

        Raises:
            UsageError: the model can't read it, see `Door`, or a row of its index is here.
        """
        self._door.check(arrival)
        if arrival.index in self._here:
            raise UsageError(f"text {arrival.index + 1} is here already; allowed: one row of an index at a time")
        self._here.add(arrival.index)
        if not self._zero.add(arrival):
            self._waiting.add(arrival)
        elif self._zero.fresh >= self._batch_size:
            self._sift()

    def cancel(self, index: int) -> bool:
        """Forget the row that was admitted as `index`, and free its place at once; False where it is not here."""
        if index not in self._here or any(each.index == index for each in self._failed):
            return False
        self._sift()
        if not self._zero.remove(index) and not self._waiting.remove(index) and not self._unstage(index):
            self._pools.forget(index)
        self._gone((index,))
        return True

    def hurry(self, index: int) -> bool:
        """Let the row that was admitted as `index` leave at its next exit; False where it is not here.

        One that waits for a place goes before all others that do, and leaves after its first layer.
        """
        if index not in self._here:
            return False
        if index not in self._hurried:
            self._sift()
            self._hurried.add(index)
            self._waiting.hurry(index)
        return True

    @torch.inference_mode()
    def step(self, *, draining: bool = False) -> Departures | None:
        """Run one layer on one pool of rows and return who left, with an answer or without, or None.

        What is raised, such as KeyboardInterrupt, loses nobody: all rows are as they were. An exception of the backend
        or of a policy is not raised: the rows it is about are told as failed.

        Args:
            draining: for throughput: True when no more rows will come, so that pools that are not full are stepped too.
        """
        self._sift()
        self._fill_places()
        pool = self._pools.choose(self._admitted, draining=draining, hurried=self._hurried)
        before, told = dict(self._pools.held), len(self._failed)
        try:
            pieces = [] if pool is None else self._run(self._pools.take(pool), self._pools.first_depth(pool))
            pieces += self._said_by_words()
            departures = self._departures(pieces) if pieces or self._failed else None
        except BaseException:
            self._pools.held = before
            del self._failed[told:]
            raise
        if departures is not None:
            self._failed = []
            self._zero.clear()
            self._gone(departures.index.tolist())
            self._gone([each.index for each in departures.failed])
        return departures

    def _run(self, rows: Rows, depth: int) -> list[_Piece]:
        """Run layer `depth` on rows, bring those that go on to their next pools, and return the others."""
        pieces = []
        for stepped, ahead, hurried, said in self._stepped(rows, depth):
            if said is None:
                self._pools.put(stepped.at(ahead))
                continue
            layers = self._weights.num_layers
            ended = None if ahead is None else skipping.ended_by_policy(stepped, ahead, layers)
            verdict = decide(stepped, said, layers, hurried, ended)
            self._failed += verdict.failed
            if len(verdict.stays):
                stay = stepped.going_on(verdict.stays, verdict.memory)
                self._pools.put(stay.at(None if ahead is None else ahead[verdict.stays]))
            if len(verdict.gone):
                gone, at, output = verdict.gone, said.places(verdict.gone), said.output
                answers = (output.logits[at], output.probs[at])
                pieces.append((stepped.index[gone], stepped.ran[gone], *answers, verdict.cause))
        return pieces

    def _stepped(self, rows: Rows, depth: int) -> list[tuple[Rows, Integers | None, Bools | None, Said | None]]:
        """Return rows after a layer, where they go on, who of them is in a hurry, and what their exits said.

        Where the backend raises, halves are tried, down to the rows that it raises for: those are told as failed.
        """
        try:
            hidden, layout = dropping.step(self._backend, rows, depth)
            stepped = rows.stepped(hidden, layout)
            ahead = skipping.going_on_at(stepped)
            if ahead is not None:
                stepped = skipping.leaving_in_time(stepped, ahead, self._weights.num_layers)
            hurried = np.isin(rows.index, list(self._hurried)) if self._hurried else None
            return [(stepped, ahead, hurried, self._exits.ask(stepped, hurried))]
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not reach the other rows
            if rows.count == 1:
                index = int(rows.index[0])
                self._failed.append(Failure(index, failure(index, f"layer {depth + 1}", error)))
                return []
        half = rows.count // 2
        parts = (np.arange(half), np.arange(half, rows.count))
        return [each for part in parts for each in self._stepped(rows.keep(part), depth)]

    def _departures(self, pieces: Sequence[_Piece]) -> Departures:
        """Return what left in one piece or several, and who failed."""
        if not pieces:
            none = torch.zeros(0, dtype=torch.int64)
            nothing = torch.zeros(0, self._weights.num_labels)
            return Departures(none, none, nothing, nothing, (), tuple(self._failed))
        index, exit_layer, logits, probs, causes = zip(*pieces, strict=True)
        return Departures(
            index=_joined(index),
            exit_layer=_joined(exit_layer),
            logits=_joined(logits),
            probs=_joined(probs),
            cause=tuple(chain.from_iterable(causes)),
            failed=tuple(self._failed),
        )

    def _sift(self) -> None:
        """Look at the words of the texts that came, and let the others wait for a place."""
        for arrival in self._zero.sift():
            self._waiting.add(arrival)

    def _said_by_words(self) -> list[_Piece]:
        """Return the texts that leave at layer 0."""
        if not self._zero.leaving:
            return []
        index, logits, probs = self._zero.answers()
        fired: Cause = "rule"
        return [(index, np.zeros_like(index), logits, probs, (fired,) * len(index))]

    def _fill_places(self) -> None:
        """Move rows that wait into the first pool, as many as fit."""
        while self._staged is not None or len(self._waiting):
            if self._staged is None and not self._stage():
                return
            if self._staged is None:
                continue  # whoever was taken has failed
            staged, start = self._staged, self._moved
            end = start + self._pools.room(staged.layout.lengths[start:])
            if end == start:
                return
            self._pools.enter(staged, start, end)
            self._staged, self._moved = (staged, end) if end < staged.count else (None, 0)

    def _stage(self) -> bool:
        """Embed texts that wait: a block, or for latency those that the next step has places for; False for none."""
        rows, tokens = self._pools.free() if self._eager else (self._batch_size, self._max_tokens)
        if rows <= 0 or (tokens <= 0 and self._eager):
            return False
        taken = self._waiting.take(rows, tokens)
        try:
            blocks, failed = self._embedder.embed(taken, self._admitted)
        except BaseException:
            self._waiting.restore(taken)
            raise
        self._failed += failed
        self._admitted += len(taken)
        for block in blocks:
            self._staged = block if self._staged is None else self._staged.join(block)
        return True

    def _unstage(self, index: int) -> bool:
        """Forget a row that was embedded and waits for a place; False where it isn't one."""
        if self._staged is None or index not in self._staged.index[self._moved :]:
            return False
        left = np.arange(self._moved, self._staged.count)
        left = left[self._staged.index[left] != index]
        self._staged, self._moved = (self._staged.keep(left) if len(left) else None), 0
        return True

    def _gone(self, indices: Sequence[int]) -> None:
        """Forget these indices; they may come again."""
        self._here.difference_update(indices)
        if self._hurried:
            self._hurried.difference_update(indices)


def _joined(parts: Sequence[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts))
