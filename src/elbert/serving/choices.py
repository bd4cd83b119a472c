"""Which policy answers a request: what it asks for, and how a name, a level or a policy as JSON becomes a policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from elbert.cascade import Cascade
from elbert.classifier import Classifier
from elbert.errors import UsageError
from elbert.exits import ExitPolicy
from elbert.serving.ladder import Ladder

# Characters of a policy as JSON: far more than any rule says, and few enough to keep many.
_LONGEST = 10_000

# Policies kept by what requests asked for: rows are decided on together where they have the very same object.
_MOST_POLICIES = 256


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request asks for beside its texts.

    Attributes:
        policy: a saved policy's or a rule's name, or a policy as JSON; None for the level.
        level: of the ladder; None for the usual one.
        max_layers: layers at most; None for all.
        max_latency: seconds until the answer has to be there; None for whenever.
        truncate: cut off what is too long, instead of refusing it; None for the server's way.
    """

    policy: str | Mapping[str, Any] | None = None
    level: int | None = None
    max_layers: int | None = None
    max_latency: float | None = None
    truncate: bool | None = None


class Choices:
    """The policies of one model that requests may ask for."""

    def __init__(self, classifier: Classifier | Cascade, ladder: Ladder) -> None:
        self._classifier, self._ladder = classifier, ladder
        self._policies: dict[str, ExitPolicy] = {}

    def of(self, wishes: Wishes, usual: Callable[[], int]) -> tuple[ExitPolicy, str, int | None]:
        """Return the policy, its name and its level; `usual` says which level this hour has.

        Raises:
            UsageError: there is no such policy or level, or both are named.
        """
        if wishes.policy is None:
            level = usual() if wishes.level is None else self._ladder.check(wishes.level)
            return self._ladder.policies[level], self._ladder.names[level], level
        if wishes.level is not None:
            raise UsageError("policy and level were both given; give one of them")
        if isinstance(wishes.policy, str) and wishes.policy in self._ladder.names:
            level = self._ladder.number(wishes.policy)
            return self._ladder.policies[level], wishes.policy, level
        key = _key(wishes.policy)
        policy = self._policies.get(key)
        if policy is None:
            given = wishes.policy if isinstance(wishes.policy, str) else dict(wishes.policy)
            policy = self._classifier.resolve(given)  # no warning: what a request asks for is its own concern
            if len(self._policies) >= _MOST_POLICIES:
                self._policies.clear()
            self._policies[key] = policy
        return policy, wishes.policy if isinstance(wishes.policy, str) else policy.name, None


def _key(policy: str | Mapping[str, Any]) -> str:
    """Return a policy as JSON, to be found again by."""
    try:
        key = json.dumps(policy, sort_keys=True)
    except RecursionError:
        raise UsageError("policy is nested too deeply; see /docs for what has to be sent") from None
    if len(key) > _LONGEST:
        raise UsageError(f"policy is JSON of {len(key)} characters; allowed: at most {_LONGEST}")
    return key
