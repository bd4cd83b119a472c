"""The charts of a run: score by depth, where texts left, and exit layer against length and confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from markupsafe import Markup
from torch import Tensor

from elbert.reports.filters import where_left
from elbert.reports.plots import (
    COLOURS,
    DepthCurve,
    draw_depth,
    draw_exits,
    inline,
    layer_ticks,
    mark,
    name_marks,
    new_figure,
    styled,
)  # fmt: skip
from elbert.reports.run import Run

# Inches; on a page a chart is as wide as its column, on a phone about as wide as this.
_SIZE = (4.4, 2.8)
_BINS = 8


def score_by_depth(curve: DepthCurve) -> Markup:
    """Return score against layers, with the policy in use and its other settings."""
    here = "" if curve.exits is None else f" Exits reach {curve.exits[1]:.3f} after {curve.exits[0]:.1f} layers;"
    label = f"{curve.metric} by depth.{here} full depth {curve.scores[-1]:.3f}."
    return _chart(label, lambda axes: draw_depth(axes, curve))


def exit_layers(histogram: Sequence[int], layer_0: int | None = None) -> Markup:
    """Return the share of texts that left after each layer, and before the first where layer 0 is on."""
    counts = [layer_0 or 0, *histogram]
    most = max(range(len(counts)), key=lambda layer: (counts[layer], layer > 0))
    share = 100 * counts[most] / max(sum(counts), 1)
    label = f"Texts by exit layer; most, {share:.0f} %, leave {where_left(most, len(histogram))}."
    return _chart(label, lambda axes: draw_exits(axes, histogram, layer_0))


def by_length(run: Run) -> Markup | None:
    """Return mean exit layer of shorter and longer texts, in bins of about equally many, with the middle 80 %."""
    lengths = run.outputs.lengths.double()
    edges = torch.quantile(lengths[: 10**6], torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)).unique()
    if len(edges) < 3:
        return None
    place = torch.bucketize(lengths, edges[1:-1], right=True)
    numbers = [number for number in range(len(edges) - 1) if bool((place == number).any())]

    def draw(axes: Any) -> None:
        for x, number in enumerate(numbers):
            layers, name = run.exit_layer[place == number].double(), _range(lengths[place == number])
            low, high = (float(torch.quantile(layers[: 10**6], share)) for share in (0.1, 0.9))
            mean = float(layers.mean())
            axes.plot((x, x), (low, high), color=COLOURS["ink"], lw=1.4, label="the middle 80 %" if not x else None)
            tip = f"{name} tokens: {mean:.2f} layers, {len(layers):,} texts"
            mark(axes, x, mean, tip, "depth", marker="o", ms=7, label="mean" if not x else None)
        axes.set_xticks(range(len(numbers)), [_range(lengths[place == number]) for number in numbers])
        axes.set_xlim(-0.5, len(numbers) - 0.5)
        axes.set_ylim(run.stages[0] - 0.2, max(run.layers, 2) + 0.2)
        axes.set_xlabel("tokens")
        axes.set_ylabel("exit layer")
        name_marks(axes)

    return _chart("Mean exit layer by the length of the text, in tokens.", draw)


def by_confidence(run: Run) -> Markup | None:
    """Return, for each exit layer, the mean confidence of its texts and the share of them that is right."""
    confidence, verdicts = run.confidence, run.verdicts
    if not bool(confidence.isfinite().all()):
        return None

    def draw(axes: Any) -> None:
        names = ["mean confidence", "share that is right"]  # the legend names each once
        for layer in run.stages:
            here = run.exit_layer == layer
            if not bool(here.any()):
                continue
            sure = float(confidence[here].double().mean())
            tip = f"layer {layer}, {int(here.sum()):,} texts: confidence {sure:.3f}"
            if verdicts is not None:
                right = float(verdicts.at_exit[here].double().mean())
                axes.plot((layer, layer), (sure, right), color=COLOURS["ink"], lw=1.4)
                mark(axes, layer, right, f"{tip}, right {right:.3f}", "depth", marker="o", ms=7, label=names[1])
            mark(axes, layer, sure, tip, "exits", marker="D", ms=7, mfc="white", mew=1.6, label=names[0])
            names = [None, None]  # type: ignore[list-item]
        axes.set_xlim(run.stages[0] - 0.6, run.layers + 0.6)
        axes.set_ylim(0, 1.03)
        axes.set_xticks(layer_ticks(run.layers, run.stages[0]))
        axes.set_xlabel("exit layer")
        axes.set_ylabel("share")
        name_marks(axes)

    return _chart("Mean confidence, and the share that is right, by exit layer.", draw)


def _chart(label: str, draw: Callable[[Any], None]) -> Markup:
    with styled(label):
        figure = new_figure(_SIZE)
        axes = figure.subplots()
        draw(axes)
        axes.grid(axis="y", lw=0.6)
        axes.tick_params(length=0)
        return inline(figure, label)


def _range(values: Tensor) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}–{high}"
