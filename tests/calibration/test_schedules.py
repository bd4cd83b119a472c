"""Schedules of tokens in a calibration: each tried with every policy, judged against full depth with all tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from elbert import Classifier
from elbert.calibration import calibrate
from elbert.calibration.losses import Losses
from elbert.calibration.parts import Parts
from elbert.calibration.paths import Path, Sequence, with_shortcuts
from elbert.calibration.search import choose_along
from elbert.errors import UsageError
from elbert.exits import make, replay
from elbert.exits.tokens import TokenSchedule, asked_schedules, schedules, token_layers
from tests.calibration.conftest import leaving_out, some

HALF, FEW = TokenSchedule(((1, 0.5),)), TokenSchedule(((1, 0.125),))


@pytest.mark.parametrize(
    ("layers", "cuts"), [(12, (2, 4, 6)), (6, (1, 2, 3)), (24, (4, 8, 12)), (2, (1,)), (3, (1, 2))]
)
def test_the_grid_is_few_schedules_that_cut_in_the_first_half_and_shorten_in_equal_steps(
    layers: int, cuts: tuple[int, ...]
) -> None:
    grid = schedules(layers)
    assert [tuple(layer for layer, _ in each.keep) for each in grid] == [cuts] * 3
    assert [each.keep[-1][1] for each in grid] == [0.5, 0.25, 0.125]
    for each in grid:
        each.check_fits(layers)
        kept = np.array([1.0, *(share for _, share in each.keep)])
        assert kept[1:] / kept[:-1] == pytest.approx(kept[1], rel=0.05)
    costs = [token_layers(each, np.full(9, 100), np.full(9, layers)).sum() for each in grid]
    assert costs == sorted(costs, reverse=True)


def test_schedules_are_asked_for_by_word_by_name_or_not_at_all() -> None:
    assert asked_schedules(None, 4) == asked_schedules([], 4) == ()
    assert asked_schedules("auto", 6) == schedules(6)
    assert asked_schedules({"1": 0.5}, 4) == asked_schedules(HALF, 4) == asked_schedules([HALF, HALF], 4) == (HALF,)
    with pytest.raises(UsageError, match="layer 4 is named, and the model has 4"):
        asked_schedules([HALF, {"4": 0.5}], 4)
    with pytest.raises(UsageError, match="tokens is 'all'; allowed: an object"):
        asked_schedules("all", 4)
    with pytest.raises(UsageError, match="the model has 1 layer"):
        asked_schedules("auto", 1)


@pytest.mark.parametrize("family", ["elbert", "pcee"])
@pytest.mark.parametrize("labelled", [True, False])
def test_a_schedule_that_costs_nothing_is_taken_with_the_exits_that_run_the_fewest_token_layers(
    record: Any, family: str, labelled: bool
) -> None:
    outputs, labels = record(1500, classes=2)
    also = [leaving_out(outputs, HALF), leaving_out(outputs, FEW, some(0.2, 1500))]
    asked: dict[str, Any] = {"family": family, "promises": {"some": 0.05}}
    given = labels if labelled else None
    plain = calibrate(outputs, given, **asked)["some"]
    found = calibrate(outputs, given, shortened=also, **asked)["some"]
    assert found.guaranteed
    assert found.policy.tokens == HALF
    evidence = found.evidence
    assert evidence["schedules"] == ["1=0.5", "1=0.125"]
    assert "leaving early and dropping tokens cost less than 0.05" in evidence["note"]
    assert "dropping" not in plain.evidence["note"]
    assert evidence["tried"] == 3 * plain.evidence["tried"]
    exit_layer = replay(found.policy, also[0]).numpy()
    spent = token_layers(HALF, outputs.lengths.numpy(), exit_layer).sum() / (8 * 6 * 1500)
    assert evidence["token_layers"] == pytest.approx(spent, rel=1e-5)
    assert spent < plain.evidence["mean_exit_layer"] / 6
    assert evidence["full_depth_score"] == plain.evidence["full_depth_score"]


def test_of_several_schedules_that_lose_as_much_as_is_forbidden_one_is_taken_no_more_often_than_said() -> None:
    rng, texts, level = np.random.default_rng(0), 200, 0.1
    kinds = (None, HALF, FEW, TokenSchedule(((2, 0.5),)))
    tried = with_shortcuts(Path((make("full"),), (Sequence(1.0, range(1)),)), kinds)
    none = np.zeros(texts)
    exit_layer, cost = np.ones((4, texts), int), np.repeat([[4], [1], [2], [3]], texts, 1)
    broken = 0
    for _ in range(400):
        lost = [none, *(rng.random((3, texts)) < 0.05).astype(float)]
        parts = [Parts(Losses(each[:, None], "", "binomial", whole=none), "binomial") for each in lost]
        choice = choose_along(tried.sequences, exit_layer, parts, 0.05, level, rows=np.arange(texts), cost=cost)
        assert choice.index is not None
        broken += choice.index != 0
    assert 0 < broken / 400 < level + 3 * (level * (1 - level) / 400) ** 0.5


def test_a_level_may_hold_a_schedule_and_is_saved_and_answers_as_any_other(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any, tiny_texts: list[str], tmp_path: Any
) -> None:
    kinds = {"id2label": {0: "bad", 1: "good"}, "problem_type": "single_label_classification"}
    classifier = Classifier(tiny_model("bert", num_labels=2, **kinds), tiny_tokenizer)
    texts = [f"{tiny_texts[row % 8]} {row}" for row in range(300)]
    seen: list[int] = []
    asked: dict[str, Any] = {"max_drop": 0.5, "confidence": 0.8, "tokens": "auto", "on_texts": seen.append}
    (found,) = classifier.calibrate(texts, ["bad", "good"] * 150, policy="patience", **asked).values()
    grid = schedules(classifier.num_layers)
    assert sum(seen) == (1 + len(grid)) * 300
    assert found.guaranteed
    assert found.policy.tokens in grid
    assert found.evidence["schedules"] == [str(each) for each in grid]
    classifier.save_pretrained(tmp_path / "m")
    again = Classifier.from_pretrained(tmp_path / "m")
    assert again.policy == found.policy
    assert again.predict(texts[:9]) == classifier.predict(texts[:9])
    exit_layer = replay(found.policy, classifier.record(texts[:9], tokens=found.policy.tokens))
    assert [each.exit_layer for each in again.predict(texts[:9])] == exit_layer.tolist()
    assert classifier.calibration["drop-50"]["token_layers"] < 1


def test_a_model_that_cannot_drop_tokens_says_so_before_it_has_run_any(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    classifier = Classifier(tiny_model("mpnet", num_labels=2), tiny_tokenizer)
    seen: list[int] = []
    with pytest.raises(UsageError, match="look at distances between tokens"):
        classifier.calibrate([f"text {row}" for row in range(20)], max_drop=0.5, tokens="auto", on_texts=seen.append)
    assert not seen
