"""What a deadline loses in the event loop: before a request is read, and on its answer's way back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# Seconds between two looks at how long a turn of the event loop takes.
_EVERY = 0.01

# Weight of the newest turn: some tenth of a second is remembered.
_NEWEST = 1 / 8

# Mean deviations above the mean that an estimate allows for.
_DEVIATIONS = 4.0

# Turns of the loop from the worker's answer to the client: one tells the ticket, one wakes the request, one writes.
_BACK = 3


class Estimate:
    """A duration that is seldom exceeded: the running mean of those seen, and four times their running mean deviation.

    Args:
        newest: weight of the newest duration, above 0 to 1.

    Source: Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988, who estimates round trips so.
    """

    def __init__(self, newest: float) -> None:
        self._newest = newest
        self._mean: float | None = None
        self._deviation = 0.0

    def note(self, seconds: float) -> None:
        """Note one duration."""
        if self._mean is None:
            self._mean = seconds
            return
        error = seconds - self._mean
        self._mean += self._newest * error
        self._deviation += self._newest * (abs(error) - self._deviation)

    @property
    def high(self) -> float:
        """Seconds; 0 before anything was noted."""
        return 0.0 if self._mean is None else self._mean + _DEVIATIONS * self._deviation


class Delays:
    """The delays of one event loop, told by how long its turns take.

    Nothing tells how long a request lay in the kernel before it was read, or how long its answer will take back; but
    both wait for turns of the loop, and these can be measured whether or not anybody asks.

    Args:
        clock: in seconds, the one by which requests are received and deadlines are kept.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._turn = Estimate(_NEWEST)
        self._watched: asyncio.AbstractEventLoop | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to measure turns, until `close`: three callbacks every hundredth of a second."""
        self._watched = loop
        loop.call_later(_EVERY, self._look)

    def close(self) -> None:
        """End measuring."""
        self._watched = None

    def deadline(self, received: float | None, max_latency: float) -> float:
        """Return when a text has to leave the model, for its answer to be there in time.

        Args:
            received: when its request was read whole; None for now.
            max_latency: seconds that the client allows.
        """
        begun = self.clock() if received is None else received
        return begun + max_latency - (1 + _BACK) * self._turn.high

    def _look(self) -> None:
        if self._watched is not None:
            self._watched.call_soon(self._begin)

    def _begin(self) -> None:
        # Between a callback and the one it asks for lies a whole turn: all other callbacks, and all that sockets bring.
        if self._watched is not None:
            self._watched.call_soon(self._end, self.clock())

    def _end(self, begun: float) -> None:
        self._turn.note(self.clock() - begun)
        if self._watched is not None:
            self.watch(self._watched)
