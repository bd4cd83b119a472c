"""One line of the result per system, precision and batch size, worked out of its timed runs. Measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.evaluation.bench.job import Spec, Timed
from elbert.evaluation.bench.systems import REFERENCE, settings_of
from elbert.exits.tokens import TokenSchedule, token_layers


@dataclass(frozen=True)
class Row:
    """How fast one system was at one batch size.

    Attributes:
        system: who.
        backend: what computed.
        dtype: in which precision.
        batch: texts in flight; 1 means one by one, in input order.
        policy: the exits, as JSON; None for a peer.
        settings: what one has to know to repeat it.
        n: texts of each round.
        texts_per_second: n over the median round's seconds; None, as all numbers, where there is a `reason`.
        seconds: of each round.
        spread: (slowest - fastest round) / median.
        p50_ms: median time of one text, at batch 1 only.
        p95_ms: time that 95 texts in 100 stay below, at batch 1 only.
        p99_ms: time that 99 texts in 100 stay below, at batch 1 only.
        score: of its answers, by the problem type's metric.
        same_labels: share of its answers that are `transformers` float32's; None for values, or where it did not run.
        times_reference: texts_per_second over that of `transformers` float32.
        mean_exit_layer: layers a text ran on average, over all rounds; None for a peer.
        layer_speedup: M / mean exit layer.
        token_layer_speedup: the same where a text counts by its tokens: sum of tokens × M / sum of tokens × exit layer,
            of each layer those that ran it.
        speedup: median seconds of the same weights, backend and dtype at full depth over these.
        engine_efficiency: speedup / layer_speedup.
        load_s: making its files, loading, quantising.
        first_run_s: its first run at this batch size, compiling and warming up.
        peak_memory_mb: of its whole process, in 1e6 bytes.
        reason: why there are no numbers.
    """

    system: str
    backend: str
    dtype: str
    batch: int
    policy: dict[str, Any] | None = None
    settings: str = ""
    n: int = 0
    texts_per_second: float | None = None
    seconds: list[float] = field(default_factory=list)
    spread: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    score: float | None = None
    same_labels: float | None = None
    times_reference: float | None = None
    mean_exit_layer: float | None = None
    layer_speedup: float | None = None
    token_layer_speedup: float | None = None
    speedup: float | None = None
    engine_efficiency: float | None = None
    load_s: float | None = None
    first_run_s: float | None = None
    peak_memory_mb: float | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def row_of(
    spec: Spec, batch: int, runs: Sequence[Timed], *, layers: int, lengths: NDArray[np.int64], **facts: Any
) -> Row:
    """Return what the timed rounds of one system at one batch size amount to, but for comparisons with others.

    Args:
        spec: the system.
        batch: texts in flight.
        runs: its rounds; the answers are those of the last, the exit layers those of all, as are the seconds.
        layers: M.
        lengths: tokens of each text of the race; a round may run the first of them only, or begin again.
        facts: other fields of the row, such as its score.
    """
    seconds = [run.seconds for run in runs]
    median = max(statistics.median(seconds), 1e-9)
    last = runs[-1].answers
    depths = np.array([run.answers.exit_layers for run in runs if run.answers.exit_layers])  # [rounds, n]
    depth = float(depths.mean()) if len(depths) else None
    tokens = np.resize(lengths, len(last.labels))
    waits = np.array([wait for run in runs for wait in run.latencies or ()]) * 1000
    return replace(
        empty_row(spec, batch),
        n=len(last.labels),
        texts_per_second=len(last.labels) / median,
        seconds=seconds,
        spread=(max(seconds) - min(seconds)) / median,
        p50_ms=float(np.percentile(waits, 50)) if len(waits) else None,
        p95_ms=float(np.percentile(waits, 95)) if len(waits) else None,
        p99_ms=float(np.percentile(waits, 99)) if len(waits) else None,
        mean_exit_layer=depth,
        layer_speedup=layers / depth if depth else None,
        token_layer_speedup=float(layers * tokens.sum() / _token_layers(spec, tokens, depths)) if depth else None,
        **facts,
    )


def _token_layers(spec: Spec, lengths: NDArray[np.int64], depths: NDArray[np.int64]) -> float:
    """Return the token-layers of all texts, meaned over the rounds [rounds, n]; the policy may drop tokens."""
    kept = (spec.policy or {}).get("tokens")
    schedule = None if kept is None else TokenSchedule.from_dict(kept)
    return float(np.mean([token_layers(schedule, lengths, each).sum() for each in depths]))


def empty_row(spec: Spec, batch: int, reason: str | None = None) -> Row:
    """Return a row without numbers."""
    return Row(spec.system, spec.backend, spec.dtype, batch, spec.policy, settings_of(spec), reason=reason)


def compared(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with what each is worth beside `transformers` float32, and ours beside their own full depth."""
    rates = {(row.system, row.backend, row.dtype, row.batch): row.texts_per_second for row in rows}
    finished = []
    for row in rows:
        reference = rates.get((REFERENCE[0], "torch", REFERENCE[1], row.batch))
        if row.texts_per_second and reference:
            row = replace(row, times_reference=row.texts_per_second / reference)
        full = rates.get(("elbert-full", row.backend, row.dtype, row.batch))
        if row.texts_per_second and row.layer_speedup and full:
            speedup = row.texts_per_second / full
            row = replace(row, speedup=speedup, engine_efficiency=speedup / row.layer_speedup)
        finished.append(row)
    return finished
