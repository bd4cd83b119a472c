"""Charts are well-formed, keep inside their frame, and label what a reader needs."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from elbert.reports import svg
from elbert.reports.run_charts import exit_layers, score_by_depth


def words_of(html: str) -> list[str]:
    picture = html[html.index("<svg") : html.index("</svg>") + 6]
    return ["".join(node.itertext()) for node in ElementTree.fromstring(picture).iter("text")]


def test_score_by_depth_names_its_axes_and_every_mark_has_a_tip() -> None:
    html = score_by_depth([0.5, 0.7, 0.8], "accuracy", (1.5, 0.8), [(1, 0.5)])
    assert {"accuracy", "layers run (mean)", "1", "2", "3"} <= set(words_of(html))
    assert "this setting: 0.8000 at 1.50 layers" in html
    assert "other settings" in html


def test_a_difference_of_a_text_or_two_does_not_fill_the_picture() -> None:
    words = words_of(score_by_depth([0.930, 0.931], "accuracy", (1, 0.93), []))
    numbers = [float(word) for word in words if word.startswith("0.")]
    assert max(numbers) - min(numbers) >= 0.06


def test_no_texts_and_one_layer_can_be_drawn() -> None:
    words_of(exit_layers([0, 0]))
    words_of(exit_layers([3]))
    words_of(score_by_depth([0.5], "accuracy", (1, 0.5), []))


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
