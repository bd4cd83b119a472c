"""Draws the picture of an evaluation for a README or a slide: score by depth, and how deep the texts ran.

Knows numbers and matplotlib's figure objects only; no global plotting state is touched, nothing is written to disk.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from elbert.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PictureFormat = Literal["svg", "png", "pdf"]

# Okabe and Ito's colour-blind safe colours for the data.
COLOURS = {"ink": "#24292f", "rule": "#d0d7de", "depth": "#0072b2", "exits": "#d55e00"}

# Two pictures as wide as a phone shows at its own size, side by side.
_SIZE = (9.6, 3.2)

# The score axis covers at least this much, so that a difference of one text in a hundred doesn't look like a cliff.
_LEAST_RANGE = 0.1

# No date and no address inside: the same numbers give the same bytes.
_METADATA: dict[PictureFormat, dict[str, None]] = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
    "png": {},
}

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "pdf.fonttype": 42,  # TrueType: what journals ask for
    "svg.fonttype": "none",  # real text: searchable, and in the page's own font
    "axes.edgecolor": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["ink"],
    "ytick.color": COLOURS["ink"],
    "grid.color": COLOURS["rule"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class DepthCurve:
    """What the picture of score by depth shows.

    Attributes:
        scores: [M] the score of each layer's exit, as if every text ran that many layers.
        metric: what the score is, to label the axis.
        exits: (mean exit layer, score) of the policy in use.
        others: the same pair for other settings of the policy, drawn as dots.
    """

    scores: Sequence[float]
    metric: str
    exits: tuple[float, float] | None = None
    others: Sequence[tuple[float, float]] = ()


def overview(curve: DepthCurve, histogram: Sequence[int], *, picture: PictureFormat = "png") -> bytes:
    """Draw, side by side, score by depth with the exits beside it, and which share of the texts left after each layer.

    Args:
        curve: what to draw on the left.
        histogram: [M] texts that left after layer 1 … M.
        picture: "svg", "png" or "pdf".

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with styled("overview"):
        figure = _figure()
        left, right = figure.subplots(1, 2)
        _draw_depth(left, curve)
        _draw_exits(right, histogram)
        return rendered(figure, picture)


def _draw_depth(axes: Any, curve: DepthCurve) -> None:
    layers = len(curve.scores)
    axes.plot(range(1, layers + 1), curve.scores, marker="o", ms=4, color=COLOURS["depth"], label="same depth for all")
    if curve.others:
        others = zip(*curve.others, strict=True)
        axes.plot(*others, marker=".", ms=5, ls="", alpha=0.5, color=COLOURS["exits"], label="exits, other settings")
    if curve.exits is not None:
        axes.plot(*curve.exits, marker="D", ms=8, ls="", color=COLOURS["exits"], label="exits, this setting")
    axes.set_xlabel("layers run (mean)")
    axes.set_ylabel(curve.metric)
    axes.set_xlim(0.5, layers + 0.5)
    axes.set_xticks(layer_ticks(layers))
    axes.grid(axis="y", lw=0.6)
    low, high = axes.get_ylim()
    spare = max(_LEAST_RANGE - (high - low), 0) / 2
    axes.set_ylim(low - spare, high + spare)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=8, columnspacing=1, handletextpad=0.4)


def _draw_exits(axes: Any, histogram: Sequence[int]) -> None:
    total, layers = max(sum(histogram), 1), len(histogram)
    axes.bar(range(1, layers + 1), [100 * count / total for count in histogram], color=COLOURS["exits"], width=0.8)
    axes.set_xlabel("exit layer")
    axes.set_ylabel("texts, %")
    axes.set_xlim(0.4, layers + 0.6)
    axes.set_xticks(layer_ticks(layers))
    axes.grid(axis="y", lw=0.6)
    axes.set_axisbelow(True)


def check_installed() -> None:
    """Find out before any work is done whether pictures can be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plots")


def styled(salt: str, **style: Any) -> Any:
    """Return a context with our style, and `style` over it; `salt` makes the names inside an SVG repeatable."""
    check_installed()
    import matplotlib as mpl

    settings: Any = {**_STYLE, **style, "svg.hashsalt": salt}
    return mpl.rc_context(settings)


def _figure() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=_SIZE, layout="constrained")


def layer_ticks(layers: int) -> list[int]:
    """Return every layer, or every second, … so that at most a dozen are labelled; always the last."""
    step = -(-layers // 12)
    return list(range(layers, 0, -step))[::-1]


def rendered(figure: Figure, picture: PictureFormat) -> bytes:
    """Return the figure as the bytes of a picture file."""
    stream = io.BytesIO()
    figure.savefig(stream, format=picture, transparent=picture == "svg", dpi=200, metadata=_METADATA[picture])
    return stream.getvalue()
