from __future__ import annotations

from xml.etree import ElementTree

import pytest

from elbert.errors import MissingExtraError
from elbert.reports import plots

pytest.importorskip("matplotlib")


CURVE = plots.DepthCurve([0.5, 0.7, 0.8], "accuracy", (1.5, 0.8), [(1, 0.5), (3, 0.8)])


def texts_of(svg: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_difference_of_a_text_or_two_does_not_fill_the_picture() -> None:
    words = texts_of(plots.overview(plots.DepthCurve([0.930, 0.931], "accuracy"), [1, 2], picture="svg"))
    ticks = [float(word) for word in words if word.startswith("0.")]
    assert max(ticks) - min(ticks) >= 0.06


@pytest.mark.parametrize("scores", [[0.976, 0.971], [0.999, 1.0]])
def test_an_axis_of_scores_ends_at_1_where_none_lies_above(scores: list[float]) -> None:
    words = texts_of(plots.overview(plots.DepthCurve(scores, "accuracy"), [1, 2], picture="svg"))
    ticks = [float(word) for word in words if word.startswith(("0.", "1."))]
    assert max(ticks) == 1
    assert max(ticks) - min(ticks) >= 0.06


def test_an_overview_holds_both_pictures() -> None:
    words = texts_of(plots.overview(CURVE, [1, 3, 4], picture="svg"))
    for word in (
        "accuracy",
        "layers run (mean)",
        "these exits",
        "one depth for all",
        "exit layer",
        "texts, %",
    ):
        assert word in words


def test_no_texts_at_all_can_be_drawn() -> None:
    assert plots.overview(CURVE, [0, 0], picture="svg").startswith(b"<?xml")


@pytest.mark.parametrize("layers", [1, 12, 13, 24, 48])
def test_at_most_a_dozen_layers_are_labelled_and_always_the_last(layers: int) -> None:
    ticks = plots.layer_ticks(layers)
    assert len(ticks) <= 12
    assert ticks[-1] == layers


def test_png_is_png_and_pdf_is_pdf() -> None:
    assert plots.overview(CURVE, [1, 2, 0]).startswith(b"\x89PNG")
    assert plots.overview(CURVE, [1, 2, 0], picture="pdf").startswith(b"%PDF")


def test_the_same_numbers_give_the_same_bytes_and_leave_the_global_style_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    for picture in ("svg", "pdf", "png"):
        assert plots.overview(CURVE, [1, 2, 0], picture=picture) == plots.overview(CURVE, [1, 2, 0], picture=picture)
    assert dict(mpl.rcParams) == before


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'elbert\[plots\]'"):
        plots.overview(CURVE, [1, 2, 0])
