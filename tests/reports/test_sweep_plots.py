from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from elbert.evaluation.sweep import Sweep, sweep
from elbert.exits import get
from elbert.reports import sweep_plots
from tests.evaluation.test_sweep import recorded
from tests.reports.test_plots import texts_of

pytest.importorskip("matplotlib")

DRAWINGS: list[Callable[..., bytes]] = [
    sweep_plots.score_by_layers,
    sweep_plots.score_by_speedup,
    sweep_plots.chosen_exits,
    sweep_plots.gains,
]


def swept(problem_type: Any = "single_label_classification") -> Sweep:
    outputs, labels = recorded(problem_type)
    settings = [setting for name in ("elbert", "entropy") for setting in get(name).grid(5, outputs.probs.shape[2])]
    result = sweep(outputs, labels, settings, bootstrap=100)

    def timed(curve: Any) -> Any:
        return replace(curve, points=tuple(replace(each, speedup=each.layer_speedup) for each in curve.points))

    return replace(result, curves=tuple(map(timed, result.curves)))


@pytest.mark.parametrize("draw", DRAWINGS)
def test_every_policy_is_named_on_the_picture(draw: Callable[..., bytes]) -> None:
    words = " ".join(texts_of(draw(swept(), picture="svg")))
    assert "elbert" in words
    assert "entropy" in words


def test_axes_and_the_constant_depth_are_named() -> None:
    assert {"mean exit layer", "accuracy", "fixed depth"} <= set(
        texts_of(sweep_plots.score_by_layers(swept(), picture="svg"))
    )
    assert {"speedup, measured", "fixed depth"} <= set(texts_of(sweep_plots.score_by_speedup(swept(), picture="svg")))
    assert {"exit layer", "texts, %"} <= set(texts_of(sweep_plots.chosen_exits(swept(), picture="svg")))
    assert {"area", "fixed depth"} <= set(texts_of(sweep_plots.gains(swept(), picture="svg")))


def test_a_policy_that_lets_no_text_leave_has_no_panel() -> None:
    words = texts_of(sweep_plots.score_by_layers(swept("regression"), picture="svg"))
    assert "elbert" in words
    assert "entropy" not in words  # a value has no entropy


@pytest.mark.parametrize("draw", DRAWINGS)
def test_nothing_to_show_is_drawn_as_nothing_rather_than_refused(draw: Callable[..., bytes]) -> None:
    outputs, labels = recorded("regression")
    assert draw(sweep(outputs, labels, get("entropy").grid(5, 1), bootstrap=100)).startswith(b"\x89PNG")
