"""The words and tables that pages of `compare.py` are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence


def gain(value: float, edges: tuple[float, float]) -> str:
    """Return a difference with its band, bold where the band lies on one side of 0."""
    words = f"{value:+.3f} ({edges[0]:+.3f} … {edges[1]:+.3f})"
    return f"**{words}**" if edges[0] > 0 or edges[1] < 0 else words


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, an empty one last."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    return [*lines, ""]


def plain(name: str) -> str:
    """Return a name as part of a file's."""
    return re.sub(r"[^\w.]+", "-", name)
