"""Charts are well-formed, keep inside their frame, and label what a reader needs."""

from __future__ import annotations

from itertools import pairwise

import pytest

from elbert.reports import svg


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.83, 0.94), (-3.0, 12.0), (0.0, 1e-6), (2.0, 2.0)])
def test_ticks_are_few_and_inside_the_scale(scale: tuple[float, float]) -> None:
    ticks = svg.ticks(scale, svg.tick_step(scale))
    assert len(ticks) <= 7
    assert all(scale[0] - 1e-5 <= tick <= scale[1] + 1e-5 for tick in ticks)


def test_names_of_lines_that_meet_are_moved_apart_in_order() -> None:
    moved = svg.spread([50, 51, 52, 10], 11, 0, 100)
    assert moved[0] < moved[1] < moved[2]
    assert moved[3] == 10
    ordered = sorted(moved)
    assert all(b - a >= 11 for a, b in pairwise(ordered))
    assert max(svg.spread([99, 99, 99], 11, 0, 100)) <= 100


def test_labels_of_charts_are_escaped() -> None:
    assert "<b>" not in svg.chart(10, '"<b>', svg.text(0, 0, "<b>"))
