"""Rules put together: each by itself, their memories apart, their JSON and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from elbert.errors import UsageError
from elbert.exits import ExitPolicy, make, replay
from tests.exits.ready import outputs_of

RULES = [
    make("elbert", threshold=0.3, window=3),
    make("f_pabee", threshold=0.1, patience=2),
    make("saturation", threshold=0.2, min_layer=3),
]


def test_any_leaves_at_the_first_of_its_rules_and_all_no_earlier_than_the_last() -> None:
    outputs = outputs_of(5, texts=400)
    each = np.stack([replay(rule, outputs).numpy() for rule in RULES])
    assert replay(make("any", policies=RULES), outputs).tolist() == each.min(0).tolist()
    together = replay(make("all", policies=RULES), outputs).numpy()
    assert (together >= each.max(0)).all()
    assert together.min() < 12
    twice = make("all", policies=[RULES[1], RULES[1]])
    assert replay(twice, outputs).tolist() == each[1].tolist()


def test_entropy_or_patience_is_epee() -> None:
    outputs = outputs_of(6, texts=300)
    epee = make("epee", threshold=0.3, patience=3)
    rules = [make("entropy", threshold=0.3), make("patience", patience=3)]
    assert replay(make("any", policies=rules), outputs).equal(replay(epee, outputs))


def test_rows_in_flight_leave_where_the_replay_says(run_in_flight: Any) -> None:
    outputs = outputs_of(7, texts=40)
    for name in ("any", "all"):
        policy = make(name, policies=RULES)
        assert run_in_flight(policy, outputs, 3) == replay(policy, outputs).tolist()


def test_rules_within_rules_come_back_from_json_and_ask_for_what_they_read() -> None:
    policy = make("any", policies=[RULES[2], make("all", policies=RULES[:2])], min_layer=2)
    saved = json.loads(json.dumps(policy.to_dict()))
    assert [each["name"] for each in saved["policies"]] == ["saturation", "all"]
    assert ExitPolicy.from_dict(saved) == policy
    assert policy.needs == {"pooled"}
    assert make("any").needs == frozenset()
    outputs = outputs_of(8, texts=100)
    assert replay(ExitPolicy.from_dict(saved), outputs).equal(replay(policy, outputs))


def nested(depth: int) -> list[dict[str, Any]]:
    """Return rules that lie in rules, two and one combined a level."""
    rules: list[dict[str, Any]] = [{"name": "entropy"}, {"name": "full"}]
    for _ in range(depth):
        rules = [{"name": "any", "policies": rules}, {"name": "full"}]
    return rules


def test_as_many_rules_as_are_allowed_may_lie_in_each_other() -> None:
    policy = make("any", policies=nested(7))
    assert ExitPolicy.from_dict(policy.to_dict()) == policy
    assert make("all", policies=[{"name": "full"}] * 16).to_dict()["policies"] == [{"name": "full"}] * 16
    with pytest.raises(UsageError, match="at most 16"):
        make("all", policies=[policy, make("full")])


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ([], "policies is .*; allowed: a list of two policies or more"),
        ([{"name": "entropy"}], "policies is .*; allowed: a list of two policies or more"),
        ("entropy", "policies is 'entropy'; allowed"),
        ([{"name": "full"}] * 17, "allowed: a list of two policies or more, at most 16 with those within"),
        (nested(9), "allowed: a list of two policies or more, at most 16 with those within"),
        (nested(400), "allowed: a list of two policies or more, at most 16 with those within"),
        ([{"name": "entropy", "threshold": 10**400}, {"name": "full"}], "exit policy 'entropy': threshold is 1000"),
        ([{"name": "entorpy"}, {"name": "full"}], "exit policy 'entorpy' is unknown; did you mean 'entropy'"),
        ([{"name": "entropy", "threshold": 2}, {"name": "full"}], "exit policy 'entropy': threshold is 2"),
        ([{"name": "certainty"}, {"name": "full"}], "exit policy 'any': 'certainty' learns"),
    ],
)
def test_what_is_no_list_of_rules_is_refused(policies: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExitPolicy.from_dict({"name": "any", "policies": policies})


@pytest.mark.parametrize("setting", [{"words": 0.9}, {"tokens": {"1": 0.5}}, {"gates": 0.5}])
@pytest.mark.parametrize("name", ["any", "all"])
def test_what_only_the_whole_can_do_is_refused_of_a_rule_in_it(name: str, setting: dict[str, Any]) -> None:
    rules = [{"name": "entropy", **setting}, {"name": "patience"}]
    (named,) = setting
    with pytest.raises(UsageError, match=rf"{named} of 'entropy' would change nothing.*'{name}' as a whole"):
        make(name, policies=rules)
