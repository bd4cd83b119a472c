from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from elbert.evaluation.sweep import Sweep, sweep
from elbert.exits import get
from elbert.exits.words import with_words
from elbert.reports import sweep_plots
from tests.evaluation.test_sweep import recorded, with_layer_0
from tests.reports.test_plots import texts_of

pytest.importorskip("matplotlib")

DRAWINGS: list[Callable[..., bytes]] = [
    sweep_plots.score_by_layers,
    sweep_plots.score_by_speedup,
    sweep_plots.chosen_exits,
    sweep_plots.gains,
]


def swept(problem_type: Any = "single_label_classification", *, words: bool = False) -> Sweep:
    outputs, labels = recorded(problem_type)
    settings = [setting for name in ("elbert", "entropy") for setting in get(name).grid(5, outputs.probs.shape[2])]
    if words:
        outputs, settings = with_layer_0(outputs, labels), [*settings, *with_words(settings)]
    result = sweep(outputs, labels, settings, bootstrap=100)

    def timed(curve: Any) -> Any:
        return replace(curve, points=tuple(replace(each, speedup=each.layer_speedup) for each in curve.points))

    return replace(result, curves=tuple(map(timed, result.curves)))


@pytest.mark.parametrize("draw", DRAWINGS)
def test_every_policy_is_named_on_the_picture(draw: Callable[..., bytes]) -> None:
    words = " ".join(texts_of(draw(swept(), picture="svg")))
    assert "elbert" in words
    assert "entropy" in words


def test_where_texts_leave_at_layer_0_curves_and_bars_begin_before_layer_1() -> None:
    result = swept(words=True)
    plain, words = (texts_of(sweep_plots.score_by_layers(each, picture="svg")) for each in (swept(), result))
    assert "elbert+words" in words
    assert ("0" in plain, "0" in words) == (False, True)
    assert sweep_plots._before_layer_1(result.curve("elbert+words"))
    bars = texts_of(sweep_plots.chosen_exits(result, picture="svg"))
    assert any(word.startswith("elbert+words: ") for word in bars), "layers of the setting in the title"
    assert bars.count("0") > texts_of(sweep_plots.chosen_exits(swept(), picture="svg")).count("0")


def test_axes_and_the_constant_depth_are_named() -> None:
    assert {"mean exit layer", "accuracy", "fixed depth"} <= set(
        texts_of(sweep_plots.score_by_layers(swept(), picture="svg"))
    )
    assert {"speedup, measured", "fixed depth"} <= set(texts_of(sweep_plots.score_by_speedup(swept(), picture="svg")))
    assert {"exit layer", "texts, %"} <= set(texts_of(sweep_plots.chosen_exits(swept(), picture="svg")))
    assert {"area", "fixed depth"} <= set(texts_of(sweep_plots.gains(swept(), picture="svg")))


def test_places_without_a_policy_are_left_empty() -> None:
    result = swept(words=True)
    five = replace(result, curves=(*result.curves, result.curve("entropy")))
    words = texts_of(sweep_plots.score_by_layers(five, picture="svg"))
    assert words.count("5") == 4, "layers are named below the last panel of each column, and below nothing else"


def test_a_policy_that_lets_no_text_leave_has_no_panel() -> None:
    words = texts_of(sweep_plots.score_by_layers(swept("regression"), picture="svg"))
    assert "elbert" in words
    assert "entropy" not in words  # a value has no entropy


@pytest.mark.parametrize("draw", DRAWINGS)
def test_nothing_to_show_is_drawn_as_nothing_rather_than_refused(draw: Callable[..., bytes]) -> None:
    outputs, labels = recorded("regression")
    assert draw(sweep(outputs, labels, get("entropy").grid(5, 1), bootstrap=100)).startswith(b"\x89PNG")
