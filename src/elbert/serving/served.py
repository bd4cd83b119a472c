"""One model that is served: its classifier, the thread that runs it, and the books of what is under way.

Everything here but what the worker runs happens in the event loop, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from elbert.classifier import Classifier
from elbert.data import Text
from elbert.engine.scheduler import Scheduler
from elbert.exits import ExitPolicy, make
from elbert.results import Trace
from elbert.serving.books import Books
from elbert.serving.choices import Choices, Wishes
from elbert.serving.delays import Delays
from elbert.serving.door import Door
from elbert.serving.ladder import Ladder, Pressure
from elbert.serving.learning import Learning
from elbert.serving.metrics import Metrics
from elbert.serving.present import Present
from elbert.serving.refusals import Refusal, cancelled, too_large
from elbert.serving.rows import Answer, Asked, Row, Ticket, settle
from elbert.serving.settings import ServeSettings
from elbert.serving.tokeniser import Tokeniser
from elbert.serving.worker import Worker

_log = logging.getLogger("elbert.serving")

_FULL = make("full")

# Seconds between two looks at the worker.
_LOOK = 1.0

# One place is kept for rows in a hurry for each so many others, or they would wait until somebody leaves.
_KEPT = 4


class ServedModel:
    """A model under its name.

    Args:
        name: that requests call it by.
        classifier: what answers.
        settings: the server's.
        metrics: likewise.
        delays: of the event loop; its clock is the model's too.

    Attributes:
        ladder: its speed levels.
        books: what is counted of its texts.
        learning: what its policies learn from them.
        warm: it has answered once.
    """

    def __init__(
        self,
        name: str,
        classifier: Classifier,
        settings: ServeSettings,
        metrics: Metrics,
        delays: Delays | None = None,
    ) -> None:
        self.name = name
        self.classifier = classifier
        self.ladder = Ladder.of(classifier)
        self.warm = False
        self._settings = settings
        self._metrics = metrics
        self._delays = delays or Delays()
        self._numbers = itertools.count()
        folder = None if settings.policy_state is None else Path(settings.policy_state) / name
        self.learning = Learning(classifier, folder)
        self._tokeniser = Tokeniser(classifier, settings.payload_limit)
        self._worker = self._new_worker()
        self._keeper: asyncio.Task[None] | None = None
        self._door = Door(classifier)
        fastest = self.ladder.usual if settings.fastest_level is None else self.ladder.number(settings.fastest_level)
        self._pressure = Pressure(self.ladder.usual, fastest, settings.max_batch_requests, self._worker.clock)
        self._choices = Choices(classifier, self.ladder)
        self.books = Books(name, classifier, self.ladder, settings, metrics, self._worker.clock)
        self._tracing = asyncio.Lock()
        self._asking = Present()

    @property
    def healthy(self) -> bool:
        """True while it is warm and its worker answers."""
        return self.warm and self._worker.healthy

    @property
    def rows(self) -> int:
        """Texts that wait or run."""
        return self.books.rows

    @property
    def drifting(self) -> set[str]:
        """Names of the policies whose early answers agree too seldom with full depth."""
        return self.books.feedback.drifting

    def save(self) -> None:
        """Keep what its policies have learnt."""
        self.learning.save()

    async def warm_up(self) -> None:
        """Answer a few texts of several lengths, so that the first request finds everything laid out.

        Raises:
            Refusal: the model answers none of them.
        """
        full = Wishes(policy={"name": "full"}, truncate=True)
        for count in (1, self._settings.max_batch_requests):
            asked = await self.ask(["warm " * (1 + place) for place in range(count)], full)
            await asked.ticket.done
            refusals = [outcome for outcome in asked.ticket.outcomes if isinstance(outcome, Refusal)]
            if len(refusals) == count:
                try:
                    raise refusals[0]
                finally:
                    del asked, refusals  # it holds this frame, which would hold it
        self.warm = True
        self._keeper = asyncio.create_task(self._keep())

    async def ask(
        self, texts: Sequence[Text], wishes: Wishes, key: int | None = None, received: float | None = None
    ) -> Asked:
        """Tokenise texts and send them on their way.

        Args:
            texts: one request's.
            wishes: how to answer them.
            key: number of the key they came with; None for the server's own.
            received: when the request was there whole, by the model's clock; None for now.

        Raises:
            UsageError: something is no text, or there is no such policy or level.
            Refusal: a text is too long, the queue is full, the deadline cannot be kept, the key's layers are spent, or
                the worker has ended.
        """
        with self._asking:
            return await self._ask(texts, wishes, key, received)

    async def _ask(self, texts: Sequence[Text], wishes: Wishes, key: int | None, received: float | None) -> Asked:
        budget = self.books.budgets.of(key)
        budget.check()
        begun = time.perf_counter()
        allowed = wishes.max_latency
        deadline = None if allowed is None else self._delays.deadline(received, allowed)
        policy, policy_name, level = self._chosen(wishes)
        if policy.words is None:  # else they may all leave at layer 0, whoever waits
            self.books.check_room(0)
            self._worker.check_deadline(deadline, self.books.rows)
        seconds = None if deadline is None else max(deadline - self._delays.clock(), 0.0)
        arrivals, truncated = await self._tokeniser.read(texts, seconds)
        if not (self._settings.auto_truncate if wishes.truncate is None else wishes.truncate) and any(truncated):
            raise too_large(
                f"text {truncated.index(True) + 1} has more than {self.classifier.max_length} tokens; allowed: at most "
                "that many: shorten it, or send truncate true to have its end cut off"
            )
        took = time.perf_counter() - begun
        self.books.tokenised(took)
        arrivals = [replace(arrival, index=next(self._numbers), policy=policy) for arrival in arrivals]
        by_words = self._door.answers(arrivals)
        tokens = sum(len(arrival.ids) for arrival in arrivals if arrival.index not in by_words)
        if tokens:
            self.books.check_room(tokens)
            self._worker.check_deadline(deadline, self.books.rows)
        ceilings = (wishes.max_layers, self._settings.max_layers, self.classifier.num_layers)
        last = min(ceiling for ceiling in ceilings if ceiling is not None)
        ticket = Ticket(len(arrivals))
        rows = [
            Row(replace(arrival, last_layer=budget.ceiling(last)), place, ticket, deadline, level, policy_name, key=key)
            for place, arrival in enumerate(arrivals)
        ]
        self._send(rows, by_words)
        return Asked(ticket, rows, truncated, took)

    def _send(self, rows: Sequence[Row], by_words: Mapping[int, Answer]) -> None:
        """Give rows to the worker, but for those that have their answer already."""
        rest = [row for row in rows if row.index not in by_words]
        if rest:
            self._worker.submit(rest)
        self.books.count(len(rows), sum(len(row.arrival.ids) for row in rows))
        answered = [row for row in rows if row.index in by_words]
        for row in answered:
            row.outcome = by_words[row.index]
        self._settle(answered)

    def cancel(self, asked: Asked) -> None:
        """Stop computing what nobody waits for any more."""
        left = [row for row in asked.rows if asked.ticket.outcomes[row.place] is None]
        self._worker.cancel(left)
        for row in left:
            asked.ticket.outcomes[row.place] = cancelled()
            self.books.count(-1, -len(row.arrival.ids))

    async def trace(self, text: Text, wishes: Wishes, key: int | None = None) -> Trace:
        """Show one text layer by layer; one after the other, so that rows are stepped between two of them.

        Raises:
            ElbertError: there is no such policy or level, something is no text, or the model cannot be traced.
            Refusal: the key's layers are spent, or the text cannot be computed.
        """
        budget = self.books.budgets.of(key)
        budget.check()
        policy, _, _ = self._chosen(wishes)
        with self._asking:
            reading = await self._tokeniser.read_for_trace(text)
            budget.spend(self.classifier.num_layers)
            async with self._tracing:
                run = partial(self.classifier.traced, reading, policy)
                return cast(Trace, await asyncio.wrap_future(self._worker.call(run)))

    async def close(self) -> None:
        """Let everything under way be answered, then end the worker, and keep what the policies learnt."""
        await self._asking.gone()
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None  # it ends with an error that holds the model
        await asyncio.to_thread(self._worker.stop)
        self.learning.save()
        await self._tokeniser.close()

    async def _keep(self) -> None:
        """Put a new worker in the place of one that has ended, as soon as that can be done."""
        while True:
            await asyncio.sleep(_LOOK)
            if not self._worker.ended:
                continue
            try:
                self._worker = self._new_worker()
                _log.warning("model %s has a new worker", self.name)
            except Exception:  # noqa: BLE001 - anybody's backend: health says so, and it is tried again
                _log.exception("model %s gets no new worker yet", self.name)

    def _new_worker(self) -> Worker:
        worker = Worker(self._new_scheduler, self._settings.max_batch_requests, self._left, clock=self._delays.clock)
        worker.start()
        return worker

    def _new_scheduler(self) -> Scheduler:
        settings = self._settings
        return self.classifier.engine.scheduler(
            self.classifier.policy,
            batch_size=settings.max_batch_requests + max(settings.max_batch_requests // _KEPT, 1),
            max_tokens=settings.max_batch_tokens,
            mode="latency",
            ask_words=False,  # they were at the door
            recorder=self.learning or None,
        )

    def _chosen(self, wishes: Wishes) -> tuple[ExitPolicy, str, int | None]:
        policy, name, level = self._choices.of(wishes, lambda: self._pressure.level(self.books.rows))
        return self.learning.newest(policy), name, level

    def _left(self, rows: Sequence[Row]) -> None:
        """Send outcomes to the event loop; called in the worker's thread."""
        self.learning.left(rows)
        try:
            rows[0].ticket.loop.call_soon_threadsafe(self._settle, rows)
        except RuntimeError:
            if not rows[0].ticket.loop.is_closed():  # closed: whoever asked has gone with it
                raise

    def _settle(self, rows: Sequence[Row]) -> None:
        """Take rows out of the books and tell their tickets."""
        still = [row for row in rows if row.ticket.outcomes[row.place] is None]
        for row in still:
            self.books.count(-1, -len(row.arrival.ids))
            self.books.left(row)
        settle(still)
        for row in still:
            self._compare(row)
        self._metrics.restarts.labels(self.name).set(self._worker.restarts)

    def _compare(self, row: Row) -> None:
        """Let a share of the texts that left early run again to full depth, while there are places free.

        The client has its answer by then. Source: Apparate, Dai et al., SOSP 2024.
        """
        answer, places = row.outcome, self._settings.max_batch_requests
        if not isinstance(answer, Answer) or row.early is not None or answer.exit_layer == self.classifier.num_layers:
            return
        if random.random() >= self._settings.feedback_share or self.books.rows >= places:
            return
        arrival = replace(row.arrival, index=next(self._numbers), policy=_FULL, last_layer=None)
        with suppress(Refusal):  # the worker has ended: nothing is to be compared any more
            again = Row(arrival, 0, Ticket(1), policy_name=row.policy_name, early=answer.probs)
            self._worker.submit([again])
            self.books.count(1, len(arrival.ids))
