"""The speed levels of a model: its calibrated policies from the costliest to the cheapest, and which an hour gets."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from elbert.cascade import Cascade
from elbert.classifier import Classifier
from elbert.errors import UsageError, did_you_mean
from elbert.exits import ExitPolicy
from elbert.exits.common import own_fields


@dataclass(frozen=True)
class Ladder:
    """Speed levels by number: 0 is the slowest, and gives up the least.

    Attributes:
        names: of the policies, at least one.
        policies: beside them.
        mean_exit_layers: layers run on the texts each was calibrated on, whatever of their tokens and without layer
            0's cost; None for one that was not.
        usual: the level of requests that ask for none.
    """

    names: tuple[str, ...]
    policies: tuple[ExitPolicy, ...]
    mean_exit_layers: tuple[float | None, ...]
    usual: int

    @classmethod
    def of(cls, classifier: Classifier | Cascade) -> Ladder:
        """Return the levels of a model or a cascade: the calibrated ones; else the policy it has is the only one."""
        calibrated = {
            name: evidence
            for name, evidence in classifier.calibration.items()
            if name in classifier.policies and _is_number(evidence.get("mean_exit_layer"))
        }
        own = next((name for name, each in classifier.policies.items() if each is classifier.policy), None)
        if own not in calibrated:
            return cls((own or classifier.policy.name,), (classifier.policy,), (None,), 0)
        names = tuple(sorted(calibrated, key=lambda name: -_cost(calibrated[name], classifier.num_layers)))
        policies = tuple(classifier.exit_policy(name) for name in names)
        depth = tuple(_layers(calibrated[name]) for name in names)
        return cls(names, policies, depth, names.index(own))

    def __len__(self) -> int:
        return len(self.names)

    def check(self, level: int) -> int:
        """Return the level.

        Raises:
            UsageError: there is none such.
        """
        if not 0 <= level < len(self):
            levels = ", ".join(f"{number} ({name})" for number, name in enumerate(self.names))
            raise UsageError(f"level is {reprlib.repr(level)}; allowed: {levels}")
        return level

    def number(self, name: str) -> int:
        """Return the level of a policy's name.

        Raises:
            UsageError: there is none such.
        """
        if name not in self.names:
            raise UsageError(f"there is no speed level {name!r}{did_you_mean(name, self.names)}")
        return self.names.index(name)


def _layers(evidence: Mapping[str, Any]) -> float:
    """Return the layers that a calibrated level runs of a text."""
    words = evidence.get("layer_0_cost")
    return float(evidence["mean_exit_layer"]) - (float(words) if _is_number(words) else 0.0)


def _cost(evidence: Mapping[str, Any], layers: int) -> float:
    """Return the layers of all its tokens that a calibrated level runs: fewer than its layers where it drops tokens."""
    share = evidence.get("token_layers")
    return float(share) * layers if _is_number(share) else float(evidence["mean_exit_layer"])


def dial(policy: ExitPolicy, num_layers: int, num_labels: int) -> dict[str, Any] | None:
    """Return the parameter that trades speed for quality, and what may be tried, from the slowest setting on.

    It is the one with most values in the grid of the policy's kind.

    Args:
        policy: a level's.
        num_layers: M.
        num_labels: C; 1 for a regression.

    Returns:
        `{"name", "values"}`; None where the policy has no such parameter, or its grid is about other learned weights.
    """
    if policy.tensors():
        return None
    grid = type(policy).grid(num_layers, num_labels)[::-1]
    values = {
        field.name: list(dict.fromkeys(getattr(each, field.name) for each in grid)) for field in own_fields(policy)
    }
    numbers = {name: found for name, found in values.items() if all(_is_number(value) for value in found)}
    name = max(numbers, key=lambda name: len(numbers[name]), default=None)
    return None if name is None or len(numbers[name]) < 2 else {"name": name, "values": numbers[name]}


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# Rows that wait for each place, above which the server goes one level up, and below which one level down again.
_CROWDED, _CALM = 2.0, 0.5

# Seconds between two steps up, and between two steps down: fast into the rush, slowly out of it.
_UP, _DOWN = 0.1, 1.0


class Pressure:
    """A level that follows the queue, between the usual one and the fastest that the operator allows.

    Args:
        usual: the level while nothing waits.
        fastest: the one never passed; at or below `usual` the level never changes.
        places: rows the model runs at once.
        clock: in seconds.
    """

    def __init__(self, usual: int, fastest: int, places: int, clock: Callable[[], float]) -> None:
        self._usual, self._fastest, self._places, self._clock = usual, max(usual, fastest), places, clock
        self._level = usual
        self._changed = -math.inf  # the first step need not wait

    def level(self, rows: int) -> int:
        """Return the level of a request that comes while so many rows wait or run."""
        waiting = max(rows - self._places, 0) / self._places
        since = self._clock() - self._changed
        if waiting > _CROWDED and self._level < self._fastest and since >= _UP:
            self._change(1)
        elif waiting < _CALM and self._level > self._usual and since >= _DOWN:
            self._change(-1)
        return self._level

    def _change(self, by: int) -> None:
        self._level += by
        self._changed = self._clock()
