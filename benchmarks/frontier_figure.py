"""The picture of one corpus of the frontier: score over texts per second. Knows lines and times, runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elbert.reports.plots import COLOURS, rendered, styled
from frontier_records import Line


def picture(lines: Sequence[Line], times: Mapping[str, Any], published: Any, metric: str) -> bytes:
    """Draw score over texts per second: ours by precision, every other row named, published scores as dotted lines."""
    with styled("frontier"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.6, 4.2), layout="constrained")
        axes = figure.subplots()
        points = [(times.get(line.key, {}).get("texts_per_second"), line) for line in lines]
        shown = [(rate, line) for rate, line in points if rate]
        _draw_ours(axes, shown)
        for rate, line in shown:
            if line.row != "ours":
                axes.plot(rate, line.score, "s", ms=5, color=COLOURS["ink"])
                axes.annotate(line.name, (rate, line.score), (4, 4), textcoords="offset points", fontsize=6)
        for each in published:
            axes.axhline(each["value"], color=COLOURS["rule"], lw=0.8, ls=":")
            said = f"{each['name']} (published)"
            axes.annotate(
                said, (1, each["value"]), xycoords=("axes fraction", "data"), fontsize=5, ha="right", va="bottom"
            )
        low = min((line.score for _, line in shown), default=0.0)
        axes.set_ylim(bottom=max(low - 0.05, -0.05))
        axes.set_xscale("log")
        axes.set_xlabel("texts per second")
        axes.set_ylabel(metric)
        axes.grid(lw=0.4)
        axes.legend(loc="lower left", fontsize=7)
        return rendered(figure, "svg")


def _draw_ours(axes: Any, shown: Sequence[tuple[float, Line]]) -> None:
    """Draw ours: a line a precision, filled with layer 0, hollow without it."""
    styles = {"float32": "o", "bfloat16": "^", "int8": "D"}
    for dtype, marker in styles.items():
        own = sorted(
            (rate, line.score, line.words) for rate, line in shown if line.row == "ours" and line.dtype == dtype
        )
        for filled in (True, False):
            part = [(rate, score) for rate, score, words in own if words is filled]
            if part:
                label = f"ours, {dtype}" + (", layer 0" if filled else "")
                colour, face = COLOURS["exits"], COLOURS["exits"] if filled else "white"
                axes.plot(*zip(*part, strict=True), marker, ls="-", lw=0.6, ms=5, color=colour, mfc=face, label=label)
