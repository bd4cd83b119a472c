"""The parts of the interactive chart of one text, as inline SVG. Colours are classes, so that they follow the theme.

The page's script moves marks over this chart, which is why matplotlib doesn't draw it, as it draws all others. A
chart is 360 units wide, about what a phone shows at its own size, so that 11 unit text stays readable there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

from elbert.reports.filters import escaped
from elbert.reports.plots import layer_ticks

WIDTH = 360


@dataclass(frozen=True, slots=True)
class Frame:
    """The area data is drawn in, and the scales of both axes.

    Attributes:
        left, top, width, height: in units of the chart.
        x: values at the left and right edge.
        y: values at the bottom and top edge.
    """

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def px(self, value: float) -> float:
        """Return where a value stands from the left."""
        low, high = self.x
        return round(self.left + self.width * (value - low) / ((high - low) or 1), 1)

    def py(self, value: float) -> float:
        """Return where a value stands from the top."""
        low, high = self.y
        return round(self.top + self.height * (1 - (value - low) / ((high - low) or 1)), 1)

    def axes(self, x_label: str = "", y_label: str = "", layers: range = range(0)) -> str:
        """Draw horizontal rules with their values, layer numbers below, and both names."""
        parts = []
        step = tick_step(self.y, self.height / 34)
        places = max(0, -floor(log10(step)))
        for value in ticks(self.y, step):
            y = self.py(value)
            parts.append(f'<path class="rule" d="M{self.left} {y}h{self.width}"/>')
            parts.append(text(self.left - 5, y + 3.5, f"{value:.{places}f}", "end"))
        for layer in layer_ticks(layers[-1], layers[0]) if layers else ():
            parts.append(text(self.px(layer), self.top + self.height + 14, str(layer), "middle"))
        if x_label:
            parts.append(text(self.left + self.width, self.top + self.height + 28, x_label, "end", "name"))
        if y_label:
            parts.append(text(self.left, self.top - 8, y_label, "start", "name"))
        return "".join(parts)


def chart(height: float, label: str, *parts: str) -> Markup:
    """Return a whole SVG.

    Args:
        height: in units; the width is `WIDTH`.
        label: what it shows, for those who can't see it.
        parts: its content.
    """
    size = f'viewBox="0 0 {WIDTH} {height:g}"'
    return Markup(f'<svg {size} role="img" aria-label="{escaped(label)}">{"".join(parts)}</svg>')


def text(x: float, y: float, content: str, anchor: str = "start", kind: str = "tick") -> str:
    """Return one line of text."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escaped(content)}</text>'


def line(frame: Frame, points: Iterable[tuple[float, float]], kind: str) -> str:
    """Return a line through the points."""
    way = " ".join(f"{frame.px(x):g},{frame.py(y):g}" for x, y in points)
    return f'<polyline class="line {kind}" points="{way}"/>'


def dot(frame: Frame, x: float, y: float, kind: str, tip: str = "", radius: float = 3) -> str:
    """Return a dot with a tip that shows under the mouse."""
    return (
        f'<circle class="dot {kind}" cx="{frame.px(x):g}" cy="{frame.py(y):g}" r="{radius:g}">'
        f"{f'<title>{escaped(tip)}</title>' if tip else ''}</circle>"
    )


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places between `low` and `high` moved apart until neighbours are `gap` away, in the order given."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved, lowest = list(places), low
    for place in order:
        moved[place] = lowest = max(moved[place], lowest)
        lowest += gap
    for place in reversed(order):
        moved[place] = min(moved[place], high)
        high = moved[place] - gap
    return moved


def tick_step(scale: tuple[float, float], wanted: float = 4.5) -> float:
    """Return a round step of 1, 2 or 5 that gives about `wanted` intervals, rather a few more than fewer."""
    rough = max(0.75 * (scale[1] - scale[0]) / max(wanted, 1), 1e-9)
    power = 10.0 ** floor(log10(rough))
    return next((power * factor for factor in (1, 2, 5) if power * factor >= rough), power * 10)


def ticks(scale: tuple[float, float], step: float) -> list[float]:
    """Return the round values inside a scale."""
    first, last = ceil(scale[0] / step - 1e-6), floor(scale[1] / step + 1e-6)
    return [number * step for number in range(first, last + 1)]
