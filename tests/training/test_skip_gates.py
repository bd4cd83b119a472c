"""The scheme that trains skip gates: what goes past a layer, what it costs, and what holds still when."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from elbert import Classifier
from elbert.engine import Arrival, Engine
from elbert.errors import UsageError
from elbert.exits import make, replay
from elbert.exits.gates import SkipGates
from elbert.modeling.losses import layer_losses
from elbert.training import schemes
from tests.engine.test_dropping import embedded, one_layer

LABELS = torch.tensor([0, 1])
IDS = torch.tensor([[2, 7, 9, 11, 8, 3], [2, 5, 3, 0, 0, 0]])
MASK = (IDS > 0).long()


def met(model: Any, steps: int = 18, **options: Any) -> Any:
    """The scheme with gates of two layers, drawn so that one text skips layer 2 and both run layer 3."""
    scheme = schemes.make("skip_gates", 4, **options)
    scheme.begin(model, steps)
    return scheme


def split_by(scheme: Any, model: Any) -> None:
    """Let layer 2 be skipped by the first text alone, and layer 3 by nobody."""
    before = model.gate
    states: list[torch.Tensor] = []
    model.gate = lambda _, means: states.append(means) or torch.zeros(len(means))
    with torch.no_grad():
        model(IDS, MASK)
        apart = states[0][0] - states[0][1]
        middle = (states[0].sum(0) / 2) @ apart
        scheme.gates[0, :-1], scheme.gates[0, -1] = 4 * apart, -4 * middle
        scheme.gates[1] = torch.tensor([0.0] * 16 + [-9.0])
    model.gate = before


@pytest.fixture
def model(tiny_model: Any) -> Any:
    return tiny_model("bert", "full", num_hidden_layers=4)


def test_hard_gates_answer_as_the_engine_that_skips(model: Any) -> None:
    scheme = met(model)
    split_by(scheme, model)
    gates = scheme.policies()["gated"].gates
    rows = [Arrival(row, IDS[row][MASK[row] > 0].tolist()) for row in (0, 1)]
    outputs = Engine(model.weights()).record(rows, gates=gates)
    assert outputs.depth.tolist() == [[1, 3, 4, 4], [1, 2, 3, 4]]
    with torch.no_grad():
        said = model(IDS, MASK).logits
    torch.testing.assert_close(said[:, -1], outputs.logits[:, -1], atol=1e-5, rtol=0)
    torch.testing.assert_close(said[0, [0, 2]], outputs.logits[0, [0, 1]], atol=1e-5, rtol=0)


def test_gates_mix_at_first_and_then_pass_their_gradient_through(model: Any) -> None:
    scheme = met(model, steps=18)  # 10 steps of the first stage, 5 of them soft
    split_by(scheme, model)
    with torch.no_grad():
        hard = model(IDS, MASK).logits
    for step, same in ((4, False), (5, True)):
        scheme.before_step(model, step)
        output = model(IDS, MASK)
        assert torch.allclose(output.logits, hard, atol=1e-5) is same
        scheme.zero_grad()
        losses = layer_losses(output.logits, LABELS, model.problem_type)
        value = scheme(losses, output=output, labels=LABELS, step=step)
        soft = torch.stack([scheme._said[layer] for layer in (2, 3)]).sum(0)
        assert value.item() == pytest.approx((losses[-1] + 0.1 * (1 / soft).mean()).item())
        value.backward()
        assert scheme.gates.grad.abs().amax(1).min() > 0


def test_the_second_stage_holds_all_but_the_exits_still_and_counts_who_runs_a_layer(model: Any) -> None:
    scheme = met(model, steps=18)
    split_by(scheme, model)
    scheme.before_step(model, 10)
    output = model(IDS, MASK)
    each = scheme.task.exit_losses(output.logits, LABELS)
    value = scheme(each.mean(0), output=output, labels=LABELS, step=10)
    assert value.item() == pytest.approx((each[:, 0].mean() + each[1, 1] + each[:, 2].mean()).item())
    value.backward()
    assert scheme.gates.grad is None
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert model.exit_heads.out_weight.grad.abs().amax() > 0


@torch.inference_mode()
def what_the_gate_says(classifier: Classifier, texts: list[str]) -> np.ndarray:
    """Return what the gate of layer 2 says of every text, by plain products."""
    weights, unit = classifier.model.weights(), torch.from_numpy(classifier.policies["gated"].gates.weights[0])
    means = [
        one_layer(embedded(weights, text), weights.layers[0][0])[0].mean(0) for text in classifier.arrivals(texts, {})
    ]
    return torch.sigmoid(torch.stack(means) @ unit[:-1] + unit[-1]).numpy()


def test_a_model_is_trained_saved_and_skips_layers_with_any_rule(fine_tune: Any, settings: Any, tmp_path: Path) -> None:
    chosen = dataclasses.replace(settings, scheme="skip_gates", scheme_options={"price": 1.0}, words=False)
    fine_tune(tmp_path / "m", settings=chosen, family="bert", heads="full")
    classifier = Classifier.from_pretrained(tmp_path / "m")
    trained = classifier.policies["gated"].gates.weights
    assert trained.shape == (1, 17)
    texts = ["a fine film", "a dull and careless story", "great acting", "the start was poor and slow", "witty"]
    says = what_the_gate_says(classifier, texts)
    widest = int(np.diff(np.sort(says)).argmax())
    middle = float(np.sort(says)[widest : widest + 2].mean())  # some texts skip, and some don't
    gates = SkipGates(middle).with_weights(trained)
    rule = make("max_prob", threshold=0.9, gates=middle)
    outputs = classifier.record(texts, gates=SkipGates(middle))
    assert [each.exit_layer for each in classifier.predict(texts, policy=make("full", gates=middle))] == [
        2 if said >= middle else 3 for said in says
    ]
    assert [each.exit_layer for each in classifier.predict(texts, policy=rule)] == replay(rule, outputs).tolist()
    classifier.keep("mine", make("full", gates=gates))
    classifier.save_pretrained(tmp_path / "again")
    again = Classifier.from_pretrained(tmp_path / "again")
    assert again.policy == make("full", gates=middle)
    whole = classifier.predict_proba(texts)
    np.testing.assert_allclose(again.predict_proba(texts), whole, atol=1e-6)
    for text, depth in zip(texts, outputs.depth.tolist(), strict=True):
        trace = again.trace(text)
        assert trace.skipped == ((2,) if 2 not in depth else ())
        assert (trace.exit_layer, trace.ran) == (3, 3 - len(trace.skipped))
        assert trace.label == again.predict(text).label
        assert trace.score == pytest.approx(again.predict(text).score, abs=1e-6)
        if trace.skipped:
            assert trace.reasons[1] == "layer 2: skipped by its gate"
            assert torch.equal(trace.probs[1], trace.probs[0])
            assert torch.equal(trace.attention[1], trace.attention[0])
            assert trace.to_dict()["skipped"] == [2]


def test_models_without_a_layer_to_skip_or_gates_are_refused(tiny_model: Any) -> None:
    with pytest.raises(UsageError, match="skip layers between the first and the last, and the model has 2"):
        schemes.make("skip_gates", 2)
    with pytest.raises(UsageError, match="add --set heads=full"):
        met(
            SimpleNamespace(
                problem_type="single_label_classification",
                num_labels=2,
                config=SimpleNamespace(hidden_size=4),
                exit_heads=None,
            )
        )
