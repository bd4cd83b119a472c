"""Draws the two pictures of an evaluation as SVG or PNG bytes: score by depth, and how deep the texts ran.

Knows numbers and matplotlib's figure objects only; no global plotting state is touched, nothing is written to disk.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from elbert.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PictureFormat = Literal["svg", "png"]

# Okabe and Ito's colour-blind safe colours for the data; a report maps each of these to a colour of its theme.
COLOURS = {"ink": "#24292f", "rule": "#d0d7de", "depth": "#0072b2", "exits": "#d55e00"}

# A phone shows a picture about this wide at its own size, so that 10 point text stays 10 points.
_SIZE = (4.8, 3.2)

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
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


def score_by_depth(
    scores: Sequence[float],
    *,
    metric: str,
    exits: tuple[float, float] | None = None,
    curve: Sequence[tuple[float, float]] = (),
    picture: PictureFormat = "svg",
) -> bytes:
    """Draw the score when every text runs the same number of layers, and where the exits stand beside it.

    Args:
        scores: [M] the score of each layer's exit.
        metric: what the score is, to label the axis.
        exits: (mean exit layer, score) of the policy in use.
        curve: the same pair for other settings of the policy, drawn as a line.
        picture: "svg" or "png".

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with _styled(f"score_by_depth-{metric}"):
        figure, axes = _axes("layers run (mean)", metric)
        axes.plot(
            range(1, len(scores) + 1), scores, marker="o", ms=4, color=COLOURS["depth"], label="same depth for all"
        )
        if curve:
            ordered = sorted(curve)
            axes.plot(
                *zip(*ordered, strict=True), ls="--", lw=1.2, color=COLOURS["exits"], label="exits, other settings"
            )
        if exits is not None:
            axes.plot(*exits, marker="D", ms=8, ls="", color=COLOURS["exits"], label="exits, this setting")
        axes.set_xlim(0.5, len(scores) + 0.5)
        axes.set_xticks(_layer_ticks(len(scores)))
        axes.grid(axis="y", lw=0.6)
        axes.legend(loc="lower right", fontsize=9)
        return _rendered(figure, picture)


def exit_layers(histogram: Sequence[int], *, picture: PictureFormat = "svg") -> bytes:
    """Draw which share of the texts left after each layer.

    Args:
        histogram: [M] texts that left after layer 1 … M.
        picture: "svg" or "png".

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    total = max(sum(histogram), 1)
    with _styled("exit_layers"):
        figure, axes = _axes("exit layer", "texts, %")
        layers = range(1, len(histogram) + 1)
        axes.bar(layers, [100 * count / total for count in histogram], color=COLOURS["exits"], width=0.8)
        axes.set_xlim(0.4, len(histogram) + 0.6)
        axes.set_xticks(_layer_ticks(len(histogram)))
        axes.grid(axis="y", lw=0.6)
        axes.set_axisbelow(True)
        return _rendered(figure, picture)


def check_installed() -> None:
    """Find out before any work is done whether pictures can be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plots")


def _styled(salt: str) -> Any:
    """Return a context with our style; `salt` makes the names inside an SVG repeatable and its own."""
    check_installed()
    import matplotlib as mpl

    return mpl.rc_context({**_STYLE, "svg.hashsalt": salt})


def _axes(x_label: str, y_label: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _layer_ticks(layers: int) -> list[int]:
    """Return every layer, or every second, … so that at most a dozen are labelled; always the last."""
    step = -(-layers // 12)
    return list(range(layers, 0, -step))[::-1]


def _rendered(figure: Figure, picture: PictureFormat) -> bytes:
    stream = io.BytesIO()
    # No date and no address inside: the same numbers give the same bytes.
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None} if picture == "svg" else {}
    figure.savefig(stream, format=picture, transparent=picture == "svg", dpi=200, metadata=metadata)
    return stream.getvalue()
