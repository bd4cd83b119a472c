"""What is raced, and on what: plain data that travels to the worker processes. Runs nothing and imports no library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from elbert.data.dataset import Text

# How a system answers one text: a class index, C zeros and ones, or the value (or values) of a regression.
Answer = int | list[float] | float


@dataclass(frozen=True)
class Spec:
    """One competitor.

    Attributes:
        system: its name, a key of `systems.SYSTEMS`.
        backend: what computes; for ours a backend of the engine, for a peer its library.
        dtype: in which precision: float32, bfloat16, float16 or int8.
        policy: the exits of ours, as JSON; None for a peer, and for `elbert-fixed` until the mean exit layer is known.
        folder: its own model, of the same classes; None takes the job's.
    """

    system: str
    backend: str
    dtype: str
    policy: dict[str, Any] | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Job:
    """What every competitor gets, the same for all.

    Attributes:
        folder: the model, an ordinary checkpoint.
        scratch: where exported graphs go; removed afterwards.
        texts: N texts, in input order.
        problem_type: how logits are read.
        max_length: tokens read of a text.
        threads: of every library, tokenizer included.
        plugins: modules a worker imports first, such as one that registers a policy.
        device: where everybody computes, `cpu` or a CUDA device.
    """

    folder: Path
    scratch: Path
    texts: Sequence[Text]
    problem_type: str
    max_length: int
    threads: int
    plugins: tuple[str, ...] = ()
    device: str = "cpu"

    def of(self, spec: Spec) -> Job:
        """Return what one competitor gets: its own model, where it has one, with room for its graphs."""
        if spec.folder is None:
            return self
        scratch = self.scratch / spec.folder.name
        scratch.mkdir(parents=True, exist_ok=True)
        return replace(self, folder=spec.folder, scratch=scratch)


@dataclass(frozen=True)
class Plan:
    """How it is measured.

    Attributes:
        batch_sizes: texts in flight together, each >= 2; at 1 texts run one by one, in input order.
        rounds: timed runs of every system at every batch size, >= 1; the order is reversed every other round.
        latency_texts: texts run one by one; 0 leaves latency out.
        seconds: about how long a timed run with more than one text in flight takes: its texts are cut or repeated by
            what the first run took; None runs every text once.
    """

    batch_sizes: tuple[int, ...] = (8, 32, 128)
    rounds: int = 3
    latency_texts: int = 100
    seconds: float | None = None

    @property
    def batches(self) -> tuple[int, ...]:
        """Every batch size measured; 1 stands for latency and comes first."""
        throughput = tuple(sorted({size for size in self.batch_sizes if size > 1}))
        return ((1,) if self.latency_texts else ()) + throughput


@dataclass(frozen=True)
class Answers:
    """What a system said.

    Attributes:
        labels: one answer per text, in input order.
        exit_layers: layers each text ran; None for a system without exits.
    """

    labels: list[Answer]
    exit_layers: list[int] | None = None


# Classifies texts with so many in flight; tokenising, ordering and padding are part of it.
Run = Callable[[Sequence[Text], int], Answers]


@runtime_checkable
class Beginning(Protocol):
    """A system that is told when a round begins, outside the clock."""

    def begin(self) -> None:
        """Forget what earlier rounds left behind, so that every round does the same work."""

    def __call__(self, texts: Sequence[Text], batch: int, /) -> Answers:
        """Classify texts, as every `Run` does."""


@dataclass(frozen=True)
class Timed:
    """One timed run.

    Attributes:
        seconds: wall-clock for all texts, tokenising included.
        answers: what came out.
        latencies: seconds of each text; None where they ran together.
    """

    seconds: float
    answers: Answers
    latencies: list[float] | None = None
