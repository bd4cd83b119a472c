"""Which few classes of a trace are drawn, and what stands for the rest, so that 150 classes stay readable."""

from __future__ import annotations

from dataclasses import dataclass

from elbert.results import Trace
from elbert.tasks import task_of

# Classes with a line of their own; the rest is one line.
MOST = 5


@dataclass(frozen=True, slots=True)
class Series:
    """One line of the chart.

    Attributes:
        letter: what marks it in the chart and beside every answer; empty for the rest.
        name: of the class, or what the rest is; plain text.
        kind: CSS class of its colour and dashes, `s0` to `s5`.
        values: [M] one per layer.
    """

    letter: str
    name: str
    kind: str
    values: list[float]


def series_of(trace: Trace) -> list[Series]:
    """Return what is drawn: the answers of the exit and the last layer, then what else comes up; the rest last."""
    if not trace.labels:
        columns = trace.probs.T.tolist()
        names = ["value"] if len(columns) == 1 else [f"value {place}" for place in range(1, len(columns) + 1)]
        return [_series(place, names[place], column) for place, column in enumerate(columns[:MOST])]
    chosen = chosen_classes(trace)
    shown = [_series(place, trace.labels[index], trace.probs[:, index].tolist()) for place, index in enumerate(chosen)]
    others = [index for index in range(len(trace.labels)) if index not in set(chosen)]
    if others:
        name, values = task_of(trace.problem_type).rest(trace.probs[:, others])
        shown.append(Series("", name, "s5", values.tolist()))
    return shown


def chosen_classes(trace: Trace) -> list[int]:
    """Return the indices of the classes with a line of their own, at most `MOST`."""
    probs, exit_row = trace.probs, trace.probs[trace.exit_layer - 1]
    task = task_of(trace.problem_type)
    first = [index for row in (exit_row, probs[-1], *probs) for index in task.chosen(row.tolist())]
    most = 1 + MOST if len(trace.labels) == 1 + MOST else MOST  # a rest of one class would only hide its name
    return list(dict.fromkeys([*first, *probs.amax(0).argsort(descending=True).tolist()]))[: min(most, MOST + 1)]


def _series(place: int, name: str, values: list[float]) -> Series:
    return Series("ABCDEF"[place], name, f"s{place}", values)
