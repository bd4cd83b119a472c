"""The thread that owns a scheduler: deadlines by a clock that the test moves, and exceptions it outlives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from elbert.classifier import Classifier
from elbert.engine.requests import Arrival
from elbert.exits import make
from elbert.serving.refusals import Refusal
from elbert.serving.rows import Answer, Row, Ticket, settle
from elbert.serving.worker import Worker

FULL = make("full")


class Bench:
    """A worker on a model of four layers, whose clock goes one second a step."""

    def __init__(self, folder: Path, on_step: Callable[[Any], None] = lambda _: None) -> None:
        self.classifier = Classifier.from_pretrained(folder)
        self.now = 0.0
        self.steps = 0
        self.worker = Worker(self._scheduler, 4, self._left, clock=lambda: self.now)
        self._on_step = on_step

    def _scheduler(self) -> Any:
        scheduler = self.classifier.engine.scheduler(FULL, batch_size=5, mode="latency")
        inner = scheduler.step

        def step() -> Any:
            self.now += 1
            self.steps += 1
            self._on_step(set(scheduler._here))
            return inner()

        scheduler.step = step  # type: ignore[method-assign]
        return scheduler

    def _left(self, rows: Sequence[Row]) -> None:
        rows[0].ticket.loop.call_soon_threadsafe(settle, rows)

    def run(self, deadlines: Sequence[float | None], *, last_layer: int | None = None) -> list[Any]:
        """Return what became of as many texts as there are deadlines, all given to the worker at once."""

        async def all_of_them() -> list[Any]:
            ticket = Ticket(len(deadlines))
            rows = [
                Row(Arrival(index, [2, 5, 3], last_layer=last_layer), index, ticket, deadline)
                for index, deadline in enumerate(deadlines)
            ]
            self.worker.submit(rows)
            self.worker.start()
            await asyncio.wait_for(ticket.done, 30)
            return ticket.outcomes

        try:
            return asyncio.run(all_of_them())
        finally:
            self.worker.stop(30)


def test_a_row_is_hurried_early_enough_to_leave_by_its_deadline(model_folder: Path) -> None:
    bench = Bench(model_folder)
    hurried, calm = bench.run([4.0, None])
    assert (hurried.exit_layer, hurried.cause) == (3, "hurried")
    assert hurried.queued + hurried.computed <= 4.0
    assert (calm.exit_layer, calm.cause) == (4, "last_layer")


def test_a_row_with_a_deadline_goes_before_others_that_wait(model_folder: Path) -> None:
    bench = Bench(model_folder)
    answers = bench.run([*[None] * 12, 3.0])
    assert answers[-1].cause == "hurried"
    assert answers[-1].queued + answers[-1].computed <= 3.0
    assert max(answer.queued for answer in answers[:-1]) > answers[-1].queued


def test_the_others_are_answered_whatever_one_row_makes_a_step_raise(model_folder: Path) -> None:
    def fail(here: set[int]) -> None:
        if 2 in here:
            raise MemoryError("of the scheduler itself")

    bench = Bench(model_folder, fail)
    outcomes = bench.run([None] * 7)
    assert [isinstance(each, Answer) for each in outcomes] == [True, True, False, True, True, True, True]
    assert outcomes[2].status == 503
    assert bench.worker.restarts == 1


@pytest.mark.parametrize("error", [SystemExit("a plug-in called exit"), ZeroDivisionError("once")])
def test_an_exception_that_comes_once_loses_nobody(model_folder: Path, error: BaseException) -> None:
    def fail(here: set[int]) -> None:
        if bench.steps == 2:
            raise error

    bench = Bench(model_folder, fail)
    assert all(isinstance(each, Answer) for each in bench.run([None] * 3))


def test_a_worker_that_can_no_longer_compute_tells_everybody_and_itself_ill(model_folder: Path) -> None:
    def fail(here: set[int]) -> None:
        bench.worker._new_scheduler = None  # type: ignore[assignment]  # not even a new one can be made
        raise RuntimeError("the device is gone")

    bench = Bench(model_folder, fail)
    outcomes = bench.run([None] * 9)
    assert {each.status for each in outcomes} == {503}
    assert not bench.worker.healthy
    with pytest.raises(Refusal, match="has ended"):
        bench.worker.submit([])


def test_rows_the_model_cannot_read_are_refused_and_no_other(model_folder: Path) -> None:
    outcomes = Bench(model_folder).run([None] * 2, last_layer=9)
    assert all(each.status == 422 and each.line.startswith("the text has the last layer 9") for each in outcomes)
