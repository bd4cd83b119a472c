"""What a text leaves out, tokens or layers: tried with every policy, held against full depth with nothing left out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from elbert.calibration import calibrate
from elbert.calibration.paths import path, with_shortcuts
from elbert.exits import make
from elbert.exits.gates import Shortcut, SkipGates, shortcut_field
from elbert.exits.tokens import TokenSchedule
from elbert.tasks import SINGLE_LABEL
from tests.calibration.conftest import late, leaving_out, some

HALF, GATES = TokenSchedule(((1, 0.5),)), SkipGates()


def test_every_shortcut_has_every_sequence_for_itself_at_an_equal_share_of_the_level() -> None:
    alone = path(make("elbert"), 6, 2, SINGLE_LABEL, words=True)
    ways = (None, HALF, TokenSchedule(((1, 0.125),)), GATES)
    tried = with_shortcuts(alone, ways)
    assert len(tried.policies) == 4 * len(alone.policies)
    assert sum(each.share for each in tried.sequences) == pytest.approx(1)
    for place, way in enumerate(ways):
        for own, given in zip(tried.sequences[3 * place : 3 * place + 3], alone.sequences, strict=True):
            assert own.share == pytest.approx(given.share / 4)
            wanted = [dataclasses.replace(alone.policies[at], **shortcut_field(way)) for at in given.places]
            assert [tried.policies[at] for at in own.places] == wanted
    assert with_shortcuts(alone, (None,)) == alone


@pytest.mark.parametrize("way", [HALF, GATES])
@pytest.mark.parametrize("labelled", [True, False])
def test_what_a_shortcut_loses_is_held_against_full_depth_that_leaves_out_nothing(
    record: Any, way: Shortcut, labelled: bool
) -> None:
    """Against its own full depth it would lose nothing, wherever texts leave."""
    outputs, labels = record(1500, classes=2)
    whole = late(dataclasses.replace(outputs, logits=outputs.logits[:, -1:].repeat(1, 6, 1)))
    asked: dict[str, Any] = {"promises": {"some": 0.05}, "family": "max_prob"}
    for wrong, taken in ((some(0.2, 1500), None), (None, way)):
        also = leaving_out(whole, way, wrong)
        found = calibrate(whole, labels if labelled else None, shortened=[also], **asked)["some"]
        assert (found.guaranteed, found.policy.shortcut) == (True, taken)


@pytest.mark.parametrize("way", [HALF, GATES])
def test_a_protected_class_is_protected_from_shortcuts_too(record: Any, way: Shortcut) -> None:
    outputs, labels = record(3000, classes=3)
    whole = late(outputs)
    bad = leaving_out(whole, way, torch.tensor(labels) == 2)
    asked: dict[str, Any] = {"promises": {"much": 0.5}, "family": "max_prob", "shortened": [bad]}
    assert calibrate(whole, labels, **asked)["much"].policy.shortcut == way
    assert calibrate(whole, labels, protect=[2], **asked)["much"].policy.shortcut is None
