"""How work gets onto a device and how its host hears of it: at once, or as replayed CUDA graphs.

Everything that is CUDA's alone is here. Knows no layer, no policy and no text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import cycle
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from elbert.errors import ElbertError

Action = Callable[[], None]

# What a host reads: it blocks until the device has come so far, calling the function it is given while it waits.
# The function does a little work and returns whether there was any.
Look = Callable[[Callable[[], bool]], list[int]]

# Runs before a capture, so that libraries have chosen their kernels and taken their memory, as torch's manual asks.
_WARM_UP = 3

# One capture at a time in a process.
_CAPTURING = threading.Lock()

# Looks that may be under way together, with some to spare.
_LOOKS = 8


class CaptureError(ElbertError):
    """An action does something that a CUDA graph can't hold."""


class Launcher(Protocol):
    """Runs actions that work on buffers of fixed shape and address, and never look at a value."""

    def prepare(self, action: Action) -> Action:
        """Return what has the effect of `action`; calls it a few times first, or not at all."""

    def upload(self, target: Tensor, values: NDArray[Any]) -> None:
        """Copy `values` [n] to the beginning of `target`, of the same dtype, before whatever is launched next."""

    def look(self, values: Tensor) -> Look:
        """Return what waits for `values` (a few int64) as they are behind all that was launched so far."""

    def settle(self) -> None:
        """Wait until everything launched is done."""


class Direct:
    """Runs every action where it is called: for a CPU."""

    def prepare(self, action: Action) -> Action:
        """Return the action itself."""
        return action

    def upload(self, target: Tensor, values: NDArray[Any]) -> None:
        """Copy."""
        target[: len(values)].copy_(torch.from_numpy(values))

    def look(self, values: Tensor) -> Look:
        """Read now."""
        seen = values.tolist()
        return lambda _: seen

    def settle(self) -> None:
        """Nothing is under way."""


class CudaGraphs:
    """Captures every action as a CUDA graph and replays it: one launch, however many kernels.

    All graphs share one pool of memory, which is sound as they run one after another and what lasts lies in buffers
    made before.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        with torch.cuda.device(self._device):
            self._side = torch.cuda.Stream(self._device)
            self._pool = torch.cuda.graph_pool_handle()
        pinned = [torch.zeros(2, dtype=torch.int64, pin_memory=True) for _ in range(_LOOKS)]
        self._seen = cycle([(values, torch.cuda.Event()) for values in pinned])

    def prepare(self, action: Action) -> Action:
        """Warm `action` up on a side stream, capture it there, and return its replay.

        Raises:
            CaptureError: it can't be captured.
        """
        with _CAPTURING, torch.cuda.device(self._device):
            graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            try:
                self._capture(action, graph, stream)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                torch.cuda.set_stream(stream)  # a capture that fails leaves its own in place
                reason = str(error).partition("\n")[0]
                raise CaptureError(f"the layers and exits can't be captured as a CUDA graph ({reason})") from error
        replay: Action = graph.replay
        return replay

    def _capture(self, action: Action, graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> None:
        self._side.wait_stream(stream)
        with torch.cuda.stream(self._side):
            for _ in range(_WARM_UP):
                action()
        stream.wait_stream(self._side)
        # thread_local: what other threads do on the device, such as loading a model, must not spoil the capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._side, capture_error_mode="thread_local"):
            action()

    def upload(self, target: Tensor, values: NDArray[Any]) -> None:
        """Copy by way of pinned memory, without waiting."""
        target[: len(values)].copy_(torch.from_numpy(values).pin_memory(), non_blocking=True)

    def look(self, values: Tensor) -> Look:
        """Copy to pinned memory behind an event; neither the host nor the stream waits here."""
        seen, event = next(self._seen)
        stream = torch.cuda.current_stream(self._device)
        seen.copy_(values, non_blocking=True)
        event.record(stream)

        def wait(meanwhile: Callable[[], bool]) -> list[int]:
            while not event.query():
                if not meanwhile():
                    event.synchronize()
            read: list[int] = seen.tolist()
            return read

        return wait

    def settle(self) -> None:
        """Wait for the current stream."""
        torch.cuda.current_stream(self._device).synchronize()


def launcher_for(device: torch.device) -> Launcher:
    """Return the launcher that belongs to a device."""
    return CudaGraphs(device) if device.type == "cuda" else Direct()
