"""Speed levels stand by what they cost, and say how deep they go."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("fastapi")

from elbert.classifier import Classifier
from elbert.exits import make
from elbert.serving.ladder import Ladder

# Of each: its policy, and what its calibration found.
LEVELS: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "deep": ({"layer": 3, "tokens": {"1": 0.1}}, {"mean_exit_layer": 3.0, "token_layers": 0.3}),
    "exact": ({"layer": 4}, {"mean_exit_layer": 4.0, "token_layers": 1.0}),
    "flat": ({"layer": 2}, {"mean_exit_layer": 2.0, "token_layers": 0.5}),
    "once": ({"layer": 1}, {"mean_exit_layer": 1.5}),  # calibrated when no schedule was tried
}


@pytest.fixture
def levels() -> Ladder:
    """A model of 4 layers; one level goes deeper than another, with so few tokens that it costs less."""
    classifier = Classifier.from_pretrained("random-tiny")
    for name, (values, evidence) in LEVELS.items():
        classifier.policies[name] = make("fixed", **values)
        classifier.calibration[name] = evidence
    classifier.policy = classifier.policies["flat"]
    return Ladder.of(classifier)


def test_levels_stand_by_the_tokens_of_their_layers_and_say_how_deep_they_go(levels: Ladder) -> None:
    assert levels.names == ("exact", "flat", "once", "deep")
    assert levels.mean_exit_layers == (4.0, 2.0, 1.5, 3.0)
    assert levels.usual == 1
