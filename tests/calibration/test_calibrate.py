"""From recorded outputs to policies: promises kept, honest fallbacks, every kind of task."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from elbert.calibration import LADDER, calibrate, check, exit_confidence, promise_name
from elbert.errors import DataError, ModelError, UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.exits.tokens import TokenSchedule, token_layers
from elbert.results import LayerOutputs

KEYS = {
    *("max_drop", "confidence", "metric", "control", "method", "bound", "family", "tried", "n", "score"),
    *("full_depth_score", "mean_exit_layer", "layer_speedup", "p_value", "guaranteed", "exit_histogram", "exits"),
}


def test_the_ladder_has_four_levels_each_as_fast_as_the_one_before_or_faster(record: Any) -> None:
    outputs, labels = record(1500)
    found = calibrate(outputs, labels)
    assert list(found) == list(LADDER) == ["exact", "drop-0.5", "drop-1", "drop-2"]
    for name, each in found.items():
        assert each.name == name
        assert set(each.evidence) >= KEYS
        assert each.evidence["max_drop"] == LADDER[name]
        assert sum(each.evidence["exit_histogram"]) == each.evidence["n"] == 1500
        assert json.loads(json.dumps(each.to_dict(), allow_nan=False)) == each.to_dict()
    drops = [found[name].evidence["mean_exit_layer"] for name in ("drop-0.5", "drop-1", "drop-2")]
    assert drops == sorted(drops, reverse=True)
    assert found["drop-2"].guaranteed
    assert found["drop-2"].evidence["layer_speedup"] > 1.2


def test_what_stands_in_the_evidence_is_what_the_policy_does(record: Any) -> None:
    outputs, labels = record(1500)
    each = calibrate(outputs, labels, {"mine": 0.03})["mine"]
    exit_layer = replay(each.policy, outputs)
    answer = outputs.probs[torch.arange(1500), exit_layer - 1].argmax(-1)
    assert each.evidence["mean_exit_layer"] == pytest.approx(exit_layer.double().mean().item(), rel=1e-5)
    assert each.evidence["score"] == pytest.approx((answer == torch.tensor(labels)).double().mean().item(), rel=1e-5)
    assert each.evidence["p_value"] <= 0.1
    assert each.evidence["control"] == "labels"


@pytest.mark.parametrize(("family", "runs"), [("fixed", 100), ("max_prob", 40)])
def test_a_promise_is_broken_no_more_often_than_said_where_every_early_exit_breaks_it(family: str, runs: int) -> None:
    max_drop, gap = 0.02, 0.0225
    world, _ = _hair(4_000, gap, seed=10_000)
    broken = naive = 0
    for seed in range(runs):
        outputs, labels = _hair(300, gap, seed)
        policy = calibrate(outputs, labels, {"mine": max_drop}, family=family)["mine"].policy
        early = (replay(policy, world) < 5).double().mean()  # who leaves hangs on no answer, so each costs the gap
        broken += bool(early * gap > max_drop)
        scores = (outputs.probs.argmax(-1) == labels[:, None]).double().mean(0)
        naive += bool((scores[:-1] >= scores[-1] - max_drop).any())
    most = binom.isf(0.005, runs, 0.1)  # one run in two hundred may be unluckier
    assert broken <= most
    assert naive > most  # who takes the first layer that looks good enough breaks it


def _hair(texts: int, gap: float, seed: int) -> tuple[LayerOutputs, torch.Tensor]:
    """Five exits, each wrong for texts of its own; the last is better than the others by `gap`."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (texts,), generator=generator)
    chance = torch.tensor([0.9 - gap] * 4 + [0.9])
    right = torch.rand(texts, 5, generator=generator) < chance
    sure = 0.5 + torch.rand(texts, 5, generator=generator) / 2
    said = torch.where(right, labels[:, None], 1 - labels[:, None])
    probs = torch.stack((torch.where(said == 0, sure, 1 - sure), torch.where(said == 1, sure, 1 - sure)), -1)
    return LayerOutputs(probs.log(), probs, torch.full((texts,), 8)), labels


def test_too_few_texts_give_full_depth_and_say_how_many_it_takes(record: Any) -> None:
    outputs, labels = record(100)
    each = calibrate(outputs, labels, {"mine": 0.005})["mine"]
    assert each.policy == make("full")
    assert not each.guaranteed
    assert each.evidence["layer_speedup"] == 1.0
    assert each.evidence["needed"] == 463
    assert "100 texts are too few" in each.evidence["note"]
    assert "463" in each.evidence["note"]


def test_without_labels_the_answers_of_full_depth_are_promised(record: Any) -> None:
    outputs, _ = record(1500)
    each = calibrate(outputs, None, {"mine": 0.02})["mine"]
    assert each.guaranteed
    assert each.evidence["control"] == each.evidence["metric"] == "agreement"
    assert each.evidence["bound"] == "binomial"
    exit_layer = replay(each.policy, outputs)
    answer = outputs.probs[torch.arange(1500), exit_layer - 1].argmax(-1)
    assert (answer != outputs.probs[:, -1].argmax(-1)).double().mean() < 0.02
    assert each.evidence["full_depth_score"] == 1.0


def test_exits_that_never_change_an_answer_are_taken_as_early_as_they_come() -> None:
    probs = torch.tensor([0.9, 0.1]).expand(600, 6, 2).contiguous()
    outputs = LayerOutputs(probs.log(), probs, torch.full((600,), 4))
    for labels in ([0] * 600, [0, 1] * 300):
        found = calibrate(outputs, labels)
        assert found["drop-1"].evidence["mean_exit_layer"] == 1.0
        assert not found["exact"].guaranteed  # nothing shows that leaving early is better
        assert found["exact"].policy == make("full")


def test_exits_better_than_full_depth_may_be_used_though_nothing_may_be_lost() -> None:
    first = torch.tensor([0.95, 0.05]).expand(800, 5, 2)
    spoiled = torch.where(
        torch.arange(800)[:, None, None] % 10 == 0, 0.95 - 0.9 * torch.tensor([1.0, 0.0]), first[:, :1]
    )
    probs = torch.cat((first, spoiled), 1)
    exact = calibrate(LayerOutputs(probs.log(), probs, torch.full((800,), 4)), [0] * 800)["exact"]
    assert exact.guaranteed
    assert exact.evidence["score"] > exact.evidence["full_depth_score"]
    assert "costs nothing" in exact.evidence["note"]


def test_regression_promises_the_distance_and_leaves_a_part_aside_for_the_scale(record: Any) -> None:
    outputs, values = record(1200, layers=8, kind="regression")
    for labels in (values, None):
        each = calibrate(outputs, labels, {"mine": 0.05})["mine"]
        assert each.guaranteed
        assert each.evidence["bound"] == "betting"
        assert each.evidence["tested_on"] == 1080
        assert "distance" in each.evidence["loss"]
        assert each.evidence["abstain"] == []
    assert calibrate(outputs, values, {"mine": 0.05})["mine"].evidence["metric"] == "pearson"


def test_a_softmax_over_one_class_has_only_one_answer() -> None:
    outputs = LayerOutputs(torch.zeros(500, 4, 1), torch.ones(500, 4, 1), torch.full((500,), 4))
    each = calibrate(outputs, [0] * 500, {"mine": 0.01})["mine"]
    assert each.evidence["score"] == 1.0
    assert each.evidence["layer_speedup"] >= 1.0


@pytest.mark.parametrize("metric", ["accuracy", "f1_micro"])
def test_multi_label_promises_the_set_or_its_f1(record: Any, metric: str) -> None:
    outputs, labels = record(1500, kind="multi_label_classification")
    each = calibrate(outputs, labels, {"mine": 0.05}, metric=metric)["mine"]
    assert each.guaranteed
    assert each.evidence["bound"] == {"accuracy": "paired", "f1_micro": "betting"}[metric]
    assert each.evidence["metric"] == metric


@pytest.mark.parametrize("family", ["entropy", "patience", "pcee", "max_prob", "fixed", "full"])
def test_any_policy_can_be_searched(record: Any, family: str) -> None:
    outputs, labels = record(1500)
    each = calibrate(outputs, labels, {"mine": 0.05}, family=family)["mine"]
    assert each.policy.name in (family, "full")
    learned = family == "pcee"
    assert ("learned" in each.evidence["method"]) == learned
    assert each.evidence["tested_on"] == (1050 if learned else 1500)


def test_another_bound_can_be_asked_for_and_is_more_timid(record: Any) -> None:
    outputs, labels = record(1500)
    speeds = {
        bound: calibrate(outputs, labels, {"mine": 0.02}, bound=bound)["mine"].evidence["layer_speedup"]
        for bound in ("paired", "betting", "binomial", "hoeffding-bentkus")
    }
    assert max(speeds.values()) == speeds["paired"]
    assert speeds["hoeffding-bentkus"] <= speeds["binomial"]


def test_an_output_that_is_no_number_is_named(record: Any) -> None:
    outputs, labels = record(50)
    outputs.probs[7, 2, 0] = math.nan
    with pytest.raises(ModelError, match="row 7 at layer 3"):
        calibrate(outputs, labels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"confidence": 1.0}, "confidence is 1"),
        ({"confidence": 0.0}, "confidence is 0"),
        ({"promises": {"mine": 1.0}}, "max_drop is 1"),
        ({"promises": {"mine": -0.1}}, "max_drop is -0.1"),
        ({"promises": {"mine": math.nan}}, "max_drop is nan"),
        ({"family": "elbrt"}, "did you mean 'elbert'"),
        ({"metric": "pearson"}, "does not fit"),
        ({"bound": "pared"}, "did you mean 'paired'"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(record: Any, options: dict[str, Any], words: str) -> None:
    outputs, labels = record(50)
    with pytest.raises(UsageError, match=words) as caught:
        calibrate(outputs, labels, **options)
    assert "\n" not in str(caught.value)


def test_a_handful_of_texts_is_refused(record: Any) -> None:
    outputs, labels = record(9)
    with pytest.raises(DataError, match="too few texts to calibrate on: 9;"):
        calibrate(outputs, labels)


@pytest.mark.parametrize(
    ("max_drop", "name"), [(0.0, "exact"), (0.005, "drop-0.5"), (0.01, "drop-1"), (0.0125, "drop-1.25")]
)
def test_a_promise_is_named_in_points(max_drop: float, name: str) -> None:
    assert promise_name(max_drop) == name


def with_words(n: int) -> tuple[LayerOutputs, torch.Tensor]:
    """Texts whose words tell three in four of them, and say so; at full depth all are right, at layer 1 few."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (n,), generator=random)
    told = torch.rand(n, generator=random) < 0.75
    words = torch.full((n, 2), 0.5)
    words[told] = torch.nn.functional.one_hot(labels[told], 2) * 0.96 + 0.02
    exits = torch.full((n, 4, 2), 0.5)
    exits[:, 3] = torch.nn.functional.one_hot(labels, 2) * 0.9 + 0.05
    return LayerOutputs(exits.log(), exits, torch.full((n,), 5), words=words), labels


def test_layer_0_is_searched_beside_the_exits_and_its_leavers_count_in_the_evidence() -> None:
    outputs, labels = with_words(800)
    found = calibrate(outputs, labels.numpy(), {"drop-1": 0.01})["drop-1"]
    assert found.guaranteed
    assert found.policy.words is not None
    assert found.evidence["layer_0"] == int((replay(found.policy, outputs) == 0).sum()) > 500
    assert found.evidence["layer_0"] + sum(found.evidence["exit_histogram"]) == 800
    assert found.evidence["score"] == pytest.approx(1.0)
    alone = calibrate(dataclasses.replace(outputs, words=None), labels.numpy(), {"drop-1": 0.01})["drop-1"]
    assert alone.policy.words is None
    assert found.evidence["mean_exit_layer"] < alone.evidence["mean_exit_layer"] / 2


def half_a_layer(policy: ExitPolicy) -> float:
    return 0.5 * (policy.words is not None)


def test_layer_0_is_counted_at_what_it_costs_in_layers_and_in_tokens() -> None:
    outputs, labels = with_words(800)
    asked: dict[str, Any] = {"promises": {"drop-1": 0.01}, "layer_0_cost": half_a_layer}
    found = calibrate(outputs, labels.numpy(), **asked)["drop-1"]
    layers = float(replay(found.policy, outputs).double().mean()) + 0.5
    told = (found.evidence[name] for name in ("layer_0_cost", "mean_exit_layer", "layer_speedup"))
    assert tuple(told) == pytest.approx((0.5, layers, 4 / layers), rel=1e-5)
    halved = dataclasses.replace(outputs, tokens=TokenSchedule(((1, 0.5),)))
    also = calibrate(outputs, labels.numpy(), shortened=[halved], **asked)["drop-1"]
    exit_layer = replay(also.policy, halved).numpy()
    ran = token_layers(also.policy.tokens, np.full(800, 5), exit_layer).sum() / (5 * 800)
    assert also.evidence["token_layers"] == pytest.approx((ran + 0.5) / 4, rel=1e-5)


def test_layer_0_is_left_off_where_it_costs_more_than_it_saves() -> None:
    outputs, labels = with_words(800)
    found = calibrate(outputs, labels.numpy(), {"drop-1": 0.01}, layer_0_cost=lambda each: 8 * half_a_layer(each))
    assert found["drop-1"].policy.words is None
    assert "layer_0_cost" not in found["drop-1"].evidence


def test_no_text_is_put_aside_for_layer_0() -> None:
    found = calibrate(*with_words(700), {"drop-1": 0.01})["drop-1"]
    assert found.policy.words is not None
    assert found.evidence["tested_on"] == 700


def test_words_that_are_sure_and_wrong_leave_layer_0_off() -> None:
    outputs, labels = with_words(800)
    assert outputs.words is not None
    wrong = dataclasses.replace(outputs, words=outputs.words.flip(1))
    found = calibrate(wrong, labels.numpy(), {"drop-1": 0.01})["drop-1"]
    assert (found.guaranteed, found.policy.words) == (True, None)


def test_exits_that_are_sure_and_wrong_leave_layer_0_on() -> None:
    outputs, labels = with_words(800)
    early = torch.nn.functional.one_hot(1 - labels, 2) * 0.9998 + 0.0001
    probs = torch.cat([early[:, None].expand(-1, 3, -1), outputs.probs[:, 3:]], 1)
    found = calibrate(dataclasses.replace(outputs, logits=probs.log(), probs=probs), labels.numpy(), {"drop-1": 0.01})
    assert found["drop-1"].guaranteed
    assert (replay(found["drop-1"].policy, outputs) == 0).sum() > 400


def test_texts_that_leave_at_layer_0_are_compared_when_texts_drift() -> None:
    outputs, labels = with_words(800)
    found = calibrate(outputs, labels.numpy(), {"drop-1": 0.01})["drop-1"]
    exit_layer = replay(found.policy, outputs).numpy()
    same = check("drop-1", found.evidence, exit_layer, exit_confidence(outputs, exit_layer))
    assert same.p_value > 0.2
    assert outputs.words is not None
    unsure = dataclasses.replace(outputs, words=torch.full_like(outputs.words, 0.5))
    later = replay(found.policy, unsure).numpy()
    assert check("drop-1", found.evidence, later, exit_confidence(unsure, later)).p_value < 0.01
