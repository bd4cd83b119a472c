"""Draws the picture of an evaluation for a README or a slide: score by depth, and how deep the texts ran.

Knows numbers and matplotlib's figure objects only; no global plotting state is touched, nothing is written to disk.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from elbert.errors import MissingExtraError
from elbert.reports.filters import escaped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PictureFormat = Literal["svg", "png", "pdf"]

# Okabe and Ito's colour-blind safe colours for the data.
COLOURS = {"ink": "#24292f", "rule": "#d0d7de", "depth": "#0072b2", "exits": "#d55e00"}

# What begins the name of an artist that holds a tip.
TIP = "tip: "

# What a colour is called in the style of a page.
_THEME = {
    COLOURS["ink"]: "soft",
    COLOURS["rule"]: "rule",
    COLOURS["depth"]: "s0",
    COLOURS["exits"]: "s1",
    "#ffffff": "page",
}

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


def overview(
    curve: DepthCurve, histogram: Sequence[int], layer_0: int | None = None, *, picture: PictureFormat = "png"
) -> bytes:
    """Draw, side by side, score by depth with the exits beside it, and which share of the texts left after each layer.

    Args:
        curve: what to draw on the left.
        histogram: [M] texts that left after layer 1 … M.
        layer_0: texts that left before them; None where layer 0 is off.
        picture: "svg", "png" or "pdf".

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with styled("overview"):
        figure = new_figure(_SIZE)
        left, right = figure.subplots(1, 2)
        draw_depth(left, curve)
        draw_exits(right, histogram, layer_0)
        return rendered(figure, picture)


def draw_depth(axes: Any, curve: DepthCurve) -> None:
    """Draw score against layers: one depth for all as a line, the policy as a diamond, its other settings as dots."""
    layers = len(curve.scores)
    line = list(enumerate(curve.scores, start=1))
    axes.plot(*zip(*line, strict=True), color=COLOURS["depth"], lw=2)
    tip = "{:.4f} at {:.2f} layers".format
    for place, (depth, score) in enumerate(curve.others):
        label = None if place else "other settings"
        mark(axes, depth, score, tip(score, depth), "exits", marker="o", ms=4, mew=0, alpha=0.4, label=label)
    for layer, score in line:
        label = None if layer > 1 else "one depth for all"
        mark(axes, layer, score, f"layer {layer}: {score:.4f}", "depth", marker="o", ms=5, label=label)
    if curve.exits is not None:
        words = f"this setting: {tip(curve.exits[1], curve.exits[0])}"
        mark(axes, *curve.exits, words, "exits", marker="D", ms=8, mec="white", label="these exits")
    axes.set_xlabel("layers run (mean)")
    axes.set_ylabel(curve.metric)
    first = 0 if curve.exits is not None and curve.exits[0] < 1 else 1  # where most texts leave at layer 0
    axes.set_xlim(first - 0.5, layers + 0.5)
    axes.set_xticks(layer_ticks(layers, first))
    axes.grid(axis="y", lw=0.6)
    widen(axes)
    name_marks(axes)


def widen(axes: Any) -> None:
    """Let an axis of scores cover `_LEAST_RANGE` at least, and end at 1 where none lies above: no score can."""
    low, high = axes.get_ylim()
    spare = max(_LEAST_RANGE - (high - low), 0) / 2
    above = high + spare - 1 - (high - low + 2 * spare) / 50  # a mark at 1 is seen whole
    moved = above if axes.dataLim.y1 <= 1 and above > 0 else 0
    axes.set_ylim(low - spare - moved, high + spare - moved)


def name_marks(axes: Any) -> None:
    """Say above the chart what its marks mean."""
    place: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 3}
    axes.legend(**place, fontsize="small", columnspacing=1, handletextpad=0.4)


def draw_exits(axes: Any, histogram: Sequence[int], layer_0: int | None = None) -> None:
    """Draw the share of texts that left after each layer, and before the first where layer 0 is on."""
    counts = [*([] if layer_0 is None else [layer_0]), *histogram]
    total, layers, first = max(sum(counts), 1), len(histogram), 1 if layer_0 is None else 0
    shares = [100 * count / total for count in counts]
    bars = axes.bar(range(first, layers + 1), shares, color=COLOURS["exits"], width=0.8)
    for layer, (bar, share, count) in enumerate(zip(bars, shares, counts, strict=True), start=first):
        bar.set_gid(f"{TIP}layer {layer}: {count:,} texts, {share:.1f} %")
    axes.set_xlabel("exit layer")
    axes.set_ylabel("texts, %")
    axes.set_xlim(first - 0.6, layers + 0.6)
    axes.set_xticks(layer_ticks(layers, first))
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


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure, of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def mark(axes: Any, x: float, y: float, tip: str, colour: str, **style: Any) -> None:
    """Draw one mark with a tip, which an inline SVG shows under the mouse."""
    axes.plot(x, y, ls="", color=COLOURS[colour], gid=f"{TIP}{tip}", **style)


def layer_ticks(layers: int, first: int = 1) -> list[int]:
    """Return every layer from the first, or every second, … so that about a dozen are labelled; always the last."""
    step = -(-layers // 12)
    return list(range(layers, first - 1, -step))[::-1]


def rendered(figure: Figure, picture: PictureFormat) -> bytes:
    """Return the figure as the bytes of a picture file."""
    stream = io.BytesIO()
    figure.savefig(stream, format=picture, transparent=picture == "svg", dpi=200, metadata=_METADATA[picture])
    return stream.getvalue()


def inline(figure: Figure, label: str) -> Markup:
    """Return the figure as an SVG element for a page: in the page's own colours, so that it follows light and dark.

    Args:
        figure: drawn under `styled`, in `COLOURS`; marks with tips show them under the mouse.
        label: what it shows, for those who can't see it.
    """
    svg = rendered(figure, "svg").decode()
    size = re.findall(r'viewBox="[^"]*"', svg)[0]
    root = f'<svg {size} role="img" aria-label="{escaped(label)}" style="stroke-linejoin: round">'
    svg = root + re.split(r"<svg[^>]*>", svg, maxsplit=1)[1]
    # Its style sheet would be the whole page's, and so would the names that nothing refers to.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(rf'<g id="{TIP}([^"]*)">', r"<g><title>\1</title>", svg)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"\d+\.\d{5,}", lambda found: f"{float(found[0]):.2f}", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg))
    svg = svg.replace("xlink:href", "href")
    for colour, variable in _THEME.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return Markup(svg)
