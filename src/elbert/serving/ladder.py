"""The speed levels of a model: its calibrated policies, from the slowest to the fastest."""

from __future__ import annotations

from dataclasses import dataclass

from elbert.classifier import Classifier
from elbert.errors import UsageError, did_you_mean
from elbert.exits import ExitPolicy


@dataclass(frozen=True)
class Ladder:
    """Speed levels by number: 0 is the slowest, and gives up the least.

    Attributes:
        names: of the policies, at least one.
        policies: beside them.
        mean_exit_layers: on the texts each was calibrated on; None for one that was not.
        usual: the level of requests that ask for none.
    """

    names: tuple[str, ...]
    policies: tuple[ExitPolicy, ...]
    mean_exit_layers: tuple[float | None, ...]
    usual: int

    @classmethod
    def of(cls, classifier: Classifier) -> Ladder:
        """Return the levels of a classifier: the calibrated ones; else the policy it has is the only one."""
        depth = {
            name: float(evidence["mean_exit_layer"])
            for name, evidence in classifier.calibration.items()
            if name in classifier.policies and isinstance(evidence.get("mean_exit_layer"), (int, float))
        }
        own = next((name for name, each in classifier.policies.items() if each is classifier.policy), None)
        if own not in depth:
            return cls((own or classifier.policy.name,), (classifier.policy,), (None,), 0)
        names = tuple(sorted(depth, key=lambda name: -depth[name]))
        policies = tuple(classifier.exit_policy(name) for name in names)
        return cls(names, policies, tuple(depth[name] for name in names), names.index(own))

    def __len__(self) -> int:
        return len(self.names)

    def check(self, level: int) -> int:
        """Return the level.

        Raises:
            UsageError: there is none such.
        """
        if not 0 <= level < len(self):
            levels = ", ".join(f"{number} ({name})" for number, name in enumerate(self.names))
            raise UsageError(f"level is {level}; allowed: {levels}")
        return level

    def number(self, name: str) -> int:
        """Return the level of a policy's name.

        Raises:
            UsageError: there is none such.
        """
        if name not in self.names:
            raise UsageError(f"there is no speed level {name!r}{did_you_mean(name, self.names)}")
        return self.names.index(name)
