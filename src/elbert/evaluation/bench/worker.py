"""One system in a process of its own: its thread pools, its memory and its crash are nobody else's.

The parent tells a worker what to do, one thing at a time, and waits; all other workers wait for a message meanwhile.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from elbert.errors import ElbertError
from elbert.evaluation.bench.job import Answers, Beginning, Job, Run, Spec, Timed

# How much of a dead worker's last words is told.
_LAST_WORDS = 300


class WorkerError(ElbertError):
    """A system can't run here: what is missing, or how it ended."""


class Worker:
    """A system's process, as the parent sees it; whoever makes one stops it.

    Args:
        job: what everybody gets.
        spec: which system.
        build: only make the files the system needs, then end.

    Raises:
        WorkerError: it could not be loaded; so do all methods where it fails or dies.
    """

    def __init__(self, job: Job, spec: Spec, *, build: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        # One each: of two systems that differ in their exits only, or of one that is loaded again after it died.
        with NamedTemporaryFile(dir=job.scratch, prefix=f"{spec.system}-", suffix=".log", delete=False) as log:
            self._log = Path(log.name)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job, spec, self._log, build), daemon=True)
        with _environment(job.threads):
            self._process.start()
        try:
            theirs.close()
            self._receive()
        except BaseException:
            self.stop()
            raise

    def run(self, batch: int, count: int) -> Timed:
        """Time the first `count` texts, or those there are again and again; `batch` in flight, at 1 one by one."""
        timed: Timed = self._ask(("run", batch, count))
        return timed

    def peak_memory_mb(self) -> float:
        """Return the most memory the process has held so far, Python, libraries and model included."""
        return float(self._ask(("memory",)))

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._connection.close()
        self._process.join(timeout=2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, request: tuple[Any, ...]) -> Any:
        try:
            self._connection.send(request)
        except OSError:
            raise WorkerError(self._obituary()) from None
        return self._receive()

    def _receive(self) -> Any:
        try:
            good, answer = self._connection.recv()
        except (EOFError, OSError):
            raise WorkerError(self._obituary()) from None
        if not good:
            raise WorkerError(answer)
        return answer

    def _obituary(self) -> str:
        self._process.join(timeout=10)
        words = " ".join(self._log.read_text(errors="replace").split()) if self._log.is_file() else ""
        said = f": {words[-_LAST_WORDS:]}" if words else ""
        return f"its process ended with exit code {self._process.exitcode}{said}"


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set what libraries read at their import, for the child to inherit."""
    count = str(threads)
    wanted = {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "RAYON_NUM_THREADS": count,  # the tokenizer's
        "TOKENIZERS_PARALLELISM": "true",
        "HF_HUB_OFFLINE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _serve(connection: Connection, job: Job, spec: Spec, log: Path, build: bool) -> None:
    """Live in the child: load, then answer requests until the parent hangs up."""
    _redirect(log)
    run: Run | None = None
    try:
        run = _load(job, spec, build)
        connection.send((True, None))
        while run is not None:
            request = connection.recv()
            answer = process_peak_mb() if request[0] == "memory" else _timed(run, job, *request[1:])
            connection.send((True, answer))
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - whatever a library raises becomes a row with a reason
        connection.send((False, _reason(error)))


def _redirect(log: Path) -> None:
    """Send whatever the libraries print to a file: stdout is the parent's, and so is the terminal."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)


def _load(job: Job, spec: Spec, build: bool) -> Run | None:
    import torch

    from elbert.evaluation.bench.systems import SYSTEMS, check_device

    for name in job.plugins:
        importlib.import_module(name)
    check_device(spec.system, job.device)
    torch.set_num_threads(job.threads)
    module = importlib.import_module(SYSTEMS[spec.system].module)
    if build:
        module.build(job, spec)
        return None
    run: Run = module.load(job, spec)
    return run


def _timed(run: Run, job: Job, batch: int, count: int) -> Timed:
    texts = list(islice(cycle(job.texts), count))
    if isinstance(run, Beginning):
        run.begin()
    gc.collect()
    if batch > 1:
        start = time.perf_counter()
        answers = run(texts, batch)
        return Timed(time.perf_counter() - start, answers)
    latencies, parts = [], []
    for text in texts:
        start = time.perf_counter()
        parts.append(run([text], 1))
        latencies.append(time.perf_counter() - start)
    labels = [label for part in parts for label in part.labels]
    layers = [layer for part in parts for layer in part.exit_layers or ()]
    return Timed(sum(latencies), Answers(labels, layers or None), latencies)


def process_peak_mb() -> float:
    """Return the peak of this process in MB (1e6 bytes).

    `getrusage` is the second choice: a spawned process inherits its parent's peak there.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if isinstance(error, ElbertError) else f"{type(error).__name__}: {words}"[:_LAST_WORDS]
