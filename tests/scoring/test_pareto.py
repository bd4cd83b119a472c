from __future__ import annotations

import numpy as np
import pytest

from elbert.scoring.pareto import area, curve, depths_between, front


def test_a_front_is_what_nothing_else_beats() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        depths, scores = rng.integers(1, 6, size=12), rng.integers(0, 6, size=12)
        points = list(zip(depths, scores, strict=True))
        for place, (kept, (depth, score)) in enumerate(zip(front(depths, scores), points, strict=True)):
            beaten = any(d <= depth and s >= score and (d, s) != (depth, score) for d, s in points)
            assert kept == (not beaten and (depth, score) not in points[:place])


def test_a_curve_joins_its_settings_and_is_level_beyond_them() -> None:
    at = depths_between(4)
    heights = dict(zip(at.tolist(), curve([3, 2], [0.9, 0.5], at).tolist(), strict=True))
    assert heights[1.0] == heights[2.0] == 0.5
    assert heights[2.5] == pytest.approx(0.7)
    assert heights[3.0] == heights[4.0] == 0.9


def test_the_area_is_the_mean_height() -> None:
    at = depths_between(3)
    assert area(curve([1, 3], [0.0, 1.0], at), at) == pytest.approx(0.5)
    assert area(curve([1, 2], [0.0, 1.0], at), at) == pytest.approx(0.75)
    assert area(np.full((2, len(at)), 0.8), at) == pytest.approx([0.8, 0.8])


def test_a_single_layer_has_an_area_too() -> None:
    at = depths_between(1)
    assert at.tolist() == [1]
    assert area(curve([1], [0.6], at), at) == 0.6
