"""The JSON of a policy in words."""

from __future__ import annotations

from elbert.exits import make
from elbert.exits.wording import policy_words


def test_what_stands_in_a_policy_is_said_in_words_down_to_its_rules_and_shortcuts() -> None:
    rules = make("any", policies=[{"name": "entropy", "threshold": 0.25}, {"name": "patience", "patience": 2}])
    assert policy_words(rules.to_dict()) == (
        "any: policies (entropy: threshold 0.25, normalized True) (patience: patience 2, tolerance 0.05)"
    )
    shortened = make("entropy", threshold=0.25, tokens={"3": 0.5, "score": "learned"}).to_dict()
    assert policy_words(shortened) == "entropy: threshold 0.25, normalized True, tokens 3=0.5 score=learned"
    assert policy_words(make("max_prob", threshold=0.25, gates=0.5).to_dict()) == "max_prob: threshold 0.25, gates 0.5"
    assert policy_words(make("full").to_dict()) == "full"
