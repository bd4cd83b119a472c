"""The JSON of a policy in words, for lines that people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elbert.exits.gates import SkipGates
from elbert.exits.tokens import TokenSchedule


def policy_words(policy: Mapping[str, Any]) -> str:
    """Return a policy in one line: `entropy: threshold 0.3, min_layer 1`."""
    parameters = ", ".join(
        f"{key} {value_words(key, value)}" for key, value in policy.items() if key != "name" and value is not None
    )
    return f"{policy['name']}: {parameters}" if parameters else str(policy["name"])


def value_words(key: str, value: Any) -> str:
    """Return the value of a policy's parameter as flags name it, and rules in parentheses."""
    if key == "tokens":
        return str(TokenSchedule.from_dict(value))
    if key == "gates":
        return str(SkipGates.from_value(value))
    if key == "policies":
        return " ".join(f"({policy_words(each)})" for each in value)
    return str(value)
