"""The race itself: load and warm up everybody, time them in turns, put the rows together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from elbert.errors import UsageError
from elbert.evaluation.bench.job import Answers, Job, Plan, Spec, Timed
from elbert.evaluation.bench.machine import machine, versions
from elbert.evaluation.bench.rows import Row, compared, empty_row, row_of
from elbert.evaluation.bench.systems import REFERENCE, SYSTEMS
from elbert.evaluation.bench.worker import Worker, WorkerError

# Scores answers to the first texts; None where there is nothing to score by.
Scorer = Callable[[Sequence[Any]], float | None]


@dataclass(frozen=True)
class Bench:
    """The whole result.

    Attributes:
        rows: one per system and batch size.
        rounds: timed runs of each.
        threads: of each.
        machine: processor and instructions.
        versions: of every library.
    """

    rows: tuple[Row, ...]
    rounds: int
    threads: int
    machine: dict[str, Any] = field(default_factory=machine)
    versions: dict[str, str] = field(default_factory=versions)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "rounds": self.rounds,
            "threads": self.threads,
            "machine": self.machine,
            "versions": self.versions,
            "rows": [row.to_dict() for row in self.rows],
        }


@dataclass
class _Runner:
    """One competitor on its way through the race."""

    spec: Spec
    worker: Worker | None = None
    load_s: float = 0.0
    first_run_s: dict[int, float] = field(default_factory=dict)
    runs: dict[int, list[Timed]] = field(default_factory=dict)
    peak_memory_mb: float | None = None
    reason: str | None = None

    def fail(self, error: WorkerError) -> None:
        self.reason = str(error)
        if self.worker is not None:
            self.worker.stop()
        self.worker = None


def race(
    job: Job,
    specs: Sequence[Spec],
    plan: Plan,
    *,
    layers: int,
    score: Scorer,
    on_step: Callable[[str], object] = lambda _: None,
) -> Bench:
    """Time every system on the same texts.

    Args:
        job: model, texts and threads.
        specs: who runs; `elbert-fixed` takes its depth from the `elbert` of the same backend and dtype before it.
        plan: batch sizes and rounds.
        layers: M.
        score: scores answers, for the texts from the first on.
        on_step: told in a few words what was just done, after each of `steps(specs, plan)` steps.

    Raises:
        UsageError: rounds or threads below 1, or no batch size.
    """
    for name, value in (("rounds", plan.rounds), ("threads", job.threads), ("batch sizes", len(plan.batches))):
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be at least 1")
    runners: list[_Runner] = []
    with ExitStack() as stack:
        stack.callback(_stop, runners)
        for spec in specs:
            runners.append(_prepared(job, _with_depth(spec, runners, plan, layers), plan, on_step))
        for number in range(plan.rounds):
            for batch in plan.batches:
                # Every other round goes the other way round, so that a machine that slows down favours nobody.
                for runner in runners[:: 1 if number % 2 == 0 else -1]:
                    _turn(runner, batch, job, plan)
                    on_step(f"{runner.spec.system}, batch {batch}, round {number + 1}")
        for runner in runners:
            _weigh(runner)
    return Bench(tuple(_rows(runners, plan, layers, score)), plan.rounds, job.threads)


def steps(specs: Sequence[Spec], plan: Plan) -> int:
    """Return how many steps `race` reports."""
    return len(specs) * (1 + plan.rounds * len(plan.batches))


def _stop(runners: Sequence[_Runner]) -> None:
    for runner in runners:
        if runner.worker is not None:
            runner.worker.stop()


def _count(batch: int, job: Job, plan: Plan) -> int:
    return min(plan.latency_texts, len(job.texts)) if batch == 1 else len(job.texts)


def _with_depth(spec: Spec, runners: Sequence[_Runner], plan: Plan, layers: int) -> Spec:
    """Return `elbert-fixed` with the layer nearest to the mean exit layer of the exits it is the baseline of."""
    if spec.system != "elbert-fixed" or spec.policy is not None:
        return spec
    for runner in runners:
        if (runner.spec.system, runner.spec.backend, runner.spec.dtype) == ("elbert", spec.backend, spec.dtype):
            for timed in runner.runs.get(plan.batches[-1], ()):
                layer = round(float(np.mean(timed.answers.exit_layers or [layers])))
                return replace(spec, policy={"name": "fixed", "layer": max(layer, 1)})
    return replace(spec, policy={"name": "fixed", "layer": layers})


def _prepared(job: Job, spec: Spec, plan: Plan, on_step: Callable[[str], object]) -> _Runner:
    """Load a system and run it once at every batch size; those runs are kept apart."""
    runner = _Runner(spec)
    start = time.perf_counter()
    try:
        if SYSTEMS[spec.system].builds:
            Worker(job, spec, build=True).stop()
        runner.worker = Worker(job, spec)
        runner.load_s = time.perf_counter() - start
        for batch in plan.batches:
            first = runner.worker.run(batch, _count(batch, job, plan))
            runner.first_run_s[batch] = first.seconds
            runner.runs[batch] = [first]
    except WorkerError as error:
        runner.fail(error)
    on_step(f"{spec.system} {spec.dtype}, ready")
    return runner


def _turn(runner: _Runner, batch: int, job: Job, plan: Plan) -> None:
    if runner.worker is None:
        return
    try:
        runner.runs[batch].append(runner.worker.run(batch, _count(batch, job, plan)))
    except WorkerError as error:
        runner.fail(error)


def _weigh(runner: _Runner) -> None:
    if runner.worker is None:
        return
    try:
        runner.peak_memory_mb = runner.worker.peak_memory_mb()
    except WorkerError as error:
        runner.fail(error)


def _rows(runners: Sequence[_Runner], plan: Plan, layers: int, score: Scorer) -> list[Row]:
    reference = {
        batch: runner.runs[batch][-1].answers
        for runner in runners
        for batch in plan.batches
        if (runner.spec.system, runner.spec.dtype) == REFERENCE and runner.reason is None
    }
    rows = []
    for batch in plan.batches:
        for runner in runners:
            if runner.reason is not None:
                rows.append(empty_row(runner.spec, batch, runner.reason))
                continue
            answers = runner.runs[batch][-1].answers
            facts = {
                "score": score(answers.labels),
                "same_labels": _agreement(answers, reference.get(batch)),
                "load_s": runner.load_s,
                "first_run_s": runner.first_run_s[batch],
                "peak_memory_mb": runner.peak_memory_mb,
            }
            rows.append(row_of(runner.spec, batch, runner.runs[batch][1:], layers=layers, **facts))
    return compared(rows)


def _agreement(given: Answers, wanted: Answers | None) -> float | None:
    """Return the share of equal answers; None without a reference, or for values."""
    if wanted is None or isinstance(wanted.labels[0], float):
        return None
    return sum(a == b for a, b in zip(given.labels, wanted.labels, strict=True)) / len(wanted.labels)
