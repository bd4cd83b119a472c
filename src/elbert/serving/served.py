"""One model that is served: its classifier, the thread that runs it, and the books of what is under way.

Everything here but what the worker runs happens in the event loop, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch

from elbert.classifier import Classifier
from elbert.data import Text
from elbert.engine.requests import Arrival
from elbert.engine.scheduler import Scheduler
from elbert.exits import ExitPolicy, make
from elbert.results import Trace
from elbert.serving.budgets import Budgets
from elbert.serving.choices import Choices, Wishes
from elbert.serving.ladder import Ladder
from elbert.serving.metrics import Metrics
from elbert.serving.pressure import Pressure
from elbert.serving.refusals import CANCELLED, Refusal, overloaded, too_large
from elbert.serving.rows import Answer, Row, Ticket, settle
from elbert.serving.settings import ServeSettings
from elbert.serving.worker import Worker

# Characters from which on a request is tokenised beside the event loop, which would stand still too long.
_LONG = 4096

_FULL = make("full")

# One place is kept for rows in a hurry for each so many others, or they would wait until somebody leaves.
_KEPT = 4

# Weight of the newest text in the running mean of how long one keeps the model busy.
_NEWEST = 0.05


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


class ServedModel:
    """A model under its name.

    Args:
        name: that requests call it by.
        classifier: what answers.
        settings: the server's.
        metrics: likewise.

    Attributes:
        ladder: its speed levels.
        rows_in_flight: texts that wait or run.
        tokens_in_flight: their tokens.
        warm: it has answered once.
    """

    def __init__(self, name: str, classifier: Classifier, settings: ServeSettings, metrics: Metrics) -> None:
        self.name = name
        self.classifier = classifier
        self.ladder = Ladder.of(classifier)
        self.rows_in_flight = 0
        self.tokens_in_flight = 0
        self.warm = False
        self._settings = settings
        self._metrics = metrics
        self._numbers = itertools.count()
        self._row_seconds = 0.0
        self._tokeniser = ThreadPoolExecutor(1, thread_name_prefix="elbert-tokeniser")
        self._worker = Worker(self._new_scheduler, settings.max_batch_requests, self._left)
        fastest = self.ladder.usual if settings.fastest_level is None else self.ladder.number(settings.fastest_level)
        self._pressure = Pressure(self.ladder.usual, fastest, settings.max_batch_requests, self._worker.clock)
        self._choices = Choices(classifier, self.ladder)
        self._budgets = Budgets(name, classifier.num_layers, settings, metrics, self._worker.clock)
        self._tracing = asyncio.Lock()
        self._worker.start()

    @property
    def healthy(self) -> bool:
        """True while it is warm and its worker answers."""
        return self.warm and self._worker.healthy

    async def warm_up(self) -> None:
        """Answer a few texts of several lengths, so that the first request finds everything laid out."""
        full = Wishes(policy={"name": "full"}, truncate=True)
        for count in (1, self._settings.max_batch_requests):
            asked = await self.ask(["warm " * (1 + place) for place in range(count)], full)
            await asked.ticket.done
        self.warm = True

    async def ask(self, texts: Sequence[Text], wishes: Wishes, key: int | None = None) -> Asked:
        """Tokenise texts and send them on their way.

        Args:
            texts: one request's.
            wishes: how to answer them.
            key: number of the key they came with; None for the server's own.

        Raises:
            UsageError: something is no text, or there is no such policy or level.
            Refusal: a text is too long, the queue is full, the key's layers are spent, or the worker has ended.
        """
        budget = self._budgets.of(key)
        budget.check()
        self._check_room(0, wishes.max_latency)
        begun = time.perf_counter()
        policy, policy_name, level = self._chosen(wishes)
        arrivals, truncated = await self._tokenise(texts)
        if not (self._settings.auto_truncate if wishes.truncate is None else wishes.truncate) and any(truncated):
            raise too_large(
                f"text {truncated.index(True) + 1} has more than {self.classifier.max_length} tokens; allowed: at most "
                "that many: shorten it, or send truncate true to have its end cut off"
            )
        took = time.perf_counter() - begun
        self._metrics.stage_seconds.labels(self.name, "tokenise").observe(took)
        tokens = sum(len(arrival.ids) for arrival in arrivals)
        self._check_room(tokens, wishes.max_latency)
        ceilings = (wishes.max_layers, self._settings.max_layers, self.classifier.num_layers)
        last = min(ceiling for ceiling in ceilings if ceiling is not None)
        deadline = None if wishes.max_latency is None else self._worker.clock() + wishes.max_latency
        ticket = Ticket(len(arrivals))
        rows = [
            Row(
                replace(arrival, index=next(self._numbers), policy=policy, last_layer=budget.ceiling(last)),
                place,
                ticket,
                deadline,
                level,
                policy_name,
                key=key,
            )
            for place, arrival in enumerate(arrivals)
        ]
        self._worker.submit(rows)
        self._count(len(rows), tokens)
        return Asked(ticket, rows, truncated, took)

    def cancel(self, asked: Asked) -> None:
        """Stop computing what nobody waits for any more."""
        left = [row for row in asked.rows if asked.ticket.outcomes[row.place] is None]
        self._worker.cancel(left)
        for row in left:
            asked.ticket.outcomes[row.place] = CANCELLED
            self._count(-1, -len(row.arrival.ids))

    async def trace(self, text: Text, wishes: Wishes, key: int | None = None) -> Trace:
        """Show one text layer by layer; one after the other, so that rows are stepped between two of them.

        Raises:
            ElbertError: there is no such policy or level, something is no text, or the model cannot be traced.
            Refusal: the key's layers are spent.
        """
        budget = self._budgets.of(key)
        budget.check()
        policy, _, _ = self._chosen(wishes)
        budget.spend(self.classifier.num_layers)
        async with self._tracing:
            run = partial(self.classifier.trace, text, policy=policy)
            return cast(Trace, await asyncio.wrap_future(self._worker.call(run)))

    async def close(self) -> None:
        """Let everything under way be answered, then end the worker."""
        await asyncio.to_thread(self._worker.stop)
        self._tokeniser.shutdown()

    def _new_scheduler(self) -> Scheduler:
        settings = self._settings
        return self.classifier.engine.scheduler(
            self.classifier.policy,
            batch_size=settings.max_batch_requests + max(settings.max_batch_requests // _KEPT, 1),
            max_tokens=settings.max_batch_tokens,
            mode="latency",
        )

    async def _tokenise(self, texts: Sequence[Text]) -> tuple[list[Arrival], list[bool]]:
        """Return texts as arrivals in their order, and whether each was cut off."""
        run = partial(_tokenised, self.classifier, texts)
        length = sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in texts)
        if length <= _LONG and self.classifier.tokenises_in_threads:
            return run()
        return await asyncio.get_running_loop().run_in_executor(self._tokeniser, run)

    def _chosen(self, wishes: Wishes) -> tuple[ExitPolicy, str, int | None]:
        return self._choices.of(wishes, lambda: self._pressure.level(self.rows_in_flight))

    def _check_room(self, tokens: int, max_latency: float | None) -> None:
        """Raise Refusal where the queue has no room, or a deadline cannot be kept even after one layer."""
        most = self._settings.max_queue_tokens
        if self.tokens_in_flight and self.tokens_in_flight + tokens > most:
            wait = math.ceil(self.rows_in_flight * self._row_seconds)
            raise overloaded(f"{self.tokens_in_flight} tokens are waiting; allowed: {most}", min(max(wait, 1), 60))
        if max_latency is None or self.rows_in_flight < self._settings.max_batch_requests:
            return
        steps = self.rows_in_flight / self._settings.max_batch_requests
        if steps * self._worker.step_seconds > max_latency:
            waiting = f"{self.rows_in_flight} texts are waiting"
            raise overloaded(f"{waiting}, too many for max_latency_ms {max_latency * 1000:g}; come again, or wait", 1)

    def _count(self, rows: int, tokens: int) -> None:
        self.rows_in_flight += rows
        self.tokens_in_flight += tokens
        self._metrics.rows_in_flight.labels(self.name).set(self.rows_in_flight)
        self._metrics.queue_tokens.labels(self.name).set(self.tokens_in_flight)

    def _left(self, rows: Sequence[Row]) -> None:
        """Send outcomes to the event loop; called in the worker's thread."""
        try:
            rows[0].ticket.loop.call_soon_threadsafe(self._settle, rows)
        except RuntimeError:
            if not rows[0].ticket.loop.is_closed():  # closed: whoever asked has gone with it
                raise

    def _settle(self, rows: Sequence[Row]) -> None:
        """Take rows out of the books and tell their tickets."""
        still = [row for row in rows if row.ticket.outcomes[row.place] is None]
        for row in still:
            self._count(-1, -len(row.arrival.ids))
            self._observe(row)
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
        if random.random() >= self._settings.feedback_share or self.rows_in_flight >= places:
            return
        arrival = replace(row.arrival, index=next(self._numbers), policy=_FULL, last_layer=None)
        with suppress(Refusal):  # the worker has ended: nothing is to be compared any more
            again = Row(arrival, 0, Ticket(1), policy_name=row.policy_name, early=answer.probs)
            self._worker.submit([again])
            self._count(1, len(arrival.ids))

    def _observe(self, row: Row) -> None:
        answer, metrics = row.outcome, self._metrics
        if row.early is not None:
            if isinstance(answer, Answer):
                both = self.classifier.task.answers(
                    torch.tensor([row.early, answer.probs]), self.classifier.labels.names
                )
                agrees = "yes" if both[0][0] == both[1][0] else "no"
                metrics.feedback.labels(self.name, row.policy_name, agrees).inc()
            return
        if not isinstance(answer, Answer):
            metrics.failed.labels(self.name).inc()
            return
        expected = None if row.level is None else self.ladder.mean_exit_layers[row.level]
        self._budgets.left(row.key, answer.exit_layer, answer.cause, expected)
        self._row_seconds += _NEWEST * (answer.computed / self._settings.max_batch_requests - self._row_seconds)
        metrics.stage_seconds.labels(self.name, "queue").observe(answer.queued)
        metrics.stage_seconds.labels(self.name, "compute").observe(answer.computed)
        metrics.texts.labels(self.name, row.policy_name, answer.cause).inc()
        metrics.exit_layer.labels(self.name).observe(answer.exit_layer)
        metrics.layers_run.labels(self.name).inc(answer.exit_layer)
        metrics.layers_saved.labels(self.name).inc(self.classifier.num_layers - answer.exit_layer)


def _tokenised(classifier: Classifier, texts: Sequence[Text]) -> tuple[list[Arrival], list[bool]]:
    truncated: dict[int, bool] = {}
    arrivals = sorted(classifier.arrivals(texts, truncated), key=lambda arrival: arrival.index)
    return arrivals, [truncated[place] for place in range(len(arrivals))]
