"""Which few classes of a trace are drawn, and what stands for the rest, so that 150 classes stay readable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
        values: one for each of `Trace.stages`.
    """

    letter: str
    name: str
    kind: str
    values: list[float]


def series_of(trace: Trace) -> list[Series]:
    """Return what is drawn: the answers of the exit and the last layer, then what else comes up; the rest last."""
    probs = stage_probs(trace)
    if not trace.labels:
        columns = probs.T.tolist()
        names = ["value"] if len(columns) == 1 else [f"value {place}" for place in range(1, len(columns) + 1)]
        return [_series(place, names[place], column) for place, column in enumerate(columns[:MOST])]
    chosen = chosen_classes(trace)
    shown = [_series(place, trace.labels[index], probs[:, index].tolist()) for place, index in enumerate(chosen)]
    others = [index for index in range(len(trace.labels)) if index not in set(chosen)]
    if others:
        name, values = task_of(trace.problem_type).rest(probs[:, others])
        shown.append(Series("", name, "s5", values.tolist()))
    return shown


def stage_probs(trace: Trace) -> Tensor:
    """Return what each of `Trace.stages` said, [stages, C]."""
    return torch.stack([trace.said(layer) for layer in trace.stages])


def chosen_classes(trace: Trace) -> list[int]:
    """Return the indices of the classes with a line of their own, at most `MOST`."""
    probs, task = stage_probs(trace), task_of(trace.problem_type)
    first = [index for row in (trace.exit_probs, probs[-1], *probs) for index in task.chosen(row.tolist())]
    most = 1 + MOST if len(trace.labels) == 1 + MOST else MOST  # a rest of one class would only hide its name
    return list(dict.fromkeys([*first, *probs.amax(0).argsort(descending=True).tolist()]))[: min(most, MOST + 1)]


def _series(place: int, name: str, values: list[float]) -> Series:
    return Series("ABCDEF"[place], name, f"s{place}", values)
