"""An open-loop load: requests go out when a Poisson process says so, whether or not earlier ones were answered.

Latencies are counted from the time a request was meant to be sent, so that neither a full server nor a slow client can
hide a wait. Speaks HTTP/1.1 to the loopback alone, over connections it keeps, and stops by itself.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

HOST = "127.0.0.1"

# Seconds that the last answers may take before they count as lost.
PATIENCE = 10.0


@dataclass
class Load:
    """What became of the requests of one load.

    Attributes:
        due: seconds from the start at which each was meant to be sent.
        which: number of the body it sent.
        done: seconds from the start at which its answer was there; NaN where none came.
        status: of HTTP; 0 where none came.
        bodies: of the answers.
    """

    due: Any
    which: Any
    done: Any = field(init=False)
    status: Any = field(init=False)
    bodies: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.due)
        self.done, self.status = np.full(count, np.nan), np.zeros(count, int)
        self.bodies = [b""] * count

    @property
    def latencies(self) -> Any:
        """Milliseconds of the requests that were answered with 200."""
        return 1000 * (self.done - self.due)[self.status == 200]

    def percentile(self, share: float) -> float:
        """Return this percentile in milliseconds, infinite where anything was lost, or nothing answered."""
        if not (self.status == 200).any() or (self.status == 0).any():
            return float("inf")
        return float(np.percentile(self.latencies, share))

    def shares(self) -> dict[str, float]:
        """Return the share of each status."""
        return {str(status): float((self.status == status).mean()) for status in np.unique(self.status)}

    def answers(self) -> list[Any]:
        """Return the answers as JSON, None where there is none."""
        return [json.loads(body) if body else None for body in self.bodies]


def poisson(rates: Sequence[tuple[float, float]], bodies: int, seed: int) -> Load:
    """Return a load of stretches, each (seconds, requests a second), that sends the bodies in a drawn order."""
    random = np.random.default_rng(seed)
    parts, start = [], 0.0
    for seconds, rate in rates:
        count = int(random.poisson(rate * seconds))
        parts.append(start + np.sort(random.uniform(0, seconds, count)))
        start += seconds
    due = np.concatenate(parts)
    return Load(due, random.integers(0, bodies, len(due)))


class _Connection(asyncio.Protocol):
    """Carries one request at a time."""

    def __init__(self, client: _Client) -> None:
        self._client, self._held, self.number = client, b"", -1

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, number: int, request: bytes) -> None:
        self.number = number
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, mark, body = self._held.partition(b"\r\n\r\n")
        if not mark:
            return
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        if len(body) < length:
            return
        self._held, number, self.number = body[length:], self.number, -1
        if b"connection: close" in head.lower():
            self.transport.close()
        if number < 0:  # nobody asked: the server says why it closes a connection that was idle
            return
        self._client.answered(self, number, int(head[9:12]), body[:length])

    def connection_lost(self, _: Exception | None) -> None:
        self._client.lost(self)


class _Client:
    """Sends a load's requests when they are due, or as soon as a connection is free."""

    def __init__(self, load: Load, requests: Sequence[bytes]) -> None:
        self._load, self._requests = load, requests
        self._free: deque[_Connection] = deque()
        self._waiting: deque[int] = deque()
        self._left = len(load.due)

    async def run(self, port: int, connections: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._through = self._loop.create_future()
        self._port, self._opening = port, set[asyncio.Task[None]]()
        for _ in range(connections):
            await self._open()
        self._start = self._loop.time() + 0.05
        self._next(0)
        patience = float(self._load.due[-1]) + PATIENCE if self._left else 0.0
        with suppress(TimeoutError):
            await asyncio.wait_for(self._through, patience)
        for each in [*self._free]:
            each.transport.close()

    async def _open(self) -> None:
        _, made = await self._loop.create_connection(lambda: _Connection(self), HOST, self._port)
        self._free.append(made)

    def _next(self, number: int) -> None:
        """Send what is due, and come again when the next one is."""
        now = self._loop.time() - self._start
        while number < len(self._load.due) and self._load.due[number] <= now:
            self._waiting.append(number)
            number += 1
        self._send()
        if number < len(self._load.due):
            self._loop.call_at(self._start + self._load.due[number], self._next, number)

    def _send(self) -> None:
        while self._waiting and self._free:
            connection = self._free.pop()
            if connection.transport.is_closing():  # after an answer; `lost` is told next
                continue
            number = self._waiting.popleft()
            connection.send(number, self._requests[self._load.which[number]])

    def answered(self, connection: _Connection, number: int, status: int, body: bytes) -> None:
        self._load.done[number] = self._loop.time() - self._start
        self._load.status[number], self._load.bodies[number] = status, body
        self._free.append(connection)
        self._count()
        self._send()

    def lost(self, connection: _Connection) -> None:
        """Open another in place of one that the server closed; what was under way on it stays without an answer."""
        if connection in self._free:
            self._free.remove(connection)
        elif connection.number >= 0:
            self._count()
        if self._through.done():
            return
        opening = self._loop.create_task(self._open())
        self._opening.add(opening)
        opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled() and opening.exception() is None:
            self._send()

    def _count(self) -> None:
        self._left -= 1
        if self._left <= 0 and not self._through.done():
            self._through.set_result(None)


def request_of(path: str, body: Any) -> bytes:
    """Return one POST as it goes over the wire."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


def send(load: Load, requests: Sequence[bytes], port: int, connections: int = 256) -> Load:
    """Send a load over so many connections, and return it with what became of it."""
    import uvloop

    gc.disable()  # a full collection of what a benchmark has imported would be a wait in every latency
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Client(load, requests).run(port, connections))
    finally:
        gc.enable()
    return load
