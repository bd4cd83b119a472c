"""Charts on a page: well-formed, named, in the page's colours, the same in every run, and safe."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from elbert.reports.filters import escaped
from elbert.reports.plots import DepthCurve
from elbert.reports.run_charts import exit_layers, score_by_depth

pytest.importorskip("matplotlib")

CURVE = DepthCurve([0.5, 0.7, 0.8], "accuracy", (1.5, 0.8), [(1, 0.5)])


def words_of(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("text")]


def test_score_by_depth_names_its_axes_and_every_mark_has_a_tip() -> None:
    svg = score_by_depth(CURVE)
    assert {"accuracy", "layers run (mean)", "1", "2", "3", "other settings"} <= set(words_of(svg))
    tips = re.findall("<title>(.*?)</title>", svg)
    assert sorted(tips) == sorted(
        ["layer 1: 0.5000", "layer 2: 0.7000", "layer 3: 0.8000", "0.5000 at 1.00 layers",
         "this setting: 0.8000 at 1.50 layers"]
    )  # fmt: skip


def test_every_bar_has_a_tip_and_the_picture_says_in_words_what_it_shows() -> None:
    svg = exit_layers([1, 3, 0])
    assert "<title>layer 2: 3 texts, 75.0 %</title>" in svg
    assert 'role="img" aria-label="Texts by exit layer; most, 75 %, leave after layer 2 of 3."' in svg


def test_a_difference_of_a_text_or_two_does_not_fill_the_picture() -> None:
    words = words_of(score_by_depth(DepthCurve([0.930, 0.931], "accuracy", (1, 0.93))))
    numbers = [float(word) for word in words if word.startswith("0.")]
    assert max(numbers) - min(numbers) >= 0.06


def test_no_texts_and_one_layer_can_be_drawn() -> None:
    words_of(exit_layers([0, 0]))
    early = exit_layers([1, 3, 0], 6)
    assert "most, 60 %, leave before the first layer" in early
    assert "layer 0: 6 texts, 60.0 %" in early
    words_of(exit_layers([3]))
    words_of(score_by_depth(DepthCurve([0.5], "accuracy", (1, 0.5))))


def test_every_colour_is_the_pages_own_so_that_light_and_dark_are_followed() -> None:
    for svg in (score_by_depth(CURVE), exit_layers([1, 3, 0])):
        assert not re.search(r"#[0-9a-fA-F]{6}\b", svg)
        assert {"--s1", "--soft", "--rule"} <= set(re.findall(r"var\((--[a-z0-9]+)\)", svg))


def test_the_same_numbers_give_the_same_bytes_and_charts_of_one_page_share_no_id() -> None:
    first, second = score_by_depth(CURVE), exit_layers([1, 3, 0])
    assert (first, second) == (score_by_depth(CURVE), exit_layers([1, 3, 0]))
    ids = [set(re.findall(r' id="([^"]*)"', svg)) for svg in (first, second)]
    assert ids[0].isdisjoint(ids[1])
    assert "http" not in first.replace("http://www.w3.org/", "")


def test_a_metric_named_by_somebody_else_cannot_break_out() -> None:
    svg = score_by_depth(DepthCurve([0.5, 0.6], '"><script>x</script>', (1, 0.5)))
    assert "<script" not in svg
    ElementTree.fromstring(svg)
    assert escaped('"><script>x</script>') in svg
