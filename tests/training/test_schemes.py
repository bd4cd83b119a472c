"""Loss schemes: their formulas, their learned weights over a long run, and their JSON."""

from __future__ import annotations

import json

import pytest
import torch

from elbert.errors import UsageError
from elbert.training import schemes

LOSSES = torch.tensor([0.9, 0.5, 0.3, 0.1])


def run(scheme: schemes.LossScheme, losses: torch.Tensor, steps: int) -> torch.Tensor:
    """Let a scheme's own parameters learn on fixed losses, as the trainer's AdamW would."""
    optimizer = torch.optim.AdamW(scheme.parameter_groups(3e-5))
    for step in range(steps):
        optimizer.zero_grad()
        scheme(losses, step=step).backward()
        optimizer.step()
    return scheme.weights().detach()


@pytest.mark.parametrize("name", schemes.names())
def test_every_scheme_has_a_line_and_a_paper(name):
    scheme = schemes.get(name)
    assert scheme.name == name
    assert scheme.summary
    assert scheme.citation
    assert scheme.__doc__


@pytest.mark.parametrize("name", schemes.names())
def test_weights_lie_on_the_device_of_the_model_and_only_learnt_ones_are_saved(name):
    scheme = schemes.make(name, 4)
    scheme.build(8)
    state = {key for key, _ in scheme.named_parameters()} | ({"low", "high"} if name == "cosee" else set())
    assert set(scheme.state_dict()) == state
    assert scheme.to("meta").weights().device.type == "meta"


@pytest.mark.parametrize("name", [name for name in schemes.names() if name != "last" and not schemes.get(name).staged])
@pytest.mark.parametrize("layers", [1, 2, 12])
def test_every_scheme_for_exits_gives_a_finite_loss_with_a_gradient_for_every_layer(name, layers):
    losses = torch.rand(layers, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = schemes.make(name, layers)(losses)
    loss.backward()
    assert torch.isfinite(loss)
    assert losses.grad is not None
    assert (losses.grad > 0).all()


def test_equal_is_the_plain_sum():
    assert schemes.make("equal", 4)(LOSSES).item() == pytest.approx(LOSSES.sum().item())


def test_depth_weighted_is_pabees_formula():
    expected = sum(i * loss for i, loss in enumerate(LOSSES.tolist(), start=1)) / 10
    assert schemes.make("depth_weighted", 4)(LOSSES).item() == pytest.approx(expected)


def test_last_is_ordinary_fine_tuning():
    losses = LOSSES.clone().requires_grad_()
    loss = schemes.make("last", 4)(losses)
    loss.backward()
    assert loss.item() == pytest.approx(LOSSES[-1].item())
    assert losses.grad.tolist() == [0, 0, 0, 1]


def test_elbert_starts_almost_uniform_and_sums_to_the_number_of_layers():
    weights = schemes.make("elbert", 4).weights()
    early = torch.sigmoid(torch.tensor(4.0))
    assert torch.allclose(weights, torch.stack([early, early, early, 4 - 3 * early]))


def test_elbert_gradient_is_the_papers():
    scheme = schemes.make("elbert", 4, init=0.5)
    scheme(LOSSES).backward()
    sigma = torch.sigmoid(torch.tensor(0.5))
    assert torch.allclose(scheme.logits.grad, (LOSSES[:3] - LOSSES[3]) * sigma * (1 - sigma))


@pytest.mark.parametrize("name", ["elbert", "elbert_balanced"])
def test_trained_weights_keep_their_sum(name):
    assert run(schemes.make(name, 4), LOSSES, 400).sum().item() == pytest.approx(4.0, abs=1e-5)


def test_on_a_long_run_the_papers_early_weights_starve():
    assert run(schemes.make("elbert", 4), LOSSES, 1200)[:3].max() < 0.05


def test_on_a_long_run_balanced_weights_come_to_rest_where_the_formula_says():
    weights = run(schemes.make("elbert_balanced", 4, pull=0.5), LOSSES, 1500)
    relative = LOSSES / LOSSES.mean()
    expected = 1 / weights[3] + (relative[:3] - relative[3]) / 0.5
    assert torch.allclose(1 / weights[:3], expected, rtol=0.02)
    assert weights.min() >= 0.5 / (4 + 0.5)


def test_balanced_weights_do_not_depend_on_the_size_of_the_losses():
    weights = run(schemes.make("elbert_balanced", 4), LOSSES, 300)
    assert torch.allclose(run(schemes.make("elbert_balanced", 4), LOSSES / 1000, 300), weights, atol=1e-3)


def test_balanced_trains_the_model_on_the_weighted_losses_alone():
    losses = LOSSES.clone().requires_grad_()
    scheme = schemes.make("elbert_balanced", 4)
    loss = scheme(losses)
    loss.backward()
    assert loss.item() == pytest.approx((scheme.weights() * LOSSES).sum().item(), rel=1e-6)
    assert torch.allclose(losses.grad, scheme.weights())


def test_balanced_survives_losses_of_zero():
    scheme = schemes.make("elbert_balanced", 3)
    scheme(torch.zeros(3)).backward()
    assert torch.isfinite(scheme.logits.grad).all()


def test_own_parameters_get_their_own_learning_rate_and_no_decay():
    scheme = schemes.make("elbert", 4, learning_rate=0.5)
    (group,) = scheme.parameter_groups(3e-5)
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.0)
    assert schemes.make("equal", 4).parameter_groups(3e-5) == []


def test_log_names_the_weight_of_every_layer():
    assert schemes.make("equal", 2).log() == {"weight_1": 1.0, "weight_2": 1.0}


@pytest.mark.parametrize("name", schemes.names())
def test_json_and_back_keeps_options_and_learned_weights(name):
    scheme = schemes.make(name, 4)
    if list(scheme.parameters()):
        run(scheme, LOSSES, 20)
    again = schemes.from_dict(json.loads(json.dumps(scheme.to_dict())))
    assert type(again) is type(scheme)
    assert again.options() == scheme.options()
    assert torch.equal(again.weights(), scheme.weights())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: schemes.make("elbrt", 4), "unknown scheme 'elbrt'; did you mean 'elbert'"),
        (lambda: schemes.make("elbert", 4, lr=1.0), "no option 'lr'"),
        (lambda: schemes.make("equal", 4, pull=1.0), "no option 'pull'; it has none"),
        (lambda: schemes.make("elbert_balanced", 4, pull=-1.0), "pull is -1.0; allowed"),
        (lambda: schemes.make("elbert", 4, init="high"), "init is 'high'; allowed: a number"),
        (lambda: schemes.make("equal", 0), "at least 1 layer"),
        (lambda: schemes.from_dict({"name": "equal"}), "lacks num_layers"),
        (
            lambda: schemes.from_dict({"name": "elbert", "num_layers": 4, "state": {"logits": [4.0]}}),
            "does not fit a model of 4 layers",
        ),
    ],
)
def test_a_wrong_request_is_one_clear_line(call, said):
    with pytest.raises(UsageError, match=said):
        call()
