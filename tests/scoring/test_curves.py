from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from elbert.classifier import Classifier
from elbert.data import TextDataset
from elbert.errors import UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.exits.tokens import TokenSchedule
from elbert.reports.story import curves_of
from elbert.results import LayerOutputs
from elbert.scoring.curves import (
    OperatingPoint,
    fastest_within,
    operating_points,
    replay_all,
    scores_by_layer,
)
from tests.exits.ready import ready

LABELS = [0, 1, 0, 1]


def point(depth: float, score: float, changed: float = 0.0, n: int = 100) -> OperatingPoint:
    return OperatingPoint(make("full"), score, depth, changed, n)


def test_every_layer_is_scored_by_its_own_exit(outputs: LayerOutputs) -> None:
    assert scores_by_layer(outputs, LABELS) == [0.5, 0.75, 1.0]


def test_a_policy_is_scored_at_the_exits_it_chooses(outputs: LayerOutputs) -> None:
    policies = [make("fixed", layer=1), make("max_prob", threshold=0.8), make("full")]
    first, sure, full = operating_points(outputs, LABELS, policies)
    assert (first.score, first.mean_exit_layer, first.changed, first.n) == (0.5, 1.0, 0.5, 4)
    assert (sure.score, sure.mean_exit_layer, sure.changed) == (1.0, (1 + 1 + 2 + 3) / 4, 0.0)
    assert (full.score, full.mean_exit_layer, full.changed) == (1.0, 3.0, 0.0)
    assert sure.to_dict()["policy"] == sure.policy.to_dict()


def test_the_fastest_point_within_the_drop_is_taken_and_the_better_of_two_alike() -> None:
    points = [point(1, 0.80), point(2, 0.89), point(2, 0.91), point(3, 0.90)]
    assert fastest_within(points, 0.90, 0.01) is points[2]
    assert fastest_within(points, 0.90, 0.10) is points[0]
    assert fastest_within(points, 0.99, 0.01) is None
    assert fastest_within([], 0.9, 0.1) is None


def test_exactly_at_the_limit_counts() -> None:
    assert fastest_within([point(1, 0.9 - 0.01)], 0.9, 0.01) is not None


def test_many_changed_answers_among_few_texts_make_the_choice_careful() -> None:
    lucky = point(1, 0.90, changed=0.10, n=100)  # a standard error of 0.03
    assert fastest_within([lucky], 0.90, 0.01) is None
    assert fastest_within([lucky], 0.90, 0.01, margin=0) is lucky
    assert fastest_within([point(1, 0.90, changed=0.10, n=10_000)], 0.90, 0.01) is not None


def test_curves_of_a_data_set_sweep_the_policys_own_grid(classifier: Classifier, dataset: TextDataset) -> None:
    policy = make("patience")
    scores, points = curves_of(classifier.record(dataset.texts), dataset, policy)
    assert len(scores) == 4
    assert [each.policy for each in points] == policy.grid(4, 3)


def test_curves_of_a_data_set_keep_what_the_policy_learnt_and_which_tokens_it_keeps(
    classifier: Classifier, dataset: TextDataset
) -> None:
    fitted = ready("certainty", classifier.record(dataset.texts, pooled=True))
    policy = replace(fitted, tokens=TokenSchedule(((1, 0.5),)))
    _, points = curves_of(classifier.record(dataset.texts, pooled=True, tokens=policy.tokens), dataset, policy)
    assert {each.policy.tokens for each in points} == {policy.tokens}
    assert len(points) == len(policy.grid(4, 3))


def test_a_recording_in_parts_is_replayed_as_one_in_whole(outputs: LayerOutputs) -> None:
    policies = [make("fixed", layer=2), make("max_prob", threshold=0.8), make("patience", patience=1)]
    parts = (
        LayerOutputs(outputs.logits[rows], outputs.probs[rows], outputs.lengths[rows])
        for rows in (slice(0, 3), slice(3, 3), slice(3, 4))
    )
    whole, pieces = replay_all(policies, outputs), replay_all(policies, parts)
    assert pieces.exit_layer.tolist() == whole.exit_layer.tolist()
    assert pieces.answers.tolist() == whole.answers.tolist() == outputs.probs.argmax(-1).tolist()
    assert whole.exit_layer[0].tolist() == [2, 2, 2, 2]
    assert whole.answered(0).tolist() == [0, 1, 0, 0]
    assert whole.changed(0) == 0.25
    with pytest.raises(UsageError, match="0 recorded texts"):
        replay_all(policies, [])


# Of `outputs`' four texts layer 0 is sure of the first two and right, unsure of one, sure of the last and wrong.
WORDS = torch.tensor([[0.99, 0.01], [0.02, 0.98], [0.4, 0.6], [0.95, 0.05]])


def test_a_text_that_leaves_at_layer_0_runs_no_layer_and_has_the_answer_of_its_words(outputs: LayerOutputs) -> None:
    given = replace(outputs, words=WORDS)
    policies = [make("full", words=0.9), make("fixed", layer=1, words=0.97), make("full")]
    points = operating_points(given, LABELS, policies)
    assert (points[0].score, points[0].mean_exit_layer, points[0].changed) == (0.75, 3 / 4, 0.25)
    for policy, found in zip(policies, points, strict=True):
        exit_layer = replay(policy, given)
        assert found.mean_exit_layer == exit_layer.double().mean()
        assert found.score == (given.at(exit_layer).argmax(-1) == torch.tensor(LABELS)).double().mean()


def test_layer_0_is_counted_at_its_cost_for_every_text_where_it_is_asked(outputs: LayerOutputs) -> None:
    def cost(policy: ExitPolicy) -> float:
        return 0.25 if policy.words is not None else 0.0

    policies = [make("full", words=0.9), make("full")]
    asked, not_asked = operating_points(replace(outputs, words=WORDS), LABELS, policies, layer_0_cost=cost)
    assert (asked.mean_exit_layer, not_asked.mean_exit_layer) == (1.0, 3.0)


def test_a_recording_in_parts_is_replayed_with_layer_0_as_one_in_whole(outputs: LayerOutputs) -> None:
    given, policies = replace(outputs, words=WORDS), [make("max_prob", threshold=0.8, words=0.9), make("full")]
    whole, pieces = (
        replay_all(policies, parts) for parts in (given, [given.select(slice(0, 3)), given.select(slice(3, 4))])
    )
    assert whole.exit_layer[0].tolist() == [0, 0, 2, 0]
    assert pieces.exit_layer.tolist() == whole.exit_layer.tolist()
    assert pieces.answered(0).tolist() == whole.answered(0).tolist() == [0, 1, 0, 0]


def test_policies_that_learnt_something_else_are_replayed_each_for_itself(
    classifier: Classifier, dataset: TextDataset
) -> None:
    recording = classifier.record(dataset.texts, pooled=True)
    one = replace(ready("certainty", recording), threshold=0.5)
    other = one.with_tensors({name: -values for name, values in one.tensors().items()})
    assert one == other, "weights are no part of it"
    replays = replay_all([one, other], recording)
    assert replays.exit_layer.tolist() == [replay(each, recording).tolist() for each in (one, other)]
    assert replays.exit_layer[0].tolist() != replays.exit_layer[1].tolist()


def test_curves_of_a_data_set_try_every_threshold_of_layer_0(classifier: Classifier, dataset: TextDataset) -> None:
    recording = classifier.record(dataset.texts)
    sure = torch.nn.functional.one_hot(torch.tensor(dataset.labels), 3) * 0.97 + 0.01
    policy, given = make("patience"), replace(recording, words=sure)
    _, points = curves_of(given, dataset, policy, thresholds=(None, 0.9, 0.999))
    assert [(each.policy.patience, each.policy.words) for each in points] == [
        (each.patience, words) for each in policy.grid(4, 3) for words in (None, 0.9, 0.999)
    ]
    assert {(each.score, each.mean_exit_layer) for each in points if each.policy.words == 0.9} == {(1.0, 0.0)}
    assert all(each.mean_exit_layer >= 1 for each in points if each.policy.words != 0.9)
