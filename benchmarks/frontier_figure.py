"""The picture of one corpus of the frontier: score over texts per second. Knows lines and times, runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from elbert.reports.plots import COLOURS, rendered, styled
from frontier_records import OURS, Line

_OURS = {"float32": "o", "bfloat16": "^", "int8": "D"}
_RIVALS = ("s", "v", "P", "X", "*", "h", "<", ">")

# Room below and above the scores.
_SPARE = 0.02

# Published scores nearer than this share of the height get one label.
_NEAR = 0.03


def picture(lines: Sequence[Line], times: Mapping[str, Any], published: Any, metric: str) -> bytes:
    """Draw score over texts per second: ours by precision, the rivals by name, published scores as dotted lines."""
    with styled("frontier"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.0, 4.2), layout="constrained")
        axes = figure.subplots()
        points = [(times.get(line.key, {}).get("texts_per_second"), line) for line in lines]
        shown = [(rate, line) for rate, line in points if rate]
        _draw_ours(axes, shown)
        rivals = dict.fromkeys(line.name for _, line in shown if line.row not in OURS)
        for marker, name in zip(cycle(_RIVALS), rivals, strict=False):  # a name may come in several precisions
            own = sorted((rate, line.score) for rate, line in shown if line.name == name)
            axes.plot(*zip(*own, strict=True), marker, ls="-", lw=0.6, ms=6, color=COLOURS["depth"], label=name)
        scores = [line.score for _, line in shown]
        low, high = min(scores, default=0.0) - _SPARE, max(scores, default=1.0) + _SPARE
        _draw_published(axes, [each for each in published if low < each["value"] < high], high - low)
        axes.set_ylim(low, high)
        axes.set_xscale("log")
        axes.set_xlabel("texts per second")
        axes.set_ylabel(metric)
        axes.grid(lw=0.4)
        figure.legend(loc="outside right upper", fontsize=7)
        return rendered(figure, "svg")


def _draw_published(axes: Any, published: Sequence[Mapping[str, Any]], height: float) -> None:
    """Draw a dotted line a score; scores too near for a label each share one."""
    place: Any = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom", "fontsize": 6}
    near: list[Mapping[str, Any]] = []
    for each in [*sorted(published, key=lambda one: float(one["value"])), None]:
        if near and (each is None or each["value"] - near[0]["value"] > _NEAR * height):
            names = "; ".join(one["name"] for one in reversed(near))
            axes.annotate(f"{names} (published)", (1, near[-1]["value"]), **place)
            near = []
        if each is not None:
            axes.axhline(each["value"], color=COLOURS["ink"], lw=0.5, ls=":")
            near.append(each)


def _draw_ours(axes: Any, shown: Sequence[tuple[float, Line]]) -> None:
    """Draw ours: a line a row and precision, filled with layer 0, hollow without it."""
    kinds = [(row, dtype, filled) for row in OURS for dtype in _OURS for filled in (True, False)]
    for row, dtype, filled in kinds:
        kind = (row, dtype, filled)
        own = sorted((rate, line.score) for rate, line in shown if (line.row, line.dtype, line.words) == kind)
        if own:
            title = "ours" if row == OURS[0] else "ours + words"
            label = f"{title}, {dtype}" + (", layer 0" if filled else "")
            colour, line = (COLOURS["exits"], "-") if row == OURS[0] else ("#009e73", "--")
            face = colour if filled else "white"
            axes.plot(*zip(*own, strict=True), _OURS[dtype], ls=line, lw=0.6, ms=5, color=colour, mfc=face, label=label)
