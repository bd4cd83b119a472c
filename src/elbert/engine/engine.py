"""The engine: token lists in, departures out, memory bounded whatever the input's length."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from elbert.engine.backends.backend import Backend, make_backend
from elbert.engine.backends.torch import TorchBackend
from elbert.engine.device.loops import DeviceLoops, device_loops
from elbert.engine.forks import check_process
from elbert.engine.layer_zero import bag
from elbert.engine.placement import most_tokens
from elbert.engine.recorder import Recorder
from elbert.engine.requests import Arrival, Departures, raise_failed
from elbert.engine.scheduler import Scheduler
from elbert.errors import UsageError
from elbert.exits import ExitPolicy
from elbert.exits.full import Full
from elbert.exits.gates import SkipGates
from elbert.exits.tokens import TokenSchedule
from elbert.modeling.files.exported import Graphs
from elbert.modeling.weights import EncoderWeights
from elbert.results import LayerOutputs
from elbert.tasks import task_of
from elbert.words import WordModel

# Texts looked at together to be ordered by length, as a multiple of the rows in flight.
SORTING_WINDOW = 64


class Engine:
    """Runs an encoder with exits over any number of tokenised texts.

    Args:
        weights: the model as plain matrices.
        dtype: torch.float32, torch.bfloat16, torch.int8 (CPU only) or torch.float16 (CUDA only).
        device: a torch device or its name.
        backend: what runs the layers, a name of `elbert.engine.backends.backend.BACKENDS`.
        graphs: the exported graphs of a model whose `weights` are shapes only.
        words: layer 0; None where the model has none.

    Attributes:
        words: layer 0, or None.
        weights: the model; its shapes only where the backend has laid the matrices out anew.
        backend: what runs the layers.
        device_loops: what lets a CUDA device run by itself; None where every run goes by the scheduler.
    """

    def __init__(
        self,
        weights: EncoderWeights,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        backend: str = "torch",
        graphs: Graphs | None = None,
        words: WordModel | None = None,
    ) -> None:
        check_process()
        self.words = words
        self.backend: Backend = make_backend(backend, weights, dtype, torch.device(device), graphs)
        # Torch has its own layout of every matrix by now: whoever holds the other one too holds the model twice.
        self.weights = weights.shapes() if isinstance(self.backend, TorchBackend) else weights
        self.device_loops: DeviceLoops | None = device_loops(weights, self.backend)

    def layers(self) -> TorchBackend:
        """Return the layers that answer, or where another runtime has them in its graphs the same ones in torch."""
        if isinstance(self.backend, TorchBackend):
            return self.backend
        return TorchBackend(self.weights, torch.float32, torch.device("cpu"))

    def run(
        self,
        arrivals: Iterable[Arrival],
        policy: ExitPolicy,
        *,
        batch_size: int = 32,
        max_tokens: int | None = None,
        recorder: Recorder | None = None,
    ) -> Iterator[Departures]:
        """Let every text run until it leaves; yield departures as they happen, not in input order.

        Arrivals are read ahead by a bounded window and ordered by length inside it, which changes the speed only: no
        text's label or exit layer depends on its neighbours.

        Args:
            arrivals: any iterable; read lazily.
            policy: who leaves where.
            batch_size: rows stepped together, >= 1.
            max_tokens: tokens stepped together, unless one row alone is longer; None for `most_tokens` of
                device and dtype.
            recorder: if given, is shown every exit's output.

        Raises:
            UsageError: batch_size or max_tokens below 1; a text that the model can't read, see `Door`.
            NotFiniteError: exits said NaN or infinity.
            ElbertError: another text failed; the line names it and says where.
        """
        if max_tokens is None:
            max_tokens = most_tokens(self.backend.device, self.backend.dtype)
        check_counts(batch_size=batch_size, max_tokens=max_tokens)
        loops = self.device_loops
        window = SORTING_WINDOW * batch_size
        options: dict[str, Any] = {"batch_size": batch_size, "max_tokens": max_tokens, "recorder": recorder}
        # What words say, instead of an exit or beside it, needs the host; so do rows that grow shorter or skip layers.
        by_words = self.words is not None and self.words.asked(policy.words)
        on_host = by_words or policy.tokens is not None or policy.gates is not None
        loop = None if loops is None or on_host else loops.borrow(policy, window=window, **options)
        if loops is None or loop is None:
            yield from self._scheduled(arrivals, policy, **options)
            return
        try:
            yield from loop.run(arrivals, recorder, partial(self._scheduled, policy=policy, **options))
        finally:
            loops.give_back()

    def _scheduled(
        self,
        arrivals: Iterable[Arrival],
        policy: ExitPolicy,
        *,
        batch_size: int,
        max_tokens: int,
        recorder: Recorder | None,
    ) -> Iterator[Departures]:
        """Run texts by the scheduler; arguments as `run`."""
        scheduler = self.scheduler(policy, batch_size=batch_size, max_tokens=max_tokens, recorder=recorder)
        yield from refill(scheduler, by_length(arrivals, SORTING_WINDOW * batch_size))

    def scheduler(self, policy: ExitPolicy, **options: Any) -> Scheduler:
        """Return a scheduler of its own over the model, for one thread; arguments as `Scheduler` takes them."""
        return Scheduler(self.weights, self.backend, policy, **{"words": self.words, **options})

    def record(
        self,
        texts: list[Arrival],
        *,
        batch_size: int = 32,
        max_tokens: int | None = None,
        pooled: bool = False,
        tokens: TokenSchedule | None = None,
        gates: SkipGates | None = None,
        on_texts: Callable[[int], object] = lambda _: None,
    ) -> LayerOutputs:
        """Run every text to full depth and keep what every exit said.

        Args:
            texts: their `index` must be 0 .. N-1, in any order.
            batch_size: rows stepped together.
            max_tokens: tokens stepped together, as in `run`.
            pooled: keep the pooled hidden states too, for learned policies.
            tokens: how many tokens a text keeps behind each layer; None for all.
            gates: which layers a text skips; None for none.
            on_texts: called with a count of texts whenever so many more are through.
        """
        recorder = Recorder(len(texts), self.weights, pooled=pooled)
        options: dict[str, Any] = {"batch_size": batch_size, "max_tokens": max_tokens, "recorder": recorder}
        ran = torch.zeros(len(texts), dtype=torch.int64)
        for through in self.run(texts, Full(tokens=tokens, gates=gates), **options):
            ran[through.index] = through.exit_layer
            on_texts(len(through.index))
        if gates is not None:
            recorder.repeat_last(ran)
        return LayerOutputs(
            logits=recorder.logits,
            probs=torch.from_numpy(task_of(self.weights.problem_type).probabilities(recorder.logits.numpy())),
            lengths=torch.tensor([len(text.ids) for text in sorted(texts, key=_index)], dtype=torch.int64),
            pooled=recorder.pooled,
            problem_type=self.weights.problem_type,
            words=self._said_by_words(sorted(texts, key=_index)),
            tokens=tokens,
            gates=gates,
            depth=None if gates is None else recorder.depth,
        )

    def _said_by_words(self, texts: list[Arrival]) -> Tensor | None:
        """Return what layer 0 says, [N, C] as probabilities."""
        if self.words is None:
            return None
        return torch.from_numpy(task_of(self.weights.problem_type).probabilities(self.words.logits(*bag(texts))))


def _index(arrival: Arrival) -> int:
    return arrival.index


def check_counts(**counts: int) -> None:
    """Raise UsageError where one is no whole number of 1 or more; each by the name its caller knows it by."""
    for name, value in counts.items():
        if not hasattr(value, "__index__") or value < 1:
            raise UsageError(f"{name} is {value!r}; allowed: a whole number of 1 or more")


def refill(scheduler: Scheduler, arrivals: Iterable[Arrival]) -> Iterator[Departures]:
    """Step until all texts have left: a place that one leaves is taken by the next.

    Args:
        scheduler: may hold texts already.
        arrivals: more of them, in the order in which they are let in.

    Raises:
        ElbertError: a text failed; as in `raise_failed`.
    """
    source = iter(arrivals)
    following = next(source, None)
    while following is not None or scheduler.busy:
        while following is not None and not scheduler.full:
            scheduler.admit(following)
            following = next(source, None)
        departures = scheduler.step(draining=following is None)
        if departures is not None:
            yield departures
            raise_failed(departures.failed)


def by_length(arrivals: Iterable[Arrival], window: int) -> Iterator[Arrival]:
    """Yield arrivals ordered by length inside consecutive windows, longest first and shortest first in turn.

    The turn keeps neighbours alike across the seam of two windows.
    """
    source = iter(arrivals)
    longest_first = True
    while chunk := list(islice(source, min(window, sys.maxsize))):
        yield from sorted(chunk, key=lambda arrival: len(arrival.ids), reverse=longest_first)
        longest_first = not longest_first
