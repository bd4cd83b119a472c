"""A promise about all texts, and a class that is one in a hundred of them."""

from __future__ import annotations

import numpy as np
import torch

from elbert.calibration import calibrate
from elbert.calibration.doubts import rare_classes
from elbert.results import LayerOutputs


def outputs(n: int = 2000) -> tuple[LayerOutputs, np.ndarray]:
    """Two exits: the first is sure of the common class everywhere, the second finds the rare one, 1 % of the texts."""
    labels = (np.arange(n) % 100 == 0).astype(int)
    first = torch.tensor([[0.99, 0.01]]).expand(n, 2)
    second = torch.where(torch.tensor(labels)[:, None] == 1, torch.tensor([[0.1, 0.9]]), torch.tensor([[0.9, 0.1]]))
    probs = torch.stack((first, second), 1)
    return LayerOutputs(probs.log(), probs, torch.full((n,), 5)), labels


def test_the_evidence_says_what_every_class_gives_up_and_a_rare_one_is_warned_of() -> None:
    recorded, labels = outputs()
    evidence = calibrate(recorded, labels, {"p": 0.02})["p"].evidence
    assert evidence["guaranteed"]
    common, rare = evidence["classes"]
    assert (common["recall"], common["full_depth_recall"], common["share"]) == (1, 1, 0.99)
    assert (rare["recall"], rare["full_depth_recall"], rare["share"]) == (0, 1, 0.01)
    assert rare_classes(evidence, ("fine", "bad")) == (
        "a promise of 0.02 over all texts protects no class this rare: 'bad' (1.0% of the texts, recall 1.000 to 0.000)"
    )


def test_nothing_is_said_where_no_class_is_rare_or_nothing_is_promised() -> None:
    recorded, labels = outputs()
    kept = calibrate(recorded, labels, {"p": 0.001})["p"].evidence
    assert not kept["guaranteed"]
    assert rare_classes(kept, ("fine", "bad")) is None
    assert rare_classes(calibrate(recorded, None, {"p": 0.02})["p"].evidence, ("fine", "bad")) is None
