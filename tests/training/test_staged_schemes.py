"""Schemes that look at more than the exits' losses: their formulas, what they hold still, what they save."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from elbert import Classifier
from elbert.errors import UsageError
from elbert.exits import make
from elbert.modeling import load_model
from elbert.modeling.losses import layer_losses
from elbert.training import schemes
from elbert.training.schemes.tight_frame import tight_frame
from tests.training.conftest import weights

SINGLE = "single_label_classification"
STAGED = [name for name in schemes.names() if schemes.get(name).staged]
LABELS = torch.tensor([0, 1, 1, 0])


def met(name: str, model: Any = None, steps: int = 10, **options: Any) -> schemes.LossScheme:
    """A scheme that has met a model, by default one of 3 layers and 4 hidden units."""
    scheme = schemes.make(name, 3, **options)
    config = SimpleNamespace(hidden_size=4)
    plain = SimpleNamespace(problem_type=SINGLE, num_labels=2, config=config, exit_heads=True)
    scheme.begin(plain if model is None else model, steps)
    return scheme


def said(seed: int = 0, scale: float = 1.0) -> SimpleNamespace:
    """What a model of 3 layers says of 4 texts."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(4, 3, 2, generator=generator)
    return SimpleNamespace(logits=logits.requires_grad_(), pooled=torch.randn(4, 3, 4, generator=generator))


def loss(scheme: schemes.LossScheme, output: Any, step: int = 0) -> torch.Tensor:
    return scheme(layer_losses(output.logits, LABELS, SINGLE), output=output, labels=LABELS, step=step)


@pytest.mark.parametrize("name", STAGED)
def test_every_one_trains_a_model_that_is_read_again(name: str, fine_tune: Any, settings: Any, tmp_path: Any) -> None:
    chosen = dataclasses.replace(settings, scheme=name)
    summary = fine_tune(tmp_path / "model", settings=chosen, family="bert", heads="full")
    assert len(summary.layer_scores) == 3
    content = json.loads((tmp_path / "model" / "elbert.json").read_text())
    again = schemes.from_dict(content["scheme"])
    assert again.to_dict() == {key: value for key, value in content["scheme"].items() if key != "citation"}
    classifier = Classifier.from_pretrained(tmp_path / "model")
    for policy in content["policies"]:
        assert classifier.predict("a fine film", policy=policy).label in ("good", "bad")


def test_the_second_stage_moves_the_exits_alone(fine_tune: Any, settings: Any, tmp_path: Any) -> None:
    for name in ("two_stage", "tight_frame"):
        chosen = dataclasses.replace(settings, scheme=name, scheme_options={"first": 0.0}, epochs=1)
        fine_tune(tmp_path / name, settings=chosen, family="bert", heads="full")
        fine_tune(
            tmp_path / f"{name}-more", settings=dataclasses.replace(chosen, epochs=2), family="bert", heads="full"
        )
        one, more = weights(tmp_path / name), weights(tmp_path / f"{name}-more")
        assert all(torch.equal(one[key], more[key]) for key in one)
        assert not torch.equal(
            *(load_model(tmp_path / each)[0].exit_heads.dense_weight for each in (name, f"{name}-more"))
        )


@pytest.mark.parametrize("name", ["two_stage", "self_distillation", "tight_frame"])
def test_exits_that_share_the_last_head_cannot_be_trained_alone(name: str, tiny_model: Any) -> None:
    with pytest.raises(UsageError, match=f"scheme '{name}' trains heads of the exits' own.* add --set heads=full"):
        met(name, tiny_model("albert"))


@pytest.mark.parametrize("name", ["two_stage", "mixed", "self_distillation", "act"])
def test_a_model_of_the_first_stage_is_never_the_best(name: str) -> None:
    scheme = met(name, steps=10, first=0.4)
    assert [scheme.whole(step) for step in (1, 4, 5, 10)] == [False, False, True, True]


def test_stages_weigh_layers_as_their_papers_say() -> None:
    output = said()
    each = layer_losses(output.logits, LABELS, SINGLE)
    for name in ("two_stage", "mixed", "self_distillation", "act"):
        assert loss(met(name), output, step=4).item() == pytest.approx(each[-1].item())
    assert loss(met("mixed"), output, step=5).item() == pytest.approx(each.sum().item())
    assert loss(met("two_stage"), output, step=5).item() == pytest.approx(each[:-1].sum().item())


def test_exits_learn_what_the_last_one_says_whatever_the_label() -> None:
    output = said()
    p = output.logits.softmax(-1)
    wanted = sum((p[:, i] * (p[:, i] / p[:, 2]).log()).sum(-1).mean() for i in range(2))
    found = loss(met("self_distillation"), output, step=9)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    found.backward()
    assert output.logits.grad[:, 2].abs().max() == 0  # the teacher is not taught


def test_steps_alternate_and_the_unit_learns_which_exits_are_wrong() -> None:
    scheme, output = met("alternate"), said()
    each = layer_losses(output.logits, LABELS, SINGLE)
    assert loss(scheme, output, step=2).item() == pytest.approx(each[-1].item())
    # A unit that knows nothing is wrong by 1/4 at every exit.
    assert loss(scheme, output, step=3).item() == pytest.approx(each.sum().item() + 3 / 4, rel=1e-5)
    wrong = output.logits.argmax(-1) != LABELS[:, None]
    output.pooled[..., 0] = torch.where(wrong, 3.0, -3.0)
    optimizer = torch.optim.Adam(scheme.parameters(), lr=0.1)
    for step in range(1, 400, 2):
        optimizer.zero_grad()
        loss(scheme, output, step=step).backward()
        optimizer.step()
    policy = scheme.policies()["certainty"]
    assert policy == make("certainty")
    error = 1 / (1 + math.e ** -(output.pooled.numpy() @ policy.tensors()["weight"] + policy.tensors()["bias"]))
    assert ((error > 0.5) == wrong.numpy()).all()


@pytest.mark.parametrize("projection", [0.0, 0.5, 1.0])
def test_the_exits_gradient_loses_what_works_against_the_last_layers(tiny_model: Any, projection: float) -> None:
    model = tiny_model("bert", heads="full")
    dense, _, out = model.family.head(model.backbone)
    with torch.no_grad():  # exits that read the same and say the opposite
        model.exit_heads.dense_weight.copy_(dense.weight.expand(2, -1, -1))
        model.exit_heads.dense_bias.copy_(dense.bias.expand(2, -1))
        model.exit_heads.out_weight.copy_(-out.weight.expand(2, -1, -1))
    ids, labels = torch.randint(5, 200, (4, 6), generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])
    scheme = schemes.make("gradient_regularised", 3, gamma=0.5, projection=projection)
    scheme.begin(model, 10)
    matrices = scheme._matrices
    output = model(ids)
    each = layer_losses(output.logits, labels, SINGLE)
    last = each[2]
    log = (output.logits / 3).log_softmax(-1)
    teacher = log[:, 2:].detach()
    rest = 0.5 * each[:2].sum() + 0.5 * 9 * (teacher.exp() * (teacher - log[:, :2])).sum(-1).mean(0).sum()
    mine, theirs = (
        torch.cat([g.flatten() for g in torch.autograd.grad(value, matrices, retain_graph=True)])
        for value in (last, rest)
    )
    assert mine @ theirs < 0, "the case has to be one of conflict"
    value = scheme(each, output=output, labels=labels)
    assert value.item() == pytest.approx((last + rest).item(), rel=1e-5)
    found = torch.cat([g.flatten() for g in torch.autograd.grad(value, matrices)])
    kept = theirs - projection * (mine @ theirs) / (mine @ mine) * mine
    torch.testing.assert_close(found, mine + kept, rtol=1e-3, atol=1e-5)


def test_layers_count_alike_at_the_start_and_where_texts_leave_at_the_end() -> None:
    output = said(scale=3.0)
    rows = F.cross_entropy(output.logits.transpose(1, 2), LABELS[:, None].expand(-1, 3), reduction="none")
    start = loss(met("cosee", calibration=0.0), output, step=0)
    assert start.item() == pytest.approx(rows.mean().item(), rel=1e-5)
    signal = 1 / (1 + output.logits.exp().sum(-1))
    scheme = met("cosee", calibration=0.0, sharpness=1e4, thresholds=400, steps=1)
    torch.manual_seed(0)
    found = loss(scheme, output, step=1).item()
    assert (scheme.low.item(), scheme.high.item()) == pytest.approx((signal.min().item(), signal.max().item()))
    drawn = torch.linspace(float(scheme.low), float(scheme.high), 4001)
    leaves = signal[:, None] < drawn[:, None]
    leaves[..., -1] = True
    wanted = rows[:, None].expand(-1, 4001, -1).gather(2, leaves.int().argmax(-1, keepdim=True)).mean()
    assert found == pytest.approx(wanted.item(), abs=0.1 * rows.max().item())


def test_a_signal_that_does_not_tell_right_from_wrong_is_paid_for() -> None:
    # Exit 1 is surer where it is wrong, exit 2 where it is right; the third is right throughout.
    logits = torch.tensor([[[1.0, 0.0], [6.0, 0.0], [1.0, 0.0]], [[6.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    scheme, labels = schemes.make("cosee", 3), torch.tensor([0, 1])
    scheme.begin(SimpleNamespace(problem_type=SINGLE, num_labels=2, config=SimpleNamespace(hidden_size=4)), 10)
    signal = 1 / (1 + logits.exp().sum(-1))
    wrong = logits.argmax(-1) != labels[:, None]
    gaps = [max(0.0, float(signal[0, i] - signal[1, i]) + 0.3) for i in range(2)]
    assert scheme._unlike(signal, wrong).item() == pytest.approx(sum(gaps) / 2, rel=1e-5)
    assert gaps[0] > 0.3 > gaps[1]


def test_a_layer_counts_as_often_as_texts_leave_there_and_the_policy_leaves_so() -> None:
    scheme, output = met("ponder", prior=0.3, pull=0.7), said()
    with torch.no_grad():
        scheme.weight.copy_(torch.randn(8, generator=torch.Generator().manual_seed(1)))
    rows = F.cross_entropy(output.logits.transpose(1, 2), LABELS[:, None].expand(-1, 3), reduction="none")
    prior, total = [0.3, 0.21, 0.49], 0.0
    chances = []
    for text in range(4):
        still, before = 1.0, torch.zeros(4)
        for layer in range(3):
            now = output.pooled[text, layer]
            score = torch.cat([now, before]) @ scheme.weight + scheme.bias
            leaves = 1.0 if layer == 2 else torch.sigmoid(score).item()
            chance, still, before = still * leaves, still * (1 - leaves), now
            total += chance * rows[text, layer].item() + 0.7 * prior[layer] * math.log(prior[layer] / chance)
            chances.append(1 - still)
    assert loss(scheme, output).item() == pytest.approx(total / 4, rel=1e-4)
    policy, state = scheme.policies()["q_exit"], None
    state = policy.start(4, 2)
    for layer in range(2):
        here = SimpleNamespace(pooled=output.pooled[:, layer].numpy())
        found, state = policy.decide(state, here, torch.full((4,), layer + 1).numpy())
        assert found["chance_to_have_left"].tolist() == pytest.approx(chances[layer::3], abs=1e-5)


def test_the_mixed_answer_learns_and_is_what_the_policy_mixes() -> None:
    scheme, output = met("act", price=0.5), said()
    with torch.no_grad():
        scheme.weight.copy_(torch.randn(4, generator=torch.Generator().manual_seed(1)))
    probs, total = output.logits.softmax(-1), 0.0
    answers = []
    for text in range(4):
        answer, share, shares = torch.zeros(2), 1.0, 0.0
        for layer in range(3):
            answer = share * probs[text, layer] + (1 - share) * answer
            share *= torch.sigmoid(output.pooled[text, layer] @ scheme.weight + scheme.bias).item()
            shares += share
        answers.append(answer.tolist())
        total += 0.5 * shares - math.log(answer[LABELS[text]].item())
    assert loss(scheme, output, step=5).item() == pytest.approx(total / 4, rel=1e-4)
    policy = scheme.policies()["halting"]
    state = policy.start(4, 2)
    for layer in range(3):
        parts = (part[:, layer].detach().numpy() for part in (probs, output.logits, output.pooled))
        here = SimpleNamespace(**dict(zip(("probs", "logits", "pooled"), parts, strict=True)), problem_type=SINGLE)
        _, state = policy.decide(state, here, torch.full((4,), layer + 1).numpy())
    assert state["mixed"] == pytest.approx(torch.tensor(answers).numpy(), abs=1e-5)


def drawn(scheme: schemes.LossScheme) -> None:
    """Give a scheme's parameters values that nothing cancels in."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in scheme.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


def told(scheme: schemes.LossScheme, name: str, output: Any, measure: str) -> list[list[float]]:
    """What the policy that a scheme learnt finds of every text at every layer before the last."""
    policy = scheme.policies()[name]
    state, found = policy.start(4, 2), []
    for layer in range(2):
        parts = (part[:, layer].detach().numpy() for part in (output.logits.softmax(-1), output.logits, output.pooled))
        here = SimpleNamespace(**dict(zip(("probs", "logits", "pooled"), parts, strict=True)), problem_type=SINGLE)
        measures, state = policy.decide(state, here, torch.full((4,), layer + 1).numpy())
        found.append(measures[measure].tolist())
    return found


def test_a_mix_of_the_layers_so_far_learns_beside_the_exits_and_the_policy_mixes_so() -> None:
    scheme, output = met("right_tool"), said()
    drawn(scheme)
    each, share = layer_losses(output.logits, LABELS, SINGLE), scheme.scores.detach().softmax(0)
    total, cooled, sure = each.sum().item(), 0.0, []
    for layer in range(3):
        weights = share[: layer + 1] / share[: layer + 1].sum()
        logits = torch.einsum("k,bkh->bh", weights, output.pooled[:, : layer + 1]) @ scheme.weight.T + scheme.bias
        total += F.cross_entropy(logits, LABELS).item()
        cooled += F.cross_entropy(logits.detach() / scheme.log_temperature[layer].exp(), LABELS)
        sure.append((logits / scheme.log_temperature[layer].exp()).softmax(-1).amax(-1).tolist())
    value = loss(scheme, output)
    assert value.item() == pytest.approx(total, rel=1e-5)
    (by_temperature,) = torch.autograd.grad(cooled, [scheme.log_temperature])
    value.backward()
    torch.testing.assert_close(scheme.log_temperature.grad, by_temperature)
    for layer, confidences in enumerate(told(scheme, "right_tool", output, "confidence_of_the_mix")):
        assert confidences == pytest.approx(sure[layer], rel=1e-4)


def test_past_and_guessed_states_are_read_and_the_guess_is_taught_by_what_came() -> None:
    scheme, output = met("past_future"), said()
    drawn(scheme)
    output.pooled.requires_grad_()
    pooled, rows, total, entropies = output.pooled.detach(), layer_losses(output.logits, LABELS, SINGLE), 0.0, []
    for layer in range(3):
        past = pooled[:, : layer + 1].sum(1)
        future = torch.zeros(4, 4)
        if layer < 2:
            guess = torch.tanh(pooled[:, layer] @ scheme.ahead[layer].T)
            total += (1 - F.cosine_similarity(guess, pooled[:, layer + 1 :].mean(1))).mean().item() / 2 / 2
            future = guess * (2 - layer) / 3
        balance = torch.sigmoid(torch.tanh(past / (layer + 1)) @ scheme.gate.T)
        logits = 2 * balance * (past / 3 @ scheme.weight.T) + (2 - 2 * balance) * (future @ scheme.weight.T)
        logits = logits + scheme.bias
        total += (layer + 1) / 6 / 2 * (rows[layer] + F.cross_entropy(logits, LABELS)).item()
        probs = logits.softmax(-1)
        entropies.append((-(probs * probs.log()).sum(-1) / math.log(2)).tolist())
    assert loss(scheme, output).item() == pytest.approx(total, rel=1e-5)
    for layer, found in enumerate(told(scheme, "past_future", output, "entropy_of_the_guess")):
        assert found == pytest.approx(entropies[layer], abs=1e-5)
    scheme.opinions(output.pooled)[:, 2].sum().backward()
    assert output.pooled.grad[:, :2].abs().max() == 0  # the past is not taught by the present
    assert output.pooled.grad[:, 2].abs().max() > 0


@pytest.mark.parametrize("name", ["right_tool", "past_future"])
def test_matrices_of_a_second_opinion_lie_in_the_policys_tensors_alone(
    name: str, fine_tune: Any, settings: Any, tmp_path: Any
) -> None:
    fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, scheme=name), family="albert")
    content = json.loads((tmp_path / "model" / "elbert.json").read_text())
    assert content["scheme"]["state"] == {}
    policy = Classifier.from_pretrained(tmp_path / "model").policies[name]
    assert policy.tensors()["weight"].shape == (2, 16)
    assert abs(policy.tensors()["weight"]).max() > 0


def test_an_exit_reaches_its_own_layer_only(tiny_model: Any) -> None:
    model = tiny_model("bert", heads="full")
    met("detached", model)
    model(torch.tensor([[2, 7, 9, 3]])).logits[0, 2].sum().backward()
    layers = model.family.steps(model.backbone)
    moved = [any(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters()) for layer in layers]
    assert moved == [False, False, True]


@pytest.mark.parametrize(("family", "heads"), [("albert", "full"), ("bert", "shared")])
def test_what_is_shared_cannot_be_trained_apart(tiny_model: Any, family: str, heads: str) -> None:
    with pytest.raises(UsageError, match="scheme 'detached' needs layers and heads of the exits' own"):
        met("detached", tiny_model(family, heads=heads))


def test_layers_are_left_out_in_training_alone_and_as_often_as_asked(tiny_model: Any) -> None:
    model = tiny_model("bert")
    met("layer_drop", model)
    assert model.layer_drop == 0.2
    ran: list[int] = []
    for number, step in enumerate(model.family.steps(model.backbone)):
        step.register_forward_hook(lambda *_, number=number: ran.append(number))
    ids = torch.tensor([[2, 7, 9, 3]])
    model.train()
    torch.manual_seed(0)
    for _ in range(200):
        model(ids)
    assert [0.75 < ran.count(number) / 200 < 0.85 for number in range(3)] == [True] * 3
    model.layer_drop = 0.99
    pooled = model(ids).pooled[0]  # states of layers that are left out are those before them
    torch.testing.assert_close(pooled[1], pooled[0])
    ran.clear()
    model.eval()
    model(ids)
    assert ran == [0, 1, 2]


def test_a_seed_fixes_which_layers_are_left_out_and_not_all_of_them_can_be(
    fine_tune: Any, settings: Any, tmp_path: Any
) -> None:
    kind = dataclasses.replace(settings, scheme="layer_drop", scheme_options={"rate": 0.5})
    for name in ("one", "two"):
        fine_tune(tmp_path / name, settings=kind, family="bert")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(UsageError, match="scheme 'layer_drop': rate is 1; allowed: a number from 0 to 0.99"):
        schemes.make("layer_drop", 3, rate=1)


@pytest.mark.parametrize("name", ["cosee", "act"])
def test_what_reads_one_right_label_refuses_other_problems(name: str, tiny_model: Any) -> None:
    with pytest.raises(UsageError, match=f"scheme '{name}' .* the data is regression: take another scheme"):
        met(name, tiny_model("bert", num_labels=1, problem_type="regression"))


def test_wrong_values_are_told_of_values_too(tiny_model: Any) -> None:
    scheme = met("alternate", tiny_model("bert", num_labels=1, problem_type="regression"))
    wrong = scheme._wrong(torch.tensor([[[1.0], [3.0], [2.0]]]), torch.tensor([1.0]))
    assert wrong[0].tolist() == pytest.approx([0, math.tanh(2), math.tanh(1)])


def test_weights_follow_what_helps_other_texts(tiny_model: Any) -> None:
    model = tiny_model("bert", heads="full")
    ids = torch.randint(5, 200, (8, 6), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1] * 4)
    scheme = schemes.make("cross_level", 3, every=2, temperature=1.0)
    scheme.begin(model, 10)
    output = model(ids)
    each = layer_losses(output.logits, labels, SINGLE)
    quiet, loud = (scheme(each, output=output, labels=labels, step=step) for step in (1, 2))
    log = output.logits.log_softmax(-1)
    mutual = [
        sum((log[:, j].exp() * (log[:, j] - log[:, i])).sum(-1).mean() for j in range(3) if j != i) / 2
        for i in range(3)
    ]
    assert quiet.item() == pytest.approx((each + torch.stack(mutual)).sum().item(), rel=1e-4)
    assert loud.item() == pytest.approx(quiet.item(), rel=1e-6)
    (slope,) = torch.autograd.grad(loud, [scheme.logits], retain_graph=True)
    plain, half = scheme.task.exit_losses(output.logits, labels), torch.arange(8) % 2 == 1
    taught, aim = plain + scheme._mutual(output.logits), plain[~half].sum(1).mean()
    pull = torch.zeros(3)
    for k in range(3):
        pairs = zip(
            torch.autograd.grad(aim, scheme._matrices, retain_graph=True, allow_unused=True),
            torch.autograd.grad(taught[half, k].mean(), scheme._matrices, retain_graph=True, allow_unused=True),
            strict=True,
        )
        pull[k] = sum((a * b).sum() for a, b in pairs if a is not None and b is not None)
    torch.testing.assert_close(slope, -(pull - pull.mean()), rtol=1e-3, atol=1e-6)  # through softmax at equal weights
    with pytest.raises(RuntimeError, match="unused"):  # between two looks ahead nothing moves the weights
        torch.autograd.grad(quiet, [scheme.logits])


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_classes_of_a_tight_frame_are_equally_far_apart(classes: int) -> None:
    frame = tight_frame(classes, 16)
    cosines = frame @ frame.T
    torch.testing.assert_close(cosines.diagonal(), torch.ones(classes))
    others = cosines[~torch.eye(classes, dtype=torch.bool)]
    torch.testing.assert_close(others, torch.full_like(others, -1 / (classes - 1)))  # the least that all can have


def test_a_tight_frame_is_fixed_and_early_exits_count_most(tiny_model: Any) -> None:
    model = tiny_model("bert", heads="full")
    scheme = met("tight_frame", model, scale=5.0)
    assert scheme.weights().tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    torch.testing.assert_close(model.exit_heads.out_weight[1], 5 * tight_frame(2, 16))
    assert not model.exit_heads.out_weight.requires_grad
    with pytest.raises(UsageError, match="heads linear: add --set heads=full"):
        met("tight_frame", tiny_model("bert", heads="linear"))
