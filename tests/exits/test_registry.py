"""Looking policies up, building them from parameters and JSON, and policies of third parties."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from elbert.errors import UsageError
from elbert.exits import ExitPolicy, get, make, names, register, registry, replay
from elbert.exits.common import own_fields
from elbert.exits.elbert import Elbert
from elbert.exits.entropy import Entropy
from elbert.exits.max_prob import MaxProb
from elbert.results import ExitOutput


@dataclass(frozen=True)
class EveryOther(ExitPolicy):
    """A third party's policy with nothing but the required parts; an undescribed parameter is its own affair."""

    name: ClassVar[str] = "every_other"
    summary: ClassVar[str] = "leave at every even layer"
    citation: ClassVar[str] = "none"

    step: int = 2

    def decide(self, state: Any, output: Any, layer: Any) -> Any:
        return {"fired": layer % self.step == 0}, state


@pytest.fixture
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr(registry, "_policies", {})
    registry._load.cache_clear()
    yield monkeypatch
    registry._load.cache_clear()


def plug_in(patch: pytest.MonkeyPatch, **targets: Any) -> None:
    """Pretend that distributions name these targets under the entry-point group."""

    class Point(EntryPoint):
        def load(self) -> Any:
            target = targets[self.name]
            if isinstance(target, Exception):
                raise target
            return target

    points = [Point(name, f"somewhere:{name}", "elbert.exits") for name in targets]
    patch.setattr(registry, "entry_points", lambda group: [point for point in points if point.group == group])


def test_the_names_are_those_of_the_documents() -> None:
    assert names() == [
        "elbert", "entropy", "max_prob", "patience", "pcee", "f_pabee", "epee", "beem", "energy", "cap",
        "saturation", "certainty", "q_exit", "halting", "right_tool", "past_future", "consistent", "prototype",
        "predicted_depth", "budget", "bandit", "any", "all", "fixed", "full",
    ]  # fmt: skip


def test_the_page_of_policies_names_every_policy_and_parameter() -> None:
    page = (Path(__file__).parents[2] / "docs/policies.md").read_text(encoding="utf-8")
    rules = page[page.index("## Rules") : page.index("**ELBERT's second stage**")]
    for name in names():
        row = next(line for line in rules.splitlines() if line.startswith(f"| `{name}` |"))
        assert all(f"`{field.name}`" in row for field in own_fields(get(name)))


def test_defaults_are_the_papers() -> None:
    assert make("elbert").to_dict() == {
        "name": "elbert", "threshold": 0.1, "window": 8, "criterion": "monotone", "tolerance": 0.05,
    }  # fmt: skip
    assert make("patience").to_dict()["patience"] == 6


def test_make_ignores_overrides_that_are_none() -> None:
    assert make("elbert", threshold=0.25, window=None, criterion=None) == Elbert(threshold=0.25)
    assert make("patience", threshold=None) == make("patience")


def test_a_window_of_zero_or_none_switches_stage_two_off() -> None:
    assert make("elbert", window=0) == Elbert(window=None)
    assert make("elbert", window=0).to_dict()["window"] is None
    assert ExitPolicy.from_dict({"name": "elbert", "window": None}) == Elbert(window=0)


def test_from_dict_takes_the_default_for_what_is_left_out() -> None:
    assert ExitPolicy.from_dict({"name": "entropy"}) == Entropy()
    assert ExitPolicy.from_dict({"name": "max_prob", "temperature": [1, 2.5]}) == MaxProb(temperature=(1.0, 2.5))


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("elbert", {"threshold": 1.5}, "threshold is 1.5; allowed: a number from 0 to 1"),
        ("elbert", {"threshold": -0.1}, "threshold is -0.1; allowed"),
        ("elbert", {"threshold": float("nan")}, "threshold is nan; allowed"),
        ("elbert", {"threshold": "0.1"}, "threshold is '0.1'; allowed"),
        ("elbert", {"threshold": True}, "threshold is True; allowed"),
        ("elbert", {"window": 1}, "window is 1; allowed: a whole number from 2 to 1000, or 0"),
        ("elbert", {"window": -3}, "window is -3; allowed"),
        ("elbert", {"window": 10**20}, "window is 100000000000000000000; allowed: a whole number from 2 to 1000"),
        ("elbert", {"window": 2.5}, "window is 2.5; allowed"),
        ("elbert", {"window": False}, "window is False; allowed"),
        ("elbert", {"criterion": "trend"}, "criterion is 'trend'; allowed: monotone | range | agreement"),
        ("elbert", {"tolerance": -1}, "tolerance is -1; allowed: a number of 0 or more"),
        ("elbert", {"tolerance": float("inf")}, "tolerance is inf; allowed"),
        ("entropy", {"threshold": 1.2}, "threshold is 1.2; allowed: a number from 0 to 1 as long as normalized"),
        ("entropy", {"normalized": 1}, "normalized is 1; allowed: true or false"),
        ("max_prob", {"threshold": 2}, "threshold is 2; allowed"),
        ("max_prob", {"temperature": []}, r"temperature is \[\]; allowed: a list with one number above 0 per layer"),
        ("max_prob", {"temperature": [1, 0]}, "temperature is .* allowed"),
        ("max_prob", {"temperature": "hot"}, "temperature is 'hot'; allowed"),
        ("max_prob", {"temperature": 2.0}, "temperature is 2.0; allowed"),
        ("patience", {"patience": 0}, "patience is 0; allowed: a whole number from 1 to 1000"),
        ("patience", {"patience": 10**20}, "patience is 100000000000000000000; allowed: a whole number from 1 to 1000"),
        ("fixed", {"layer": 0}, "layer is 0; allowed"),
    ],
)
def test_a_value_out_of_range_says_what_is_allowed(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^exit policy '{name}': {message}"):
        make(name, **parameters)
    with pytest.raises(UsageError, match=f"^exit policy '{name}': {message}"):
        ExitPolicy.from_dict({"name": name, **parameters})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "entorpy"}, "exit policy 'entorpy' is unknown; did you mean 'entropy'"),
        ({"name": 7}, "exit policy 7 is unknown; allowed: elbert, "),
        ({"name": ["elbert"]}, "is unknown; did you mean 'elbert'"),
        ({"threshold": 0.1}, r"is an object with a name; allowed: elbert, .*given: {'threshold': 0.1}"),
        ("elbert", "is an object with a name; allowed: elbert, .*given: 'elbert'"),
        ({"name": "elbert", "treshold": 1}, "'elbert' has no parameter 'treshold'; did you mean 'threshold'"),
        ({"name": "patience", "threshold": 1}, "has no parameter 'threshold'; allowed: .*patience, tolerance"),
        ({"name": "full", "layer": 1}, "'full' has no parameter 'layer'; .*llowed: min_layer, max_layer, words"),
    ],
)
def test_an_unknown_name_or_parameter_names_the_closest(values: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExitPolicy.from_dict(values)


def test_a_third_party_policy_is_found_by_its_entry_point(fresh_registry: pytest.MonkeyPatch) -> None:
    plug_in(fresh_registry, every_other=EveryOther)
    assert names()[-1] == "every_other"
    policy = make("every_other", step=3)
    assert ExitPolicy.from_dict(policy.to_dict()) == policy
    probs = torch.full((2, 5, 2), 0.5)
    assert replay(policy, probs).tolist() == [3, 3]
    output, layer = ExitOutput(np.full((1, 2), 0.5), np.zeros((1, 2))), np.array([3])
    assert policy.explain(policy.decide({}, output, layer)[0], output, layer) == ["class 0, leave at every even layer"]
    assert get("every_other").grid(12, 2) == [EveryOther()]


class Impostor(EveryOther):
    name: ClassVar[str] = "elbert"


@pytest.mark.parametrize("broken", [ImportError("no module"), AttributeError("no name"), "a string", Impostor])
def test_a_broken_add_on_warns_and_leaves_the_others_alone(fresh_registry: pytest.MonkeyPatch, broken: Any) -> None:
    plug_in(fresh_registry, broken=broken, every_other=EveryOther)
    with pytest.warns(RuntimeWarning, match="exit policy 'broken' .somewhere:broken. was not loaded"):
        assert "every_other" in names()
    assert get("elbert") is Elbert


def test_register_refuses_what_is_no_policy_and_a_name_that_is_taken(fresh_registry: pytest.MonkeyPatch) -> None:
    plug_in(fresh_registry)
    assert register(EveryOther) is register(EveryOther)
    with pytest.raises(UsageError, match="allowed: a subclass of ExitPolicy"):
        register(EveryOther())  # type: ignore[arg-type]

    class Other(EveryOther):
        pass

    with pytest.raises(UsageError, match="name 'every_other' is taken by"):
        register(Other)


def test_policies_registered_before_the_first_look_up_stay(fresh_registry: pytest.MonkeyPatch) -> None:
    plug_in(fresh_registry)
    register(EveryOther)
    assert set(names()) == {"every_other", *(policy.name for policy in registry.BUILT_IN)}


def test_the_entry_point_group_is_the_documented_one() -> None:
    assert registry.ENTRY_POINT_GROUP == "elbert.exits"
    assert registry.entry_points is importlib.metadata.entry_points
