"""The race itself: load and warm up everybody, time them in turns, put the rows together."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from elbert.errors import UsageError
from elbert.evaluation.bench.job import Answers, Job, Plan, Spec, Timed
from elbert.evaluation.bench.lengths import token_counts
from elbert.evaluation.bench.machine import machine, versions
from elbert.evaluation.bench.rows import Row, compared, empty_row, row_of
from elbert.evaluation.bench.systems import REFERENCE, SYSTEMS
from elbert.evaluation.bench.worker import Worker, WorkerError
from elbert.modeling.files.open import open_tokenizer
from elbert.tasks import task_of

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
    """One competitor on its way through the race.

    Attributes:
        spec: who.
        worker: its process; None before it is loaded, and after it failed until it is loaded again.
        load_s: making its files and loading, the first time.
        first: its first run, by batch size.
        runs: its timed rounds, by batch size.
        reasons: why there is nothing to show, by batch size.
        peak_memory_mb: of its process.
    """

    spec: Spec
    worker: Worker | None = None
    load_s: float | None = None
    first: dict[int, Timed] = field(default_factory=dict)
    runs: dict[int, list[Timed]] = field(default_factory=lambda: defaultdict(list))
    reasons: dict[int, str] = field(default_factory=dict)
    peak_memory_mb: float | None = None

    def fail(self, reason: str, batches: Iterable[int]) -> None:
        self.reasons.update(dict.fromkeys(batches, reason))
        self.stop()

    def stop(self) -> None:
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
    lengths = token_counts(job.texts, open_tokenizer(job.folder), job.max_length)
    runners: list[_Runner] = []
    with ExitStack() as stack:
        stack.callback(_stop, runners)
        for spec in specs:
            runners.append(_Runner(spec))  # before its process starts, so that it is stopped whatever happens
            _take_depth(runners[-1], runners, plan)
            _load(runners[-1], job, plan)
            on_step(f"{spec.system} {spec.dtype}, ready")
        for number in range(plan.rounds):
            for batch in plan.batches:
                # Every other round goes the other way round, so that a machine that slows down favours nobody.
                for runner in runners[:: 1 if number % 2 == 0 else -1]:
                    _turn(runner, batch, job, plan)
                    on_step(f"{runner.spec.system}, batch {batch}, round {number + 1}")
        for runner in runners:
            _weigh(runner)
    return Bench(tuple(_rows(runners, job, plan, score, layers=layers, lengths=lengths)), plan.rounds, job.threads)


def steps(specs: Sequence[Spec], plan: Plan) -> int:
    """Return how many steps `race` reports."""
    return len(specs) * (1 + plan.rounds * len(plan.batches))


def _stop(runners: Sequence[_Runner]) -> None:
    for runner in runners:
        runner.stop()


def _count(runner: _Runner, batch: int, job: Job, plan: Plan) -> int:
    """Return how many texts a run takes; more than there are begin again with the first."""
    if batch == 1:
        return min(plan.latency_texts, len(job.texts))
    first = runner.first.get(batch)
    if plan.seconds is None or first is None:
        return len(job.texts)
    return max(batch, round(plan.seconds * len(first.answers.labels) / max(first.seconds, 1e-9)))


def _take_depth(runner: _Runner, runners: Sequence[_Runner], plan: Plan) -> None:
    """Give `elbert-fixed` the layer nearest to the mean exit layer of the exits it is the baseline of, 1 at least.

    Where those run on fewer tokens so does it: nothing but the exits may differ.
    """
    spec = runner.spec
    if spec.system != "elbert-fixed" or spec.policy is not None:
        return
    same = ("elbert", spec.backend, spec.dtype)
    exits = [each for each in runners if (each.spec.system, each.spec.backend, each.spec.dtype) == same]
    firsts = [
        (each.spec, each.first[batch]) for each in exits for batch in reversed(plan.batches) if batch in each.first
    ]
    ran = [(own.policy or {}, first.answers.exit_layers) for own, first in firsts if first.answers.exit_layers]
    if not ran:
        runner.fail(
            "its layer is the mean exit layer of elbert in the same backend and dtype, which failed", plan.batches
        )
    else:
        policy, depths = ran[0]
        tokens = {key: value for key, value in policy.items() if key == "tokens"}
        runner.spec = replace(spec, policy={"name": "fixed", "layer": max(round(float(np.mean(depths))), 1), **tokens})


def _load(runner: _Runner, job: Job, plan: Plan) -> None:
    """Load a system and run it once at every batch size; those runs are kept apart.

    Where it fails at one, it is loaded again for the others.
    """
    while runner.worker is None and (left := [batch for batch in plan.batches if batch not in runner.reasons]):
        start = time.perf_counter()
        try:
            own = job.of(runner.spec)
            if SYSTEMS[runner.spec.system].builds and runner.load_s is None:
                Worker(own, runner.spec, build=True).stop()
            runner.worker = Worker(own, runner.spec)
        except WorkerError as error:
            runner.fail(str(error), left)
            return
        if runner.load_s is None:
            runner.load_s = time.perf_counter() - start
        for batch in left:
            first = _run(runner, batch, job, plan)
            if first is None:
                break
            runner.first.setdefault(batch, first)


def _turn(runner: _Runner, batch: int, job: Job, plan: Plan) -> None:
    """Time a system for one round; where its process has ended meanwhile, in a new one."""
    _load(runner, job, plan)
    if batch not in runner.reasons:
        timed = _run(runner, batch, job, plan)
        if timed is not None:
            runner.runs[batch].append(timed)


def _run(runner: _Runner, batch: int, job: Job, plan: Plan) -> Timed | None:
    """Return one run, or None where it failed, which ends the process."""
    if runner.worker is None:
        return None
    try:
        return runner.worker.run(batch, _count(runner, batch, job, plan))
    except WorkerError as error:
        runner.fail(str(error), [batch])
        return None


def _weigh(runner: _Runner) -> None:
    if runner.worker is not None:
        with suppress(WorkerError):  # all its rounds are there: they are shown without
            runner.peak_memory_mb = runner.worker.peak_memory_mb()


def _rows(runners: Sequence[_Runner], job: Job, plan: Plan, score: Scorer, **about: Any) -> list[Row]:
    """Return a row per batch size and system; `about` goes to `row_of`."""
    reference = {
        batch: runner.runs[batch][-1].answers
        for runner in runners
        for batch in plan.batches
        if (runner.spec.system, runner.spec.dtype) == REFERENCE and batch not in runner.reasons
    }
    rows = []
    for batch in plan.batches:
        for runner in runners:
            if batch in runner.reasons:
                rows.append(empty_row(runner.spec, batch, runner.reasons[batch]))
                continue
            answers = runner.runs[batch][-1].answers
            facts: dict[str, Any] = {
                "score": score(answers.labels),
                "same_labels": _agreement(answers, reference.get(batch), job.problem_type),
                "load_s": runner.load_s,
                "first_run_s": runner.first[batch].seconds,
                "peak_memory_mb": runner.peak_memory_mb,
            }
            rows.append(row_of(runner.spec, batch, runner.runs[batch], **about, **facts))
    return compared(rows)


def _agreement(given: Answers, wanted: Answers | None, problem_type: str) -> float | None:
    """Return the share of equal answers to the texts both have run; None without a reference, or for values."""
    if wanted is None or not task_of(problem_type).has_classes:
        return None
    both = min(len(given.labels), len(wanted.labels))
    return sum(a == b for a, b in zip(given.labels[:both], wanted.labels[:both], strict=True)) / both
