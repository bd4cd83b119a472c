"""Layers drawn for timing keep the mean asked for, and the work of deciding is done."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from drawn import Drawn, distribution
from elbert.exits import ExitPolicy, registry, replay
from elbert.exits.elbert import Elbert

# Importing it made it known to the whole process; the other tests are to see what a user sees.
registry._policies.pop("drawn")


@pytest.mark.parametrize("layers", [12, 24])
@pytest.mark.parametrize("speedup", [1.0, 2.0, 3.0, 5.0])
def test_drawn_layers_have_the_mean_asked_for(layers: int, speedup: float) -> None:
    shares = distribution(layers, layers / speedup)
    assert shares.sum() == pytest.approx(1)
    mean = sum(share * layer for layer, share in enumerate(shares, 1))
    assert mean == pytest.approx(layers / speedup, rel=1e-3)


def test_every_stretch_of_rows_has_about_that_mean_whatever_the_exits_say() -> None:
    probs = torch.full((100, 12, 2), 0.5)
    probs[:50, :, 0], probs[:50, :, 1] = 1.0, 0.0  # as sure as can be: ELBERT's rule would let them go at layer 1
    policy = Drawn(3.0, 12)
    for _ in range(3):
        drawn = replay(policy, probs)
        assert drawn.double().mean() == pytest.approx(4.0, rel=0.05)
        assert len(drawn.unique()) > 6


def test_draws_by_content_have_about_that_mean_too_and_stay_as_drawn() -> None:
    logits = torch.randn(3000, 12, 2, generator=torch.Generator().manual_seed(0))
    policy = Drawn(3.0, 12, by_content=True)
    drawn = replay(policy, logits.softmax(-1))
    assert drawn.double().mean() == pytest.approx(4.0, rel=0.05)
    assert len(drawn.unique()) > 6
    assert replay(policy, logits[:100].softmax(-1)).equal(drawn[:100])  # neighbours do not matter


def test_elberts_own_state_is_kept_beside_so_that_its_work_is_done() -> None:
    own = Elbert(0.1, 8).start(5, 2)
    assert set(Drawn().start(5, 2)) == {*own, "drawn"}


def test_a_worker_can_make_it_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._policies, "drawn", Drawn)
    assert ExitPolicy.from_dict(Drawn(5.0, 24).to_dict()) == Drawn(5.0, 24)
