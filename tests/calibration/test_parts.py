"""A promise that holds class by class, or wherever texts leave: what is tested, what is chosen, and that it is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from elbert.calibration import calibrate
from elbert.calibration.doubts import rare_classes
from elbert.calibration.losses import Losses, label_losses
from elbert.calibration.parts import Parts, class_parts, protected_classes
from elbert.calibration.search import choose
from elbert.errors import UsageError
from elbert.exits import replay
from elbert.results import LayerOutputs


def rare(texts: int, seed: int = 0, share: float = 0.1, lost: float = 0.5) -> tuple[LayerOutputs, Any]:
    """Five exits that find every common text; of the rare ones the others miss a share `lost`."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(texts, generator=generator) < share).long()
    missed = torch.rand(texts, 1, generator=generator).expand(texts, 5) < lost
    missed = missed & (torch.arange(5) < 4)
    said = torch.where(missed, 0, labels[:, None].expand(texts, 5))
    sure = 0.5 + torch.rand(texts, 5, generator=generator) / 2
    probs = torch.stack((torch.where(said == 0, sure, 1 - sure), torch.where(said == 1, sure, 1 - sure)), -1)
    return LayerOutputs(probs.log(), probs, torch.full((texts,), 8)), labels.numpy()


def test_a_plain_promise_gives_the_rare_class_away_and_protecting_it_keeps_it() -> None:
    outputs, labels = rare(6000, share=0.05, lost=0.1)
    asked: dict[str, Any] = {"promises": {"p": 0.02}, "family": "fixed"}
    plain = calibrate(outputs, labels, **asked)["p"]
    kept = calibrate(outputs, labels, **asked, protect=[1])["p"]
    assert plain.guaranteed
    assert plain.evidence["classes"][1]["recall"] < 0.93
    assert kept.policy.to_dict() != plain.policy.to_dict()
    assert kept.evidence["classes"][1]["recall"] == kept.evidence["classes"][1]["full_depth_recall"] == 1
    assert rare_classes({**plain.evidence}, ("fine", "bad")) is not None
    assert rare_classes({**kept.evidence, "protect": ["bad"]}, ("fine", "bad")) is None


def test_a_protected_class_loses_more_than_promised_no_more_often_than_said() -> None:
    runs, max_drop = 60, 0.05
    broken = plain = 0
    for seed in range(runs):
        outputs, labels = rare(1500, seed, share=0.3, lost=0.055)  # a hair more than promised
        for protect in ((1,), ()):
            policy = calibrate(outputs, labels, {"p": max_drop}, family="fixed", protect=protect)["p"].policy
            early = bool((replay(policy, outputs) < 5).any())
            broken, plain = broken + (early and protect == (1,)), plain + (early and not protect)
    assert broken <= binom.isf(0.005, runs, 0.1)
    assert plain > binom.isf(0.005, runs, 0.1)


def test_the_p_value_is_the_greatest_over_the_parts() -> None:
    outputs, labels = rare(1500, share=0.3, lost=0.03)
    losses = label_losses(outputs, labels, "accuracy")
    layers = np.ones((1, 1500), dtype=np.int64)
    classes = class_parts(outputs, labels, [0, 1])
    plain, rare_alone, both = (
        choose(layers, Parts(losses, "paired", chosen), 0.05, 0.1).p_value for chosen in ((), classes[1:], classes)
    )
    members = classes[1][0]
    by_hand = choose(layers[:, members], Losses(losses.by_exit[members], "", "paired"), 0.05, 0.1).p_value
    assert plain < rare_alone == both == by_hand


def test_several_labels_are_protected_each_by_its_own_texts(record: Any) -> None:
    outputs, labels = record(1500, kind="multi_label_classification")
    ((members, losses),) = class_parts(outputs, labels, [2])
    assert members.tolist() == [bool(row[2]) for row in labels]
    assert losses.by_exit[:, -1].tolist() == (outputs.probs[:, -1, 2] < 0.5).double().tolist()
    evidence = calibrate(outputs, labels, {"p": 0.1}, protect=[2])["p"].evidence
    assert evidence["guaranteed"]
    assert evidence["classes"][2]["recall"] > evidence["classes"][2]["full_depth_recall"] - 0.1


def test_too_few_texts_of_a_class_give_full_depth_and_say_how_many_it_takes() -> None:
    outputs, labels = rare(1500, share=0.05)
    found = calibrate(outputs, labels, {"p": 0.02}, protect=[1])["p"]
    count = int(labels.sum())
    assert not found.guaranteed
    assert found.evidence["note"] == (
        f"full depth: a protected class has {count} texts to test on; 0.02 at 0.9 takes 115 of each"
    )


def test_every_layers_gap_stands_in_the_evidence(record: Any) -> None:
    outputs, labels = record(1500)
    evidence = calibrate(outputs, labels, {"p": 0.03})["p"].evidence
    gaps = evidence["exit_gaps"]
    assert [each["n"] for each in gaps] == [n for n in evidence["exit_histogram"] if n]
    total = sum(each["n"] * each["gap"] for each in gaps) / 1500
    assert total == pytest.approx(evidence["full_depth_score"] - evidence["score"], abs=1e-4)
    assert gaps[-1]["gap"] == 0 or gaps[-1]["layer"] < outputs.probs.shape[1]


def concentrated(texts: int, seed: int = 0) -> tuple[LayerOutputs, Any]:
    """Six exits; a tenth of the texts are sure at the first and often wrong there, the rest are unsure until right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (texts,), generator=generator)
    hasty = torch.rand(texts, generator=generator) < 0.1
    wrong = hasty[:, None] & (torch.rand(texts, 1, generator=generator) < 0.5) & (torch.arange(6) < 2)
    unsure = ~hasty[:, None] & (torch.rand(texts, 1, generator=generator) < 0.3) & (torch.arange(6) < 3)
    said = torch.where(wrong | unsure, 1 - labels[:, None], labels[:, None])
    sure = torch.where(hasty[:, None] | (torch.arange(6) > 2), 0.999, 0.6).expand(texts, 6)
    probs = torch.stack((torch.where(said == 0, sure, 1 - sure), torch.where(said == 1, sure, 1 - sure)), -1)
    return LayerOutputs(probs.log(), probs, torch.full((texts,), 8)), labels.numpy()


def test_a_conditional_promise_does_not_let_many_right_answers_pay_for_a_few_hasty_ones() -> None:
    outputs, labels = concentrated(4000)
    asked: dict[str, Any] = {"promises": {"p": 0.06}, "family": "max_prob"}
    plain = calibrate(outputs, labels, **asked)["p"]
    kept = calibrate(outputs, labels, **asked, conditional=True)["p"]
    assert plain.guaranteed
    assert kept.guaranteed
    assert plain.evidence["exit_gaps"][0]["gap"] > 0.4
    assert max(each["gap"] for each in kept.evidence["exit_gaps"]) <= 0.06
    assert kept.evidence["layer_speedup"] > 1.2
    assert "also among the texts that leave at any one layer or before it" in kept.evidence["note"]


def test_abstention_is_promised_only_on_texts_the_policy_was_not_chosen_on(record: Any) -> None:
    outputs, labels = record(2000)
    plain = calibrate(outputs, labels, {"p": 0.03})["p"].evidence
    apart = calibrate(outputs, labels, {"p": 0.03}, abstain=True)["p"].evidence
    assert (plain["abstain"], plain["abstain_on"], plain["tested_on"]) == ([], 0, 2000)
    assert (apart["abstain_on"], apart["tested_on"]) == (600, 1400)
    assert [row["max_error"] for row in apart["abstain"]] == [0.01, 0.02, 0.05, 0.1]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"protect": ["badd"]}, "unknown class 'badd' to protect; did you mean 'bad'"),
        ({"protect": ["bad"], "labelled": False}, "only where the texts have labels"),
        ({"per_class": True, "names": ()}, "a regression has no classes to protect"),
    ],
)
def test_what_cannot_be_protected_is_one_clear_line(asked: dict[str, Any], said: str) -> None:
    usual: dict[str, Any] = {"names": ("fine", "bad"), "protect": (), "per_class": False, "labelled": True}
    with pytest.raises(UsageError, match=said):
        protected_classes(**{**usual, **asked})


def test_classes_are_protected_by_name_or_all() -> None:
    usual: dict[str, Any] = {"names": ("a", "b", "c"), "labelled": True}
    assert protected_classes(("c", "a", "c"), per_class=False, **usual) == (2, 0)
    assert protected_classes((), per_class=True, **usual) == (0, 1, 2)
    assert protected_classes((), per_class=False, **usual) == ()
