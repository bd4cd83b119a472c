"""Draws what a sweep found, for papers and pages: one small panel per policy, each beside a constant depth.

Colours and style are those of `plots`; nothing here decides anything but where ink goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from elbert.evaluation.sweep import Sweep
from elbert.reports.plots import COLOURS, PictureFormat, layer_ticks, new_figure, rendered, styled, widen
from elbert.scoring.points import TradeoffCurve, TradeoffPoint

# Panels in a row, and the size of one in inches: four are as wide as the text of an A4 page.
_COLUMNS = 4
_PANEL = (1.75, 1.7)

# Accuracy, F1 or correlation that the settings in the picture of exits may give up.
CHOSEN_DROP = 0.01

_SMALL = {"font.size": 8, "axes.titlesize": 9, "axes.titlelocation": "left", "xtick.labelsize": 7, "ytick.labelsize": 7}


def score_by_layers(sweep: Sweep, *, picture: PictureFormat = "png") -> bytes:
    """Draw each policy's curve with its band over its settings (dots), beside a constant depth and full depth.

    Where texts leave at layer 0 it goes on before layer 1, through the settings on the front, and has no band there.
    """
    shallowest = _shallowest(sweep)

    def draw(axes: Any, curve: TradeoffCurve, first: bool) -> None:
        fixed = sweep.curve("fixed")
        _full_depth(axes, sweep)
        axes.plot(fixed.depths, fixed.scores, color=COLOURS["depth"], lw=1)
        axes.fill_between(curve.depths, curve.low, curve.high, color=COLOURS["exits"], alpha=0.18, lw=0)
        settings = [(point.mean_exit_layer, point.score) for point in curve.points]
        axes.plot(*zip(*settings, strict=True), ls="", marker=".", ms=3, alpha=0.5, mew=0, color=COLOURS["exits"])
        line = [*_before_layer_1(curve), *zip(curve.depths, curve.scores, strict=True)]
        axes.plot(*zip(*line, strict=True), color=COLOURS["exits"], lw=1.4)
        axes.set_xlim(shallowest, sweep.layers)
        axes.set_xticks(_few_layers(sweep.layers, shallowest))
        if first:
            _name_lines(axes, 1)

    depth = "mean exit layer"
    if any("tokens" in point.policy for point in sweep.points):
        depth += "; with +tokens each layer by the share of tokens it ran"
    return _panels(sweep, _leaving(sweep), draw, depth, sweep.metric, "score_by_layers", picture)


def score_by_speedup(sweep: Sweep, *, picture: PictureFormat = "png") -> bytes:
    """Draw the score of the settings that were timed against their measured speedup, beside a constant depth."""
    timed = {curve.policy: _timed(curve) for curve in sweep.curves}

    def draw(axes: Any, curve: TradeoffCurve, first: bool) -> None:
        _full_depth(axes, sweep)
        for name, colour, marker in (("fixed", "depth", "s"), (curve.policy, "exits", "o")):
            points = sorted([*timed.get(name, []), (1.0, sweep.full_depth.score)])
            axes.plot(*zip(*points, strict=True), color=COLOURS[colour], lw=1, marker=marker, ms=3.5)
        if first:
            _name_lines(axes, 0)

    chosen = [curve for curve in _leaving(sweep) if timed[curve.policy]]
    return _panels(sweep, chosen, draw, "speedup, measured", sweep.metric, "score_by_speedup", picture)


def chosen_exits(sweep: Sweep, *, picture: PictureFormat = "png") -> bytes:
    """Draw where texts left under the fastest setting of each policy that gives up at most 0.01 of full depth."""
    chosen = {curve.policy: sweep.fastest(curve.policy, CHOSEN_DROP) for curve in _leaving(sweep)}
    shallowest = _shallowest(sweep)

    def draw(axes: Any, curve: TradeoffCurve, first: bool) -> None:
        del first
        point = chosen[curve.policy]
        histogram = ((point.layer_0 or 0.0), *point.exit_histogram)[shallowest:] if point is not None else ()
        shares = [100 * count / sweep.n for count in histogram]
        axes.bar(range(shallowest, shallowest + len(shares)), shares, color=COLOURS["exits"], width=0.8)
        axes.set_title(f"{curve.policy}: {point.mean_exit_layer:.1f} layers" if point else curve.policy)
        axes.set_xlim(shallowest - 0.6, sweep.layers + 0.6)
        axes.set_xticks(_few_layers(sweep.layers, shallowest))
        axes.set_axisbelow(True)

    curves = [curve for curve in _leaving(sweep) if chosen[curve.policy] is not None]
    return _panels(sweep, curves, draw, "exit layer", "texts, %", "chosen_exits", picture)


def gains(sweep: Sweep, *, picture: PictureFormat = "png") -> bytes:
    """Draw each policy's area above a constant depth's, with its band; the ring has settings chosen on other texts."""
    curves = sorted(_leaving(sweep), key=lambda curve: curve.gain)
    fixed = sweep.curve("fixed")
    with styled("gains", **_SMALL):
        figure = new_figure((4.8, 0.9 + 0.26 * max(len(curves), 1)))
        axes = figure.subplots()
        axes.axvline(0, color=COLOURS["depth"], lw=1)
        for row, curve in enumerate(curves):
            axes.plot(curve.gain_band, (row, row), color=COLOURS["exits"], lw=1.6, solid_capstyle="butt")
            axes.plot(curve.gain, row, marker="o", ms=5, color=COLOURS["exits"])
            held_out = curve.area_held_out - fixed.area_held_out
            axes.plot(held_out, row, marker="o", ms=5, mfc="white", color=COLOURS["exits"], mew=1)
            _beside(axes, row, f"{curve.area:.3f}")
        _beside(axes, len(curves) - 0.3, "area", weight="bold")
        axes.set_yticks(range(len(curves)), [curve.policy for curve in curves])
        axes.set_ylim(-0.6, len(curves) - 0.1)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(
            f"area above fixed depth ({fixed.area:.3f}), in {sweep.metric}\nring: settings chosen on other texts"
        )
        axes.annotate("fixed depth", (0, 1), (3, -1), xycoords=("data", "axes fraction"),
                      textcoords="offset points", va="top", color=COLOURS["depth"])  # fmt: skip
        axes.grid(axis="x", lw=0.6)
        return rendered(figure, picture)


def _panels(
    sweep: Sweep,
    curves: Sequence[TradeoffCurve],
    draw: Callable[[Any, TradeoffCurve, bool], None],
    x: str,
    y: str,
    salt: str,
    picture: PictureFormat,
) -> bytes:
    """Draw one panel per curve, all on the same two axes."""
    with styled(salt, **_SMALL):
        columns = min(_COLUMNS, max(len(curves), 1))
        rows = max(-(-len(curves) // columns), 1)
        figure = new_figure((columns * _PANEL[0] + 0.35, rows * _PANEL[1] + 0.25))
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for place, (axes, curve) in enumerate(zip(grid, curves, strict=False)):
            axes.grid(axis="y", lw=0.5)
            axes.set_title(curve.policy, color=COLOURS["exits"])
            draw(axes, curve, place == 0)
            axes.tick_params(labelbottom=place >= len(curves) - columns)
        for axes in grid[len(curves) :]:
            axes.set_visible(False)
        if y == sweep.metric:
            widen(grid[0])
        figure.supxlabel(x, fontsize=8)
        figure.supylabel(y, fontsize=8)
        return rendered(figure, picture)


def _leaving(sweep: Sweep) -> list[TradeoffCurve]:
    """Return the curves of policies under which some text leaves early, without the constant depth's."""
    others = [curve for curve in sweep.curves if curve.policy != "fixed"]
    return [each for each in others if any(point.mean_exit_layer < sweep.layers for point in each.points)]


def _timed(curve: TradeoffCurve) -> list[tuple[float, float]]:
    points: list[TradeoffPoint] = [point for point in curve.points if point.speedup is not None]
    return [(point.speedup or 0.0, point.score) for point in points]


def _full_depth(axes: Any, sweep: Sweep) -> None:
    axes.axhline(sweep.full_depth.score, color=COLOURS["ink"], lw=0.8, ls=(0, (1, 2)))


def _name_lines(axes: Any, corner: float) -> None:
    """Name the two lines that every panel has, in the lower corner where its own line never comes: 0 left, 1 right."""
    side = {"ha": "right" if corner else "left", "fontsize": 7, "transform": axes.transAxes}
    inside = 0.97 if corner else 0.04
    axes.text(inside, 0.14, "fixed depth", color=COLOURS["depth"], **side)
    axes.text(inside, 0.03, "full depth, dotted", color=COLOURS["ink"], **side)


def _beside(axes: Any, row: float, words: str, **style: Any) -> None:
    axes.annotate(words, (1.02, row), xycoords=("axes fraction", "data"), va="center", annotation_clip=False, **style)


def _shallowest(sweep: Sweep) -> int:
    """Return the first layer that an axis shows: 0 where some setting asks layer 0."""
    return 1 if all(point.layer_0 is None for point in sweep.points) else 0


def _before_layer_1(curve: TradeoffCurve) -> list[tuple[float, float]]:
    """Return (mean exit layer, score) of the settings on a curve's front under which texts run less than a layer."""
    front = [(point.mean_exit_layer, point.score) for point in curve.points if point.on_front]
    return sorted(each for each in front if each[0] < 1)


def _few_layers(layers: int, first: int = 1) -> list[int]:
    """Return at most six layers to label, always the last."""
    ticks = layer_ticks(layers, first)
    return ticks[::-1][:: -(-len(ticks) // 6)][::-1]
