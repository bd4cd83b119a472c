"""Deadlines count from when a request was there; who cannot keep one is refused at once. The clock is the test's."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from elbert.classifier import Classifier
from elbert.serving.choices import Wishes
from elbert.serving.delays import Delays, Estimate
from elbert.serving.metrics import Metrics
from elbert.serving.refusals import Refusal
from elbert.serving.rows import Asked
from elbert.serving.served import ServedModel
from elbert.serving.settings import ServeSettings
from tests.serving.conftest import Gate, Start


class Loop:
    """An event loop of nothing but turns, each of which takes as long as the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self._soon: deque[tuple[Any, ...]] = deque()

    def call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        self._soon.append((function, *arguments))

    def call_later(self, delay: float, function: Callable[..., None]) -> None:
        self._soon.append((function,))

    def turn(self, seconds: float) -> None:
        """Run what waits, then let the other callbacks of this turn take so many seconds."""
        for function, *arguments in [self._soon.popleft() for _ in range(len(self._soon))]:
            function(*arguments)
        self.now += seconds


def watched(*turns: float) -> tuple[Delays, Loop]:
    loop = Loop()
    delays = Delays(lambda: loop.now)
    delays.watch(loop)  # type: ignore[arg-type]
    for seconds in turns:
        loop.turn(seconds)
    return delays, loop


def test_a_duration_is_seldom_longer_than_its_estimate_and_an_old_one_is_forgotten() -> None:
    estimate = Estimate(0.1)
    assert estimate.high == 0.0
    estimate.note(3.0)
    assert estimate.high == 3.0
    for _ in range(100):
        estimate.note(1.0)
        estimate.note(2.0)
    assert 2.0 < estimate.high < 4.0
    for _ in range(100):
        estimate.note(1.0)
    assert estimate.high == pytest.approx(1.0, abs=0.01)


def test_slow_turns_of_the_loop_are_taken_off_a_deadline_whether_or_not_anybody_asks() -> None:
    calm, loop = watched(*[0.0] * 30)
    assert calm.deadline(None, 0.05) == loop.now + 0.05
    slow, loop = watched(*[0.01] * 300)
    assert slow.deadline(None, 0.05) == pytest.approx(loop.now + 0.05 - 4 * 0.01)
    assert slow.deadline(loop.now - 0.02, 0.05) == pytest.approx(loop.now - 0.02 + 0.05 - 4 * 0.01)
    for _ in range(300):
        loop.turn(0.0)
    assert slow.deadline(None, 0.05) == pytest.approx(loop.now + 0.05, abs=1e-4)


def test_a_closed_watch_leaves_the_loop_alone() -> None:
    delays, loop = watched(0.1, 0.1)
    delays.close()
    for _ in range(4):
        loop.turn(0.1)
    assert not loop._soon


class Ticking:
    """A served model of four layers, each of which takes a second, and a gate that they stop at."""

    def __init__(self, folder: Path) -> None:
        classifier = Classifier.from_pretrained(folder)
        self.now = 0.0
        self.gate = Gate(classifier)
        backend: Any = classifier.engine.backend
        inner = backend.step

        def step(*arguments: Any) -> Any:
            found = inner(*arguments)
            self.now += 1
            return found

        backend.step = step
        settings = ServeSettings(max_batch_requests=2)
        self.served = ServedModel("tiny", classifier, settings, Metrics(), Delays(lambda: self.now))

    async def ask(self, max_latency: float | None, received: float | None = None) -> Asked:
        return await self.served.ask(["good"], Wishes("exact", max_latency=max_latency), received=received)

    async def answer(self, *arguments: Any) -> Any:
        asked = await self.ask(*arguments)
        await asyncio.wait_for(asked.ticket.done, 30)
        return asked.ticket.outcomes[0]


@pytest.fixture
def ticking(model_folder: Path) -> Ticking:
    return Ticking(model_folder)


def run(ticking: Ticking, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def to_the_end() -> None:
        try:
            assert (await ticking.answer(None)).exit_layer == 4  # what a step takes is known from now on
            await test()
        finally:
            ticking.gate.open()
            await ticking.served.close()

    asyncio.run(to_the_end())


def test_a_deadline_counts_from_when_the_request_was_received(ticking: Ticking) -> None:
    async def test() -> None:
        for late, layers in ((0.0, 3), (1.0, 2), (2.0, 1)):
            answer = await ticking.answer(3.5, ticking.now - late)
            assert (answer.exit_layer, answer.cause) == (layers, "hurried")
        with pytest.raises(Refusal, match="500 ms later than max_latency_ms allows") as refused:
            await ticking.ask(3.5, ticking.now - 4.0)
        assert (refused.value.status, refused.value.retry_after) == (429, 1)

    run(ticking, test)


def test_who_comes_alone_is_answered_as_early_as_can_be(ticking: Ticking) -> None:
    async def test() -> None:
        answer = await ticking.answer(0.5)
        assert (answer.exit_layer, answer.cause) == (1, "hurried")

    run(ticking, test)


def test_a_deadline_that_others_leave_no_time_for_is_refused_at_once_and_others_are_not(ticking: Ticking) -> None:
    async def test() -> None:
        ticking.gate.shut()
        asked = [await ticking.ask(None)]
        assert await asyncio.to_thread(ticking.gate.reached.wait, 30)  # two steps until anybody else has an exit
        with pytest.raises(Refusal, match="100 ms later"):
            await ticking.ask(1.9)
        asked += [await ticking.ask(2.1), await ticking.ask(None), await ticking.ask(None)]
        with pytest.raises(Refusal, match="900 ms later"):  # four texts at two places: one step more
            await ticking.ask(2.1)
        asked.append(await ticking.ask(3.1))
        ticking.gate.open()
        for each in asked:
            await asyncio.wait_for(each.ticket.done, 30)
        causes = [each.ticket.outcomes[0].cause for each in asked]  # type: ignore[union-attr]
        assert causes == ["last_layer", "hurried", "last_layer", "last_layer", "hurried"]
        assert asked[1].ticket.outcomes[0].exit_layer == 1  # type: ignore[union-attr]

    run(ticking, test)


def test_a_request_is_stamped_when_it_is_there_whole_and_not_before(start: Start) -> None:
    """One that came in two pieces, or behind another of its connection, has waited for nothing of ours until then."""
    with start() as running:
        served = next(iter(running.server.config.app.state.models))
        seen, inner = [], served.ask

        async def ask(*arguments: Any) -> Any:
            seen.append((arguments[3], time.monotonic()))
            return await inner(*arguments)

        served.ask = ask
        body = b'{"inputs": "good", "parameters": {"max_latency_ms": 600000}}'
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        with socket.create_connection(("127.0.0.1", running.port)) as slow:
            slow.sendall(head % len(body) + body[:10])
            running.until(lambda: bool(running.server.server_state.connections))
            before = time.monotonic()
            slow.sendall(body[10:])
            assert slow.recv(100).startswith(b"HTTP/1.1 200")
    [(received, now)] = seen
    assert before <= received <= now
