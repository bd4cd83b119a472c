"""Scores exactly at the threshold, in numbers fp32 holds exactly: the side each formula puts them on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from elbert.exits import make, replay

MULTI, REGRESSION = "multi_label_classification", "regression"
EVEN = [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("name", "parameters", "rows", "problem_type", "exit_layer"),
    [
        ("elbert", {"threshold": 1.0, "window": 0}, EVEN * 4, None, 4),  # H < δ
        ("entropy", {"threshold": 1.0}, EVEN * 4, None, 4),
        ("pcee", {"threshold": 1.0, "patience": 1}, EVEN * 4, None, 4),
        ("epee", {"threshold": 1.0, "patience": 2}, EVEN * 4, None, 3),
        ("max_prob", {"threshold": 0.75}, [[0.75, 0.25]] * 3 + EVEN, None, 4),  # max p > θ
        ("beem", {"threshold": 1.25}, [[0.75, 0.25], *EVEN, *EVEN, *EVEN], None, 2),  # S >= θ
        ("beem", {"threshold": 0.5, "reading": "code", "growth": 0.5}, [[1.0, 0.0]] * 4, None, 2),
        ("patience", {"patience": 1, "tolerance": 0.5}, [[1.0], [1.5], [1.75], [2.0]], REGRESSION, 3),  # |Δy| < τ
        ("f_pabee", {"patience": 1, "threshold": 0.5}, [[1.0], [1.5], [1.75], [2.0]], REGRESSION, 3),
        ("f_pabee", {"patience": 1, "threshold": 0.0}, EVEN * 4, None, 4),  # D = 0 is not below 0
        ("elbert", {"threshold": 0.0, "window": 2}, [[0.5, 0.25]] * 4, MULTI, 2),  # unchanged is not falling
        ("patience", {"patience": 1}, [[0.5, 0.25], [0.75, 0.25], [0.9, 0.25]], MULTI, 2),  # p = 0.5 is in the set
        ("patience", {"patience": 2}, [*EVEN, [0.6, 0.4], *EVEN, [0.1, 0.9]], None, 3),  # equals: the first class
    ],
)
def test_a_tie_falls_as_the_formula_says(
    name: str, parameters: dict[str, Any], rows: list[list[float]], problem_type: Any, exit_layer: int
) -> None:
    assert replay(make(name, **parameters), torch.tensor([rows]), problem_type).tolist() == [exit_layer]
