"""A class made rare in every draw: the plain promise gives it away, the one that protects it does not."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from calibration import World, measure_thin


def world() -> World:
    """1,000 texts of two classes and four exits, of which the first misses a fifth of class b."""
    labels = np.arange(1000) % 2
    by_exit = np.zeros((1000, 4))
    by_exit[:, 0] = (labels == 1) & (np.arange(1000) % 10 == 1)
    return World("made", np.repeat(np.arange(4, 0, -1)[:, None], 1000, 1), by_exit, labels, ("a", "b"))


def options(**more: object) -> argparse.Namespace:
    """What the command would be given."""
    return argparse.Namespace(**{"thin": "b", "share": 0.05, "seed": 0, "confidence": 0.9, "draws": 12, **more})


def test_protecting_the_rare_class_keeps_its_recall(capsys: pytest.CaptureFixture[str]) -> None:
    plain, protected = measure_thin(world(), 3000, 0.05, options())
    assert plain["kept"] == 0.0
    assert (plain["recall_lost"], plain["layer_speedup"]) == pytest.approx((0.2, 4.0))
    assert (protected["kept"], protected["recall_lost"]) == (1.0, 0.0)
    assert protected["layer_speedup"] == pytest.approx(2.0)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(SystemExit, match="--thin 'c' is no class of made; allowed: a, b"):
        measure_thin(world(), 3000, 0.05, options(thin="c"))
