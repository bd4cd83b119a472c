"""Policies that learn: what fitting finds, what is kept of it, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from elbert.errors import UsageError
from elbert.exits import ExitPolicy, get, make, names, replay
from elbert.exits.certainty import fit_unit
from elbert.exits.fitting import leaving, losses, temperature, wrongness
from elbert.exits.halting import PRICE, _mixed
from elbert.exits.learned import Learned, Weights
from elbert.results import ExitOutput, LayerOutputs
from elbert.tasks import MULTI_LABEL, SINGLE_LABEL, TASKS
from tests.exits.ready import outputs_of, ready, targets_of

LEARNED = [name for name in names() if get(name).learned]
KINDS = ["single_label_classification", "multi_label_classification", "regression"]


def telling(texts: int, seed: int = 0) -> tuple[LayerOutputs, np.ndarray[Any, Any]]:
    """Outputs whose first pooled unit says whether the exit is right, and the right answers."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (texts,), generator=generator)
    right = torch.rand(texts, 6, generator=generator) < torch.linspace(0.5, 0.9, 6)
    said = torch.where(right, targets[:, None], (targets[:, None] + 1) % 3)
    logits = torch.nn.functional.one_hot(said, 3) * 2.0
    pooled = torch.randn(texts, 6, 8, generator=generator)
    pooled[..., 0] += 3.0 * right
    lengths = torch.full((texts,), 5)
    return LayerOutputs(logits, logits.softmax(-1), lengths, pooled), targets.numpy()


def test_the_error_head_lets_texts_go_where_the_exit_is_right_though_all_are_as_sure() -> None:
    seen, its = telling(400)
    new, wanted = telling(400, seed=1)
    policy = make("certainty", threshold=0.3).fit(seen, its)
    exits = replay(policy, new)
    assert exits.float().mean() < 4.5
    rows = torch.arange(400)
    right = (new.probs.argmax(-1) == torch.from_numpy(wanted)[:, None])[rows, exits - 1]
    assert right.float().mean() > 0.9  # by chance 0.5 to 0.9, layer by layer
    assert np.ptp(new.probs.amax(-1).numpy()) < 1e-6


def easy_and_hard(texts: int, seed: int = 0) -> LayerOutputs:
    """Outputs of texts that get surer layer by layer, the easy ones from the start."""
    generator = torch.Generator().manual_seed(seed)
    ease = torch.rand(texts, 1, generator=generator)
    size = 4 * ease + torch.linspace(0, 3, 6) + 0.2 * torch.rand(texts, 6, generator=generator)
    logits = torch.stack((size, torch.zeros_like(size)), -1)
    return LayerOutputs(logits, logits.softmax(-1), torch.full((texts,), 5))


@pytest.mark.parametrize("layers", [1.0, 1.5, 2.1, 3.0, 4.4, 5.75, 6.0, 9.0])
def test_a_budget_of_layers_is_kept_on_other_texts(layers: float) -> None:
    policy = make("budget", layers=layers).fit(easy_and_hard(3000), np.zeros(3000))
    exits = replay(policy, easy_and_hard(3000, seed=1)).numpy()
    assert exits.mean() == pytest.approx(min(layers, 6), abs=0.12)
    assert len(np.unique(exits)) == (1 if layers in (1.0, 6.0, 9.0) else 6)  # every exit has a share


def test_the_layer_predicted_after_the_first_is_where_such_texts_got_sure() -> None:
    seen, new = easy_and_hard(500), easy_and_hard(500, seed=1)
    policy = make("predicted_depth", threshold=0.3).fit(seen, np.zeros(500))
    state = policy.start(500, 2)
    output = ExitOutput(new.probs[:, 0].numpy(), new.logits[:, 0].numpy())
    found, _ = policy.decide(state, output, np.ones(500, np.int64))
    sure = TASKS[KINDS[0]].normalised_entropy(new.probs.numpy()) < 0.3
    real = np.where(sure.any(1), sure.argmax(1) + 1, 7)
    asked = real > 1
    assert asked.sum() > 100
    assert np.abs(found["predicted_layer"] - real)[asked].mean() < 0.5
    assert len(np.unique(found["predicted_layer"][asked])) >= 4


def test_prototypes_hold_back_texts_that_lie_between_classes_though_the_exit_is_sure() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 2, (400,), generator=generator)
    pooled = torch.randn(400, 3, 6, generator=generator) * 0.3
    pooled[..., 0] += 2.0 * (2 * targets - 1)[:, None]
    logits = torch.nn.functional.one_hot(targets, 2).float()[:, None].repeat(1, 3, 1) * 2
    seen = LayerOutputs(logits, logits.softmax(-1), torch.full((400,), 5), pooled)
    policy = make("prototype", threshold=0.35).fit(seen, targets.numpy())
    np.testing.assert_allclose(policy.tensors()["prototypes"][:, :, 0], [[-2, 2]] * 3, atol=0.1)
    assert replay(policy, seen).float().mean() < 1.1
    between = LayerOutputs(logits, seen.probs, seen.lengths, torch.randn(400, 3, 6, generator=generator) * 0.05)
    assert replay(policy, between).float().mean() > 2.9
    rare = make("prototype").fit(seen.select(slice(0, 10)), np.zeros(10)).tensors()["prototypes"]
    assert np.isfinite(rare).all()  # the other class has no text


def test_cosines_need_two_layers_and_no_answer() -> None:
    pooled = torch.tensor(
        [[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]], [[0.0, 1.0], [1.0, 0.0], [2.0, 0.1], [0.0, 0.0]]]
    )
    outputs = LayerOutputs(torch.zeros(2, 4, 3), torch.full((2, 4, 3), 1 / 3), torch.full((2,), 5), pooled)
    assert replay(make("saturation", threshold=1.0), outputs).tolist() == [2, 4]  # 1 reaches 1
    assert replay(make("saturation", threshold=0.99), outputs).tolist() == [2, 3]
    assert replay(make("saturation", threshold=0.99, patience=2), outputs).tolist() == [4, 4]


def test_energy_tells_high_logits_from_low_ones_of_the_same_softmax() -> None:
    logits = torch.tensor([[[0.0, 1.0], [3.0, 4.0], [9.0, 10.0]]])
    outputs = LayerOutputs(logits, logits.softmax(-1), torch.full((1,), 5))
    assert [replay(make("energy", threshold=t), outputs).item() for t in (1.0, 4.0, 5.0)] == [1, 2, 3]
    exact = float(torch.logsumexp(torch.tensor([0.0, 0.0]), 0))
    even = LayerOutputs(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5), torch.full((1,), 5))
    assert replay(make("energy", threshold=exact), even).item() == 1  # F >= threshold


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_the_same_every_time_and_come_back_from_tensors(name: str, kind: Any) -> None:
    seen, targets = outputs_of(1, texts=40, problem_type=kind), targets_of(1, 40, 3, kind)
    policy = make(name).fit(seen, targets)
    again = ExitPolicy.from_dict(json.loads(json.dumps(policy.to_dict())), policy.tensors())
    twin = make(name).fit(seen, targets)
    for other in (again, twin):
        assert other == policy  # weights are no part of it
        assert hash(other) == hash(policy)
        assert other.tensors().keys() == policy.tensors().keys()
        assert all(np.array_equal(values, other.tensors()[key]) for key, values in policy.tensors().items())
        assert all(values.dtype == np.float32 for values in other.tensors().values())
    outputs = outputs_of(2, texts=60, problem_type=kind)
    assert replay(again, outputs).equal(replay(policy, outputs))


@pytest.mark.parametrize("name", LEARNED)
def test_without_weights_nothing_is_decided_and_the_line_says_how_to_get_some(name: str) -> None:
    with pytest.raises(UsageError, match=f"^exit policy '{name}' is learned and not fitted yet: run elbert calibrate"):
        replay(make(name), outputs_of(0))
    assert make(name).tensors() == {}
    assert "weights" not in make(name).to_dict()


@pytest.mark.parametrize("name", LEARNED)
def test_weights_that_are_not_the_rules_are_refused(name: str) -> None:
    tensors = ready(name, outputs_of(0)).tensors()
    first = next(iter(tensors))
    for bad, message in (
        ({key: values for key, values in tensors.items() if key != first}, "has the weights"),
        (tensors | {"further": np.zeros(1)}, "has the weights"),
        (tensors | {first: np.full_like(tensors[first], np.nan)}, f"{first} has the shape .* finite numbers"),
        (tensors | {first: tensors[first][None, None]}, f"{first} has the shape"),
    ):
        with pytest.raises(UsageError, match=f"^exit policy '{name}'.*{message}"):
            make(name).with_tensors(bad)
    with pytest.raises(UsageError, match="exit policy 'full' has no weights; given: weight"):
        ExitPolicy.from_dict({"name": "full"}, {"weight": np.zeros(3)})


@pytest.mark.parametrize("name", LEARNED)
def test_fitting_wants_texts_targets_and_what_the_rule_reads(name: str) -> None:
    seen, targets = outputs_of(1, texts=10), targets_of(1, 10, 3, KINDS[0])
    with pytest.raises(UsageError, match="10 texts and 9 targets"):
        make(name).fit(seen, targets[:9])
    with pytest.raises(UsageError, match="0 texts and 0 targets"):
        make(name).fit(seen.select(slice(0, 0)), [])
    with pytest.raises(UsageError, match="a target is missing"):
        make(name).fit(seen, np.where(np.arange(10) == 3, np.nan, targets))
    with pytest.raises(UsageError, match="exit policy 'elbert' learns nothing"):
        make("elbert").fit(seen, targets)


def test_a_rule_that_reads_pooled_states_asks_for_them() -> None:
    outputs = outputs_of(0)
    bare = LayerOutputs(outputs.logits, outputs.probs, outputs.lengths)
    with pytest.raises(UsageError, match="'certainty' reads pooled states; record the outputs with them"):
        replay(ready("certainty", outputs), bare)
    with pytest.raises(UsageError, match="'certainty' reads pooled states; record the outputs with them"):
        make("certainty").fit(bare, targets_of(0, 8, 3, KINDS[0]))


def test_wrongness_of_every_kind_of_problem() -> None:
    said = ExitOutput(np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32), np.zeros((1, 2, 2), np.float32))
    assert wrongness(said, np.array([0])).tolist() == [[0.0, 1.0]]
    sets = ExitOutput(said.probs, said.logits, None, "multi_label_classification")
    assert wrongness(sets, np.array([[1, 0]])).tolist() == [[0.0, 1.0]]
    assert wrongness(sets, np.array([[1, 1]])).tolist() == [[1.0, 1.0]]
    values = ExitOutput(np.array([[[1.0], [3.0]]], np.float32), np.zeros((1, 2, 1), np.float32), None, "regression")
    np.testing.assert_allclose(wrongness(values, np.array([1.0])), [[0.0, np.tanh(2.0)]], rtol=1e-6)


def test_a_unit_is_found_and_few_texts_in_many_dimensions_are_not_learned_by_heart() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 3)).astype(np.float32) * [1, 10, 0.1] + [0, 5, 0]
    wanted = 1 / (1 + np.exp(-(2 * features[:, 0] - 0.1 * features[:, 1] + 1)))
    weight, bias = fit_unit(features, wanted, 4000)
    np.testing.assert_allclose(weight[:2], [2, -0.1], rtol=0.1)
    assert abs(bias - 1) < 0.15
    noise, coin = rng.normal(size=(20, 200)).astype(np.float32), rng.integers(0, 2, 20).astype(np.float32)
    weight, bias = fit_unit(noise, coin, 20)
    learned = 1 / (1 + np.exp(-(noise @ weight + bias)))
    assert np.abs(learned - coin).mean() > 0.02


def test_weights_are_copied_placed_once_and_survive_a_deep_copy() -> None:
    mine = np.ones(3)
    weights = Weights({"w": mine})
    mine[:] = 7
    assert weights["w"].tolist() == [1, 1, 1]
    like = torch.zeros(1)
    assert weights.like("w", like) is weights.like("w", like)
    assert weights.like("w", np.zeros(1)) is weights["w"]
    assert copy.deepcopy(weights)["w"].tolist() == [1, 1, 1]


def test_every_learned_policy_is_of_one_kind() -> None:
    assert LEARNED
    assert all(issubclass(get(name), Learned) for name in LEARNED)


def test_exit_chances_and_their_slope_are_those_of_the_sum_over_all_layers() -> None:
    rng = np.random.default_rng(0)
    scores, costs = rng.normal(size=(4, 3)), rng.normal(size=(4, 4))
    prior, pull = np.array([0.1, 0.2, 0.3, 0.4]), 0.7

    def slow(scores: np.ndarray[Any, Any]) -> float:
        total = 0.0
        for row, cost in zip(scores, costs, strict=True):
            still = 1.0
            for layer in range(4):
                leaves = 1 / (1 + np.exp(-row[layer])) if layer < 3 else 1.0
                chance, still = still * leaves, still * (1 - leaves)
                total += chance * cost[layer] + pull * prior[layer] * np.log(prior[layer] / chance)
        return total / len(scores)

    value, slope = leaving(scores, costs, prior, pull)
    assert value == pytest.approx(slow(scores))
    np.testing.assert_allclose(slope, slopes(slow, scores), atol=1e-6)


def slopes(function: Any, at: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the derivative by every number of `at`, by differences."""
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-5
        found[place] = (function(at + step) - function(at - step)) / 2e-5
    return found


def test_a_mixed_answer_and_its_slope_are_those_of_the_recursion() -> None:
    rng = np.random.default_rng(0)
    scores, right = rng.normal(size=(4, 3)), rng.uniform(0.1, 0.9, size=(4, 3))

    def slow(scores: np.ndarray[Any, Any]) -> float:
        total = 0.0
        for row, said in zip(scores, right, strict=True):
            answer, share, shares = 0.0, 1.0, 0.0
            for score, probability in zip(row, said, strict=True):
                answer = probability * share + answer * (1 - share)
                share *= 1 / (1 + np.exp(-score))
                shares += share
            total += PRICE * shares - np.log(answer)
        return float(total / len(scores))

    value, slope = _mixed(scores, right)
    assert value == pytest.approx(slow(scores))
    np.testing.assert_allclose(slope, slopes(slow, scores), atol=1e-6)


def test_losses_of_every_kind_of_problem() -> None:
    probs = np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32)
    single = ExitOutput(probs, np.log(probs))
    np.testing.assert_allclose(losses(single, np.array([0])), -np.log([[0.9, 0.2]]), rtol=1e-5)
    multi = ExitOutput(probs, np.log(probs / (1 - probs)), None, "multi_label_classification")
    halves = [[np.log(0.9) + np.log(0.9), np.log(0.2) + np.log(0.2)]]
    np.testing.assert_allclose(losses(multi, np.array([[1, 0]])), -np.array(halves) / 2, rtol=1e-5)
    values = ExitOutput(probs, probs, None, "regression")
    np.testing.assert_allclose(losses(values, np.array([[1.0, 0.0]])), [[0.01, 0.64]], rtol=1e-5)


def gained(policy: ExitPolicy, outputs: LayerOutputs, wanted: np.ndarray[Any, Any]) -> float:
    """Return what a policy's answers score above those of one depth for all, at its mean exit layer."""
    exits = replay(policy, outputs).numpy()
    right = outputs.probs.argmax(-1).numpy() == wanted[:, None]
    return float(right[np.arange(len(exits)), exits - 1].mean() - np.interp(exits.mean(), range(1, 7), right.mean(0)))


@pytest.mark.parametrize(("name", "settings"), [("q_exit", {"threshold": 0.5}), ("consistent", {"threshold": 0.5})])
def test_units_learn_to_leave_where_the_exit_is_right(name: str, settings: dict[str, Any]) -> None:
    seen, its = telling(400)
    new, wanted = telling(400, seed=1)
    policy = make(name, **settings).fit(seen, its)
    assert gained(policy, new, wanted) > 0.02
    assert 1 < replay(policy, new).float().mean() < 6


def test_cheap_depth_is_used_and_dear_depth_is_not() -> None:
    seen, its = telling(300)
    depths = [replay(make("consistent", cost=cost).fit(seen, its), seen).float().mean() for cost in (0.0, 1.0)]
    assert depths[1] < depths[0] - 0.2


def test_the_early_answer_of_mixed_ones_is_the_answer_of_all_layers() -> None:
    outputs = outputs_of(5, texts=400)
    policy = ready("halting", outputs)
    exits = replay(policy, outputs).numpy()
    state = policy.start(400, 3)
    for layer in range(12):
        said = ExitOutput(*(part[:, layer].numpy() for part in (outputs.probs, outputs.logits, outputs.pooled)))
        _, state = policy.decide(state, said, np.full(400, layer + 1))
    early = exits < 12
    assert early.sum() > 100
    said = outputs.probs[np.arange(400), exits - 1].argmax(-1).numpy()
    assert (said == state["mixed"].argmax(-1))[early].all()
    hasty = replay(dataclasses.replace(policy, slack=0.9), outputs).numpy()
    assert hasty.mean() < exits.mean()


def noisy(texts: int, seed: int = 0) -> tuple[LayerOutputs, np.ndarray[Any, Any]]:
    """Outputs of exits that each see the right answer through a noise of their own, and say what they see."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (texts,), generator=generator)
    seen = torch.nn.functional.one_hot(targets, 3)[:, None] * 1.5 + torch.randn(texts, 6, 3, generator=generator)
    pooled = torch.cat([seen, torch.randn(texts, 6, 5, generator=generator)], -1)
    return LayerOutputs(2 * seen, (2 * seen).softmax(-1), torch.full((texts,), 5), pooled), targets.numpy()


@pytest.mark.parametrize(("name", "threshold"), [("right_tool", 0.9), ("past_future", 0.3)])
def test_layers_that_are_read_together_know_more_than_an_exit(name: str, threshold: float) -> None:
    seen, its = noisy(600)
    new, wanted = noisy(600, seed=1)
    exits = replay(make(name, threshold=threshold).fit(seen, its), new).numpy()
    right = new.probs.argmax(-1).numpy() == wanted[:, None]
    early = exits < 6
    assert early.mean() > 0.5
    assert right[early, exits[early] - 1].mean() > right.mean() + 0.1
    # Their own sureness tells less: at as many layers on average they are wrong more often.
    alone = [replay(make("max_prob", threshold=t), new).numpy() for t in np.linspace(0.5, 0.999, 60)]
    same = min(alone, key=lambda layers: abs(layers.mean() - exits.mean()))
    assert right[np.arange(600), exits - 1].mean() > right[np.arange(600), same - 1].mean() + 0.02


def test_temperatures_make_a_mix_as_sure_as_it_is_right_at_every_layer() -> None:
    seen, its = noisy(1500)
    new, wanted = noisy(1500, seed=1)
    policy = make("right_tool").fit(seen, its)
    tensors = policy.tensors()
    state, plain = (
        policy.start(1500, 3),
        dataclasses.replace(policy).with_tensors({**tensors, "temperature": np.ones(6)}),
    )
    told, gaps = [], []
    for layer in range(6):
        said = ExitOutput(*(part[:, layer].numpy() for part in (new.probs, new.logits, new.pooled)))
        at = np.full(1500, layer + 1)
        found, after = policy.decide(state, said, at)
        right = (state_logits(after["mixed"], tensors).argmax(-1) == wanted).mean()
        told.append(abs(found["confidence_of_the_mix"].mean() - right))
        gaps.append(abs(plain.decide(state, said, at)[0]["confidence_of_the_mix"].mean() - right))
        state = after
    assert max(told) < 0.04
    assert max(gaps) > 0.08  # one classifier for all layers is too sure early and not sure enough late


def state_logits(mixed: Any, tensors: Any) -> Any:
    """Return what the classifier over a mix says."""
    return mixed @ tensors["weight"].T + tensors["bias"]


def test_what_comes_later_is_guessed_from_a_state_that_tells_it() -> None:
    generator = torch.Generator().manual_seed(0)
    turn = torch.randn(8, 8, generator=generator)
    first = torch.randn(500, 1, 8, generator=generator)
    later = torch.tanh(first @ turn.T).expand(-1, 3, -1)
    pooled = torch.cat([first, later], 1)
    logits = torch.zeros(500, 4, 2)
    seen = LayerOutputs(logits, logits.softmax(-1), torch.full((500,), 5), pooled)
    ahead = make("past_future").fit(seen, np.arange(500) % 2).tensors()["ahead"]
    guess = np.tanh(first[:, 0].numpy() @ ahead[0].T)
    assert np.abs(guess - later[:, 0].numpy()).mean() < 0.1


def test_a_second_opinion_on_other_classes_does_not_fit_the_model() -> None:
    for name in ("right_tool", "past_future"):
        policy = ready(name, outputs_of(0))
        policy.check_fits(3, 4)
        for classes, hidden in ((2, 4), (3, 5)):
            with pytest.raises(
                UsageError, match=f"weights of exit policy '{name}' .* are not for a model of {classes}"
            ):
                policy.check_fits(classes, hidden)


def test_the_head_is_recovered_from_what_it_said() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3, 8, generator=generator), torch.randn(3, generator=generator)
    pooled = torch.randn(60, 4, 8, generator=generator)
    logits = pooled @ weight.T + bias
    outputs = LayerOutputs(logits, logits.softmax(-1), torch.full((60,), 5), pooled)
    tensors = make("cap").fit(outputs, np.zeros(60)).tensors()
    read, shift = tensors["read"][0], tensors["shift"][0]
    np.testing.assert_allclose(read @ read.T, np.eye(3), atol=1e-5)
    inside = weight.numpy() @ read.T @ read
    np.testing.assert_allclose(inside, weight.numpy(), atol=1e-4)  # the head reads nothing outside
    np.testing.assert_allclose(weight.numpy() @ shift, bias.numpy(), atol=1e-4)  # b W⁺ W = b
    own = torch.stack([pooled[:, exit] @ torch.randn(3, 8, generator=generator).T for exit in range(4)], 1)
    apart = make("cap").fit(LayerOutputs(own, own.softmax(-1), outputs.lengths, pooled), np.zeros(60)).tensors()
    assert not np.allclose(apart["read"][0], apart["read"][1])  # every exit has a head of its own


def test_a_state_that_the_head_does_not_read_is_held_back() -> None:
    logits = torch.tensor([[[4.0, 0.0], [4.0, 0.0]]] * 2)
    pooled = torch.tensor([[[1.0, 0.0, 0.0]] * 2, [[1.0, 0.0, 9.0]] * 2])
    policy = make("cap", threshold=0.1, alpha=3.0).with_tensors(
        {"read": [[[1, 0, 0], [0, 1, 0]]] * 2, "shift": np.zeros((2, 3))}
    )
    outputs = LayerOutputs(logits, logits.softmax(-1), torch.full((2,), 5), pooled)
    assert replay(policy, outputs).tolist() == [1, 2]
    # With the paper's factor it is the energy, but for a hair.
    energy = np.log(1 / 0.02 - 1)
    same = outputs_of(3, texts=200)
    exits = replay(ready("cap", same, threshold=0.02, alpha=0.0), same)
    assert exits.equal(replay(make("energy", threshold=energy), same))


@pytest.mark.parametrize(("milliseconds", "layers"), [(10, 1.0), (60, 6.0), (35, 3.5), (1, 1.0), (200, 6.0)])
def test_a_budget_in_milliseconds_is_one_in_layers(milliseconds: float, layers: float) -> None:
    seen = easy_and_hard(1000)
    taken = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    timed = make("budget", milliseconds=milliseconds, exit_milliseconds=taken).fit(seen, np.zeros(1000))
    counted = make("budget", layers=layers).fit(seen, np.zeros(1000))
    assert abs(replay(timed, seen).float().mean() - replay(counted, seen).float().mean()) < 0.01


def test_layers_that_take_longer_leave_fewer_of_them_to_the_budget() -> None:
    seen = easy_and_hard(2000)
    taken = np.array([10.0, 11.0, 12.0, 50.0, 90.0, 130.0])
    policy = make("budget", milliseconds=30.0, exit_milliseconds=taken.tolist()).fit(seen, np.zeros(2000))
    assert taken[replay(policy, easy_and_hard(2000, seed=1)).numpy() - 1].mean() == pytest.approx(30, abs=2)


def test_what_exits_were_measured_to_take_serves_every_budget_and_is_saved() -> None:
    seen, taken = easy_and_hard(1000), [10.0, 11.0, 12.0, 50.0, 90.0, 130.0]
    timed = make("budget").fit(seen, np.zeros(1000)).timed(taken)
    for milliseconds in (12.0, 30.0, 100.0):
        told = make("budget", milliseconds=milliseconds, exit_milliseconds=taken).with_tensors(timed.tensors())
        asked = make("budget", milliseconds=milliseconds)
        again = ExitPolicy.from_dict(json.loads(json.dumps(asked.to_dict())), load(save(timed.tensors())))
        assert replay(again, seen).equal(replay(told, seen))
    assert replay(timed, seen).equal(replay(make("budget").fit(seen, np.zeros(1000)), seen))  # a budget in layers
    by_hand = make("budget", milliseconds=30.0, exit_milliseconds=[30.0] * 6).with_tensors(timed.tensors())
    assert replay(by_hand, seen).float().mean() > replay(asked.with_tensors(timed.tensors()), seen).float().mean()


def test_a_budget_in_milliseconds_needs_what_layers_take() -> None:
    weights = make("budget").fit(easy_and_hard(50), np.zeros(50)).tensors()
    before = {"thresholds": weights["thresholds"]}  # as models have them that were calibrated before exits were timed
    for tensors in (weights, before):
        with pytest.raises(UsageError, match="milliseconds is 5, and nobody measured what exits take"):
            replay(make("budget", milliseconds=5.0).with_tensors(tensors), easy_and_hard(10))
    with pytest.raises(UsageError, match=r"exit_milliseconds is \[2.0\] and milliseconds None; give both"):
        make("budget", exit_milliseconds=[2.0])
    with pytest.raises(UsageError, match="never less at a later one"):
        make("budget", milliseconds=5.0, exit_milliseconds=[2.0, 1.0])
    policy = make("budget", milliseconds=5.0, exit_milliseconds=[2.0, 3.0]).fit(easy_and_hard(50), np.zeros(50))
    with pytest.raises(UsageError, match="has 2 numbers; allowed: 6"):
        replay(policy, easy_and_hard(10))


def test_the_temperature_undoes_what_was_done_to_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 3, generator=generator)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    assert temperature(logits.numpy(), labels.numpy(), SINGLE_LABEL) == pytest.approx(1.0, abs=0.05)
    assert temperature(3 * logits.numpy(), labels.numpy(), SINGLE_LABEL) == pytest.approx(3.0, abs=0.15)
    wanted = torch.bernoulli(logits.sigmoid(), generator=generator)
    assert temperature(logits.numpy() / 2, wanted.numpy(), MULTI_LABEL) == pytest.approx(0.5, abs=0.03)


def test_exits_that_are_always_right_are_cooled_down_and_stay_within_the_range() -> None:
    logits = torch.tensor([[4.0, 0.0]] * 20)
    assert 0.05 <= temperature(logits.numpy(), np.zeros(20), SINGLE_LABEL) < 0.3
