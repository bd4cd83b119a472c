"""The thread that owns a model's scheduler: takes rows from its inbox, steps them, and sends back what became of them.

It is the server's clock too: the scheduler has none, so a row whose deadline is near is hurried from here. Whatever a
step raises, the thread lives on; see `Worker._recover`.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias

from elbert.engine.requests import Departures
from elbert.engine.scheduler import Scheduler
from elbert.errors import ElbertError, UsageError
from elbert.serving.delays import Estimate
from elbert.serving.inbox import Deadlines, Inbox, Line
from elbert.serving.refusals import Refusal, invalid, overloaded, unavailable
from elbert.serving.rows import Answer, Row

_Message: TypeAlias = Callable[[], None]

_log = logging.getLogger("elbert.serving")

_NUMBERED = re.compile(r"\btext \d+\b")

_ENDED = "the worker of this model has ended; come again, and tell the operator, who finds why in the log"

# Steps until a row that is hurried has left: one that is running when it is asked to, and its own.
_STEPS_AHEAD = 2

# Weight of the newest step in the estimate of how long one takes.
_NEWEST = 0.1

# Recoveries one after the other, with nobody answered between, from which on the worker calls itself ill.
_MOST_FAILURES = 3


class Worker:
    """Runs rows through a scheduler in a thread of its own.

    Args:
        new_scheduler: makes one; called in the thread, once more after an exception.
        places: rows in the scheduler at most, fewer than it has places for: the others wait outside, and those that get
            in a hurry there find a place at once.
        on_left: called in the thread with the rows that have an outcome, as soon as they have.

    Attributes:
        step_time: how long a step takes.
        restarts: exceptions the thread has outlived.
    """

    def __init__(
        self,
        new_scheduler: Callable[[], Scheduler],
        places: int,
        on_left: Callable[[Sequence[Row]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._new_scheduler = new_scheduler
        self._places = places
        self._on_left = on_left
        self.clock = clock
        self._inbox: Inbox[_Message] = Inbox()
        self._line = Line()
        self._deadlines = Deadlines()
        self._inside: dict[int, Row] = {}
        self._failures = 0
        self._stopping = False
        self.step_time = Estimate(_NEWEST)
        self.restarts = 0
        self._scheduler = new_scheduler()
        self._thread = threading.Thread(target=self._run, name="elbert-worker", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """True while it runs, and rows that are submitted are likely to be answered."""
        return self._thread.is_alive() and not self._inbox.closed and self._failures < _MOST_FAILURES

    @property
    def ended(self) -> bool:
        """True once it takes nothing in any more."""
        return self._inbox.closed or not self._thread.is_alive()

    def until_exit(self, rows: int) -> float:
        """Return the seconds until a row that comes while so many are here has been at an exit, if it is hurried."""
        if not rows:
            return 0.0  # who comes alone leaves as early as can be; so the estimate never keeps everybody away
        return (_STEPS_AHEAD + max(rows / self._places - 1, 0.0)) * self.step_time.high

    def check_deadline(self, deadline: float | None, rows: int) -> None:
        """Raise Refusal where an answer cannot be there by then, asked for while so many rows are here."""
        late = 0.0 if deadline is None else self.clock() + self.until_exit(rows) - deadline
        if late > 0:
            line = f"the answer would be {late * 1000:.0f} ms later than max_latency_ms allows; come again later"
            raise overloaded(line, 1)

    def submit(self, rows: Sequence[Row]) -> None:
        """Take rows in; each gets an outcome sooner or later, unless it is cancelled.

        Raises:
            Refusal: the worker has ended.
        """
        now = self.clock()
        for row in rows:
            row.queued_at = now
        if not self._inbox.put(lambda: self._take(rows)):
            raise unavailable(_ENDED)

    def cancel(self, rows: Sequence[Row]) -> None:
        """Forget rows: they run no further layer, and those without an outcome get none."""
        self._inbox.put(lambda: self._forget(rows))

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Run a function in the thread between two steps, for what needs the layers but is no row.

        Raises:
            Refusal: the worker has ended.
        """
        future: Future[Any] = Future()
        if not self._inbox.put(lambda: _run_into(future, function)):
            raise unavailable(_ENDED)
        return future

    def stop(self, timeout: float | None = None) -> None:
        """End the thread once all rows that were submitted have an outcome; wait for it."""
        self._inbox.put(self._end)
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        """Work until told to stop; whatever is raised, everybody who waits hears of it."""
        try:
            while not self._stopping or self._line or self._inside:
                try:
                    self._turn()
                except BaseException as error:  # noqa: BLE001 - anybody's policy, any backend: the thread must live on
                    self._recover(error)
        except BaseException:  # noqa: BLE001 - no new scheduler can be made: health says so, and the log why
            _log.critical("the worker has ended", exc_info=True)
        finally:
            for message in self._inbox.close():
                message()
            self._fail([*self._inside.values(), *(self._line.next() for _ in range(len(self._line)))], _ENDED)
            del self._new_scheduler, self._on_left, self._scheduler  # they hold the model, which holds this

    def _turn(self) -> None:
        """Read the inbox, fill places, hurry who must be, and run one step."""
        for message in self._inbox.take(wait=not (self._line or self._inside)):
            message()
        self._hurry_due()
        while self._line and len(self._inside) < self._places:
            self._admit(self._line.next())
        if self._inside:
            self._step()

    def _step(self) -> None:
        begun = self.clock()
        departures = self._scheduler.step()
        self.step_time.note(self.clock() - begun)
        if departures is not None:
            self._failures = 0
            self._answer(departures)

    def _take(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._line.join(row)
            self._deadlines.add(row)

    def _admit(self, row: Row) -> None:
        """Bring a row to the scheduler; one that the model cannot read fails alone."""
        row.begun_at = self.clock()
        try:
            self._scheduler.admit(row.arrival)
        except UsageError as error:
            row.outcome = invalid(_without_index(error))
            self._on_left([row])
            return
        self._inside[row.index] = row

    def _hurry_due(self) -> None:
        """Let rows whose deadline is near leave at their next exit; those that wait for a place get one."""
        if not self._deadlines:
            return
        for index in self._deadlines.due(self.clock() + _STEPS_AHEAD * self.step_time.high):
            waiting = self._line.leave(index)
            if waiting is not None:
                self._admit(waiting)
            self._scheduler.hurry(index)

    def _forget(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if self._line.leave(row.index) is None and self._inside.pop(row.index, None) is not None:
                self._scheduler.cancel(row.index)

    def _answer(self, departures: Departures) -> None:
        """Send the rows that left their outcomes."""
        now = self.clock()
        left = []
        columns = (departures.index, departures.exit_layer, departures.logits, departures.probs)
        for index, layer, logits, probs, cause in zip(*(c.tolist() for c in columns), departures.cause, strict=True):
            row = self._inside.pop(index)
            waited = row.begun_at - row.queued_at
            row.outcome = Answer(logits, probs, layer, cause, waited, now - row.begun_at)
            left.append(row)
        for failure in departures.failed:
            row = self._inside.pop(failure.index)
            row.outcome = invalid(_without_index(failure.error))
            failure.error.__cause__ = None  # it holds the frames that it went through, and they the model and itself
            left.append(row)
        self._on_left(left)

    def _recover(self, error: BaseException) -> None:
        """Go on after an exception that names no row: with a new scheduler, and without whoever raises it again.

        The rows inside are run again in halves, and those in halves, so that one which cannot be run alone is found.
        """
        _log.error("a step raised; the rows in it are run again", exc_info=error)
        self.restarts += 1
        self._failures += 1
        rows = list(self._inside.values())
        parts = [rows] if rows else []
        try:
            while parts:
                part = parts.pop()
                try:
                    self._run_alone(part)
                except BaseException as again:  # noqa: BLE001 - as above
                    left = [row for row in part if row.outcome is None]
                    if len(left) == 1:
                        self._fail(left, f"the text could not be run: {type(again).__name__}")
                    elif left:
                        parts += [left[len(left) // 2 :], left[: len(left) // 2]]
            self._scheduler = self._new_scheduler()
        finally:
            self._inside.clear()
            self._fail([row for row in rows if row.outcome is None], _ENDED)

    def _run_alone(self, rows: Sequence[Row]) -> None:
        """Run these rows, and nobody else, in a new scheduler until each has an outcome."""
        self._scheduler = self._new_scheduler()
        self._inside.clear()
        for row in rows:
            begun = row.begun_at
            self._admit(row)
            row.begun_at = begun
        while self._inside:
            self._step()

    def _fail(self, rows: Sequence[Row], line: str) -> None:
        for row in rows:
            row.outcome = unavailable(line)
        if rows:
            self._on_left(rows)

    def _end(self) -> None:
        self._stopping = True


def _run_into(future: Future[Any], function: Callable[[], Any]) -> None:
    """Run a function and keep what it returns or raises in a future, unless nobody waits any more."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except (ElbertError, Refusal) as error:
        future.set_exception(error)
    except BaseException as error:  # noqa: BLE001 - a panic of the tokenizer is no Exception, and the caller's alone
        _log.error("what was called between two steps raised", exc_info=error)
        future.set_exception(invalid(f"the text could not be run: {type(error).__name__}"))


def _without_index(error: ElbertError) -> str:
    """Return the line without the worker's own number of the text, which says nothing to whoever asked."""
    return _NUMBERED.sub("the text", str(error), count=1)
