"""Every policy against a slow, obvious reference: one row, plain Python floats, the whole history in a list.

A reference gets the parameters `p`, the history `h` of outputs up to layer i (a list of lists of C floats, h[-1] the
current one) and the problem type, and says whether the row leaves at i. Among `p` are the weights of a policy that
learns, and `logits` and `pooled`, the row's own at every layer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from elbert.exits import ExitPolicy, make, names, replay
from elbert.results import LayerOutputs
from tests.exits.ready import ready

SINGLE, MULTI, REGRESSION = KINDS = "single_label_classification", "multi_label_classification", "regression"
History = list[list[float]]


def nats(probs: list[float]) -> float:
    return sum(-p * math.log(p) for p in probs if p > 0)


def normalised_entropy(probs: list[float], kind: str) -> float:
    if kind == MULTI:
        return max(nats([p, 1 - p]) / math.log(2) for p in probs)
    return nats(probs) / math.log(len(probs))


def confidence(probs: list[float], kind: str) -> float:
    return min(max(p, 1 - p) for p in probs) if kind == MULTI else max(probs)


def label(probs: list[float], kind: str) -> Any:
    return [p >= 0.5 for p in probs] if kind == MULTI else probs.index(max(probs))


def same(a: list[float], b: list[float], kind: str, tolerance: float) -> bool:
    if kind == REGRESSION:
        return all(abs(x - y) < tolerance for x, y in zip(a, b, strict=True))
    return label(a, kind) == label(b, kind)


def repeats(h: History, kind: str, tolerance: float) -> int:
    times = 0
    while times + 1 < len(h) and same(h[-1 - times], h[-2 - times], kind, tolerance):
        times += 1
    return times


def divergence(a: list[float], b: list[float], kind: str) -> float:
    if kind == REGRESSION:
        return max(abs(x - y) for x, y in zip(a, b, strict=True))
    if kind == MULTI:
        return max(divergence([x, 1 - x], [y, 1 - y], SINGLE) for x, y in zip(a, b, strict=True))
    return nats([(x + y) / 2 for x, y in zip(a, b, strict=True)]) - (nats(a) + nats(b)) / 2


def never_falls(values: list[float]) -> bool:
    return all(late >= early for early, late in pairwise(values))


def steady(p: dict[str, Any], h: History, kind: str) -> bool:
    if p["window"] is None or len(h) < p["window"]:
        return False
    window = h[-p["window"] :]
    labels = [] if kind == REGRESSION else [label(probs, kind) for probs in window]
    columns = list(zip(*window, strict=True))
    if p["criterion"] == "agreement":
        if kind == REGRESSION:
            return all(abs(b - a) <= p["tolerance"] for column in columns for a, b in pairwise(column))
        return all(each == labels[-1] for each in labels)
    if p["criterion"] == "range":
        watched = [[max(probs) for probs in window]] if kind == SINGLE else columns
        return all(max(v) - min(v) <= p["tolerance"] for v in watched) and all(each == labels[-1] for each in labels)
    if kind == REGRESSION or labels[0] != labels[-1]:
        return False
    if kind == SINGLE:
        return never_falls([probs[labels[-1]] for probs in window])
    return all(never_falls([v if yes else -v for v in column]) for column, yes in zip(columns, labels[-1], strict=True))


def elbert(p: dict[str, Any], h: History, kind: str) -> bool:
    return (kind != REGRESSION and normalised_entropy(h[-1], kind) < p["threshold"]) or steady(p, h, kind)


def entropy(p: dict[str, Any], h: History, kind: str) -> bool:
    if kind == REGRESSION:
        return False
    in_nats = max(nats([q, 1 - q]) for q in h[-1]) if kind == MULTI else nats(h[-1])
    return (normalised_entropy(h[-1], kind) if p["normalized"] else in_nats) < p["threshold"]


def max_prob(p: dict[str, Any], h: History, kind: str) -> bool:
    return kind != REGRESSION and confidence(h[-1], kind) > p["threshold"]


def patience(p: dict[str, Any], h: History, kind: str) -> bool:
    return repeats(h, kind, p["tolerance"]) >= p["patience"]


def pcee(p: dict[str, Any], h: History, kind: str) -> bool:
    recent = h[-p["patience"] :]
    if kind == REGRESSION or len(recent) < p["patience"]:
        return False
    return all(normalised_entropy(probs, kind) < p["threshold"] for probs in recent)


def f_pabee(p: dict[str, Any], h: History, kind: str) -> bool:
    recent = h[-p["patience"] - 1 :]
    if len(recent) < p["patience"] + 1:
        return False
    return all(divergence(a, b, kind) < p["threshold"] for a, b in pairwise(recent))


def epee(p: dict[str, Any], h: History, kind: str) -> bool:
    return (kind != REGRESSION and normalised_entropy(h[-1], kind) < p["threshold"]) or patience(p, h, kind)


def beem(p: dict[str, Any], h: History, kind: str) -> bool:
    if kind == REGRESSION:
        return False
    if p["reading"] == "code":
        total = 0.0
        for exit in range(1, len(h)):  # the authors count exits from 0
            agrees = label(h[exit], kind) == label(h[exit - 1], kind)
            total = total + p["growth"] * exit * confidence(h[exit], kind) if agrees else 0.0
        return total >= p["threshold"]
    agreeing = h[len(h) - 1 - repeats(h, kind, 0.0) :]
    return sum(confidence(probs, kind) for probs in agreeing) >= p["threshold"]


def certainty(p: dict[str, Any], h: History, kind: str) -> bool:
    state = p["pooled"][len(h) - 1]
    return 1 / (1 + math.exp(-sum(w * c for w, c in zip(p["weight"], state, strict=True)) - p["bias"])) < p["threshold"]


def energy(p: dict[str, Any], h: History, kind: str) -> bool:
    logits = p["logits"][len(h) - 1]
    if kind == MULTI:
        return min(math.log(math.exp(z / 2) + math.exp(-z / 2)) for z in logits) >= p["threshold"]
    return kind == SINGLE and math.log(sum(math.exp(z) for z in logits)) >= p["threshold"]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def saturation(p: dict[str, Any], h: History, kind: str) -> bool:
    recent = p["pooled"][max(len(h) - p["patience"] - 1, 0) : len(h)]
    if len(recent) < p["patience"] + 1:
        return False
    return all(cosine(a, b) >= p["threshold"] for a, b in pairwise(recent))


def prototype(p: dict[str, Any], h: History, kind: str) -> bool:
    if kind != SINGLE:
        return False
    state, entropy = p["pooled"][len(h) - 1], normalised_entropy(h[-1], kind)
    near, second = sorted(math.dist(state, point) for point in p["prototypes"][len(h) - 1])[:2]
    ratio = (1 + (near - second) / second) / 2
    if not ratio or not entropy:
        return p["threshold"] > 0
    return (p["balance"] + 1) / (p["balance"] / ratio + 1 / entropy) < p["threshold"]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cap(p: dict[str, Any], h: History, kind: str) -> bool:
    if kind != SINGLE:
        return False
    layer = len(h) - 1
    moved = [c + b for c, b in zip(p["pooled"][layer], p["shift"][layer], strict=True)]
    inside = sum(dot(row, moved) ** 2 for row in p["read"][layer])
    unread = math.sqrt(min(max(1 - inside / dot(moved, moved), 0), 1))
    further = math.exp(p["alpha"] * unread)
    return further / (sum(math.exp(z) for z in p["logits"][layer]) + further) < p["threshold"]


def q_exit(p: dict[str, Any], h: History, kind: str) -> bool:
    stay = 1.0
    for layer in range(len(h)):
        before = p["pooled"][layer - 1] if layer else [0.0] * len(p["pooled"][0])
        stay *= 1 - sigmoid(dot(p["weight"], p["pooled"][layer] + before) + p["bias"])
    return 1 - stay > p["threshold"]


def halting(p: dict[str, Any], h: History, kind: str) -> bool:
    if kind != SINGLE:
        return False
    answer, share = [0.0] * len(h[0]), 1.0
    for probs, state in zip(h, p["pooled"], strict=False):
        answer = [share * y + (1 - share) * a for y, a in zip(probs, answer, strict=True)]
        share *= sigmoid(dot(p["weight"], state) + p["bias"])
    second, best = sorted(answer)[-2:]
    kept = (1 - share) ** (p["layers"] - len(h))
    safe = best * kept - (1 - (1 - second) * kept) >= -p["slack"] - p["nudge"]
    return safe and label(h[-1], kind) == label(answer, kind)


def second(logits: list[float], kind: str) -> list[float]:
    """What logits say of classes, as probabilities."""
    if kind == MULTI:
        return [sigmoid(z) for z in logits]
    powers = [math.exp(z - max(logits)) for z in logits]
    return [power / sum(powers) for power in powers]


def right_tool(p: dict[str, Any], h: History, kind: str) -> bool:
    layer = len(h)
    shares, states = p["share"][:layer], p["pooled"][:layer]
    mix = [dot(shares, list(column)) / sum(shares) for column in zip(*states, strict=True)]
    temperature = p["temperature"][layer - 1]
    said = second([(dot(row, mix) + b) / temperature for row, b in zip(p["weight"], p["bias"], strict=True)], kind)
    return kind != REGRESSION and confidence(said, kind) > p["threshold"] and label(said, kind) == label(h[-1], kind)


def past_future(p: dict[str, Any], h: History, kind: str) -> bool:
    layer, layers = len(h), len(p["pooled"])
    states = p["pooled"][:layer]
    total = [sum(column) for column in zip(*states, strict=True)]
    guess = [math.tanh(dot(row, states[-1])) for row in p["ahead"][layer - 1]]
    logits = []
    for row, b, gate in zip(p["weight"], p["bias"], p["gate"], strict=True):
        balance = sigmoid(dot(gate, [math.tanh(value / layer) for value in total]))
        past, future = dot(row, total) / layers, dot(row, guess) * (layers - layer) / layers
        logits.append(2 * balance * past + (2 - 2 * balance) * future + b)
    said = second(logits, kind)
    surely = kind != REGRESSION and normalised_entropy(said, kind) < p["threshold"]
    return surely and label(said, kind) == label(h[-1], kind)


def bandit(p: dict[str, Any], h: History, kind: str) -> bool:
    arms, scores = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0), []
    for tried, gained, passed in zip(p["tried"], p["gained"], p["passed"], strict=True):
        scores.append(
            (gained - p["cost"] * passed) / tried + p["curiosity"] * math.sqrt(math.log(sum(p["tried"])) / tried)
        )
    return kind != REGRESSION and confidence(h[-1], kind) >= arms[scores.index(max(scores))] + p["nudge"]


def gelu(value: float) -> float:
    return value / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)))


def consistent(p: dict[str, Any], h: History, kind: str) -> bool:
    layer = len(h) - 1
    rows = zip(p["hidden"][layer], p["hidden_bias"][layer], strict=True)
    units = [gelu(dot(weights, p["pooled"][layer]) + bias) for weights, bias in rows]
    return sigmoid(dot(units, p["out"][layer]) + p["out_bias"][layer]) > p["threshold"]


def predicted_depth(p: dict[str, Any], h: History, kind: str) -> bool:
    if kind == REGRESSION:
        return False
    row = min(round(normalised_entropy(h[0], kind) * 100), 99)
    ahead = [layer for layer, expected in enumerate(p["table"][row], start=2) if expected < p["threshold"]]
    return normalised_entropy(h[-1], kind) < p["threshold"] or ahead[:1] == [len(h)]


def budget(p: dict[str, Any], h: History, kind: str) -> bool:
    place = min((p["layers"] - 1) * 4, len(p["thresholds"]) - 1)
    low, high = math.floor(place), math.ceil(place)
    below, above = p["thresholds"][low][len(h) - 1], p["thresholds"][high][len(h) - 1]
    wanted = below + (place - low) * (above - below)
    return kind != REGRESSION and confidence(h[-1], kind) > wanted + p["nudge"]


def any_of(p: dict[str, Any], h: History, kind: str) -> bool:
    return entropy(p["policies"][0], h, kind) or patience(p["policies"][1], h, kind)


def all_of(p: dict[str, Any], h: History, kind: str) -> bool:
    return entropy(p["policies"][0], h, kind) and patience(p["policies"][1], h, kind)


def fixed(p: dict[str, Any], h: History, kind: str) -> bool:
    return len(h) >= p["layer"]


def full(p: dict[str, Any], h: History, kind: str) -> bool:
    return False


REFERENCES: dict[str, Callable[[dict[str, Any], History, str], bool]] = {
    "elbert": elbert,
    "entropy": entropy,
    "max_prob": max_prob,
    "patience": patience,
    "pcee": pcee,
    "f_pabee": f_pabee,
    "epee": epee,
    "beem": beem,
    "energy": energy,
    "saturation": saturation,
    "certainty": certainty,
    "cap": cap,
    "q_exit": q_exit,
    "halting": halting,
    "right_tool": right_tool,
    "past_future": past_future,
    "consistent": consistent,
    "bandit": bandit,
    "prototype": prototype,
    "predicted_depth": predicted_depth,
    "budget": budget,
    "any": any_of,
    "all": all_of,
    "fixed": fixed,
    "full": full,
}

CRITERIA = st.sampled_from(["monotone", "range", "agreement"])
UNIT = st.one_of(st.just(0.0), st.floats(0.001, 0.999), st.just(1.0))
STEP = st.one_of(st.just(0.0), st.floats(0.001, 0.5))
COUNT = st.integers(1, 6)
RULES = st.fixed_dictionaries(
    {
        "policies": st.tuples(
            st.fixed_dictionaries({"name": st.just("entropy"), "threshold": UNIT, "normalized": st.just(True)}),
            st.fixed_dictionaries({"name": st.just("patience"), "patience": COUNT, "tolerance": STEP}),
        )
    }
)
PARAMETERS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "elbert": st.fixed_dictionaries(
        {"threshold": UNIT, "window": st.sampled_from([0, 2, 3, 4, 8]), "criterion": CRITERIA, "tolerance": STEP}
    ),
    "entropy": st.one_of(
        st.fixed_dictionaries({"threshold": UNIT, "normalized": st.just(True)}),
        st.fixed_dictionaries({"threshold": st.floats(0.001, 3), "normalized": st.just(False)}),
    ),
    "max_prob": st.fixed_dictionaries({"threshold": UNIT}),
    "patience": st.fixed_dictionaries({"patience": COUNT, "tolerance": STEP}),
    "pcee": st.fixed_dictionaries({"threshold": UNIT, "patience": COUNT}),
    "f_pabee": st.fixed_dictionaries({"threshold": STEP, "patience": COUNT}),
    "epee": st.fixed_dictionaries({"threshold": UNIT, "patience": COUNT, "tolerance": STEP}),
    "beem": st.one_of(
        st.fixed_dictionaries({"threshold": st.floats(0.001, 8)}),
        st.fixed_dictionaries(
            {
                "threshold": st.floats(0.001, 8),
                "reading": st.just("code"),
                "growth": st.sampled_from([0.0, 0.1, 0.4]),
            }
        ),
    ),
    "energy": st.fixed_dictionaries({"threshold": st.floats(0.1, 8)}),
    "saturation": st.fixed_dictionaries({"threshold": st.floats(0.01, 0.99), "patience": st.integers(1, 3)}),
    "certainty": st.fixed_dictionaries({"threshold": UNIT}),
    "cap": st.fixed_dictionaries({"threshold": UNIT, "alpha": st.sampled_from([0.1, 1.0, 3.0])}),
    "q_exit": st.fixed_dictionaries({"threshold": st.floats(0.001, 0.999)}),
    "halting": st.fixed_dictionaries({"slack": UNIT}),
    "right_tool": st.fixed_dictionaries({"threshold": UNIT}),
    "past_future": st.fixed_dictionaries({"threshold": UNIT}),
    "bandit": st.fixed_dictionaries({"cost": st.floats(0.0013, 0.3), "curiosity": st.sampled_from([0.0, 2.0])}),
    "consistent": st.fixed_dictionaries({"threshold": st.floats(0.001, 0.999)}),
    "prototype": st.fixed_dictionaries({"threshold": UNIT, "balance": st.sampled_from([0.0, 0.5, 1.0, 3.0])}),
    "predicted_depth": st.fixed_dictionaries({"threshold": UNIT}),
    "any": RULES,
    "all": RULES,
    "budget": st.fixed_dictionaries({"layers": st.floats(1, 13)}),
    "fixed": st.fixed_dictionaries({"layer": st.integers(1, 20)}),
    "full": st.just({}),
}


def exit_layers(policy: ExitPolicy, outputs: LayerOutputs, nudge: float = 0.0) -> list[int]:
    """Return the reference's exit layers, its score parameters moved by `nudge`."""
    p = dataclasses.asdict(policy)
    for each in (p, *p.get("policies", ())):
        each |= {key: each[key] + nudge for key in ("threshold", "tolerance") if each.get(key)}
    decide = REFERENCES[policy.name]
    kind = REGRESSION if outputs.probs.shape[-1] == 1 and outputs.problem_type == SINGLE else outputs.problem_type
    exits = []
    p |= {name: values.tolist() for name, values in policy.tensors().items()}
    pooled = [[]] * len(outputs.probs) if outputs.pooled is None else outputs.pooled.tolist()
    for rows, logits, states in zip(outputs.probs.tolist(), outputs.logits.tolist(), pooled, strict=True):
        p |= {"logits": logits, "pooled": states, "nudge": nudge}
        fired = (i for i in range(1, len(rows)) if decide(p, rows[:i], kind))
        exits.append(next(fired, len(rows)))
    return exits


def test_every_built_in_policy_has_a_reference() -> None:
    assert set(REFERENCES) == set(PARAMETERS) == set(names())


@pytest.mark.parametrize("name", REFERENCES)
@settings(max_examples=300, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_replay_and_rows_in_flight_leave_where_the_one_row_reference_does(
    name: str, data: st.DataObject, seed: int, make_outputs: Any, run_in_flight: Any
) -> None:
    shape = {"layers": data.draw(st.integers(1, 13)), "classes": data.draw(st.integers(1, 5))}
    outputs = make_outputs(seed, problem_type=data.draw(st.sampled_from([SINGLE, MULTI, REGRESSION])), **shape)
    policy = ready(name, outputs, **data.draw(PARAMETERS[name], label="parameters"))
    expected = exit_layers(policy, outputs)
    # fp32 and Python's floats may round a score to different sides of a threshold; such examples say nothing.
    assume(expected == exit_layers(policy, outputs, 1e-5) == exit_layers(policy, outputs, -1e-5))
    assert replay(policy, outputs).tolist() == expected
    assert run_in_flight(policy, outputs, seed) == expected


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    threshold=st.floats(0.05, 0.95),
    temperature=st.lists(st.floats(0.2, 5), min_size=1, max_size=8),
    multi=st.booleans(),
)
def test_max_prob_divides_the_logits_of_each_layer_by_its_temperature(
    seed: int, threshold: float, temperature: list[float], multi: bool, make_outputs: Any, run_in_flight: Any
) -> None:
    outputs = make_outputs(seed, layers=6, problem_type=MULTI if multi else SINGLE)
    policy = make("max_prob", threshold=threshold, temperature=temperature)
    scale = torch.tensor([temperature[min(i, len(temperature) - 1)] for i in range(6)])[:, None]
    cooled = outputs.logits / scale
    plain = make("max_prob", threshold=threshold)
    outputs_cooled = dataclasses.replace(outputs, probs=cooled.sigmoid() if multi else cooled.softmax(-1))
    expected = exit_layers(plain, outputs_cooled)
    # Rounding may put a score on different sides of the threshold; such examples say nothing.
    assume(expected == exit_layers(plain, outputs_cooled, 1e-5) == exit_layers(plain, outputs_cooled, -1e-5))
    assert replay(policy, outputs).tolist() == expected
    assert run_in_flight(policy, outputs, seed) == expected


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_scored_in_fp32(name: str, dtype: torch.dtype, make_outputs: Any) -> None:
    for problem_type in (SINGLE, MULTI, REGRESSION):
        outputs = make_outputs(11, texts=64, problem_type=problem_type)
        coarse = dataclasses.replace(outputs, probs=outputs.probs.to(dtype), logits=outputs.logits.to(dtype))
        in_fp32 = dataclasses.replace(coarse, probs=coarse.probs.float(), logits=coarse.logits.float())
        policy = ready(name, outputs)
        assert replay(policy, coarse).equal(replay(policy, in_fp32))
