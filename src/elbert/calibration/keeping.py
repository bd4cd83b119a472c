"""The policies a model keeps, with their evidence: named, equipped with weights, chosen. Runs and reads nothing."""

from __future__ import annotations

import reprlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any

from elbert.calibration.doubts import misfit
from elbert.errors import CalibrationWarning, PolicyWarning, UsageError, did_you_mean
from elbert.exits import ExitPolicy, make, names
from elbert.exits.gates import SkipGates
from elbert.exits.learned import Learned
from elbert.exits.tokens import TokenSchedule
from elbert.metadata import Metadata
from elbert.modeling.files.policies import Tensors

# A policy, a name of a saved one or of a rule, its JSON; None for the model's own.
PolicyLike = ExitPolicy | str | dict[str, Any] | None


class PolicyKeeper(ABC):
    """What a Classifier knows of its policies.

    Attributes:
        name: of the model.
        policy: the exit policy used where a call names none.
        policies: policies saved with the model, by name.
        calibration: evidence of those that were calibrated, by name.
        metadata: what `elbert.json` says of the model.
        max_length: tokens read of a text.
        num_layers: layers of the encoder, M.
    """

    name: str
    policy: ExitPolicy
    policies: dict[str, ExitPolicy]
    calibration: dict[str, Any]
    metadata: Metadata
    max_length: int
    num_layers: int
    _num_outputs: int
    _hidden_size: int
    _compared: set[str]

    @property
    @abstractmethod
    def words(self) -> object | None:
        """Layer 0; None where the model has none."""

    @abstractmethod
    def _here(self) -> dict[str, str]:
        """Return the circumstances a promise depends on."""

    def keep(self, name: str, policy: ExitPolicy) -> None:
        """Keep a policy that was chosen by other means than `calibrate`, and use it where none is named.

        Args:
            name: in `policies`; what was calibrated under it before is forgotten.
            policy: which exits to take.
        """
        self.policies[name] = self.equip(policy)
        self.calibration.pop(name, None)
        self._use(name)

    def _keep_weights(self, fitted: ExitPolicy, passed: Iterable[ExitPolicy]) -> None:
        """Keep what a calibration has fitted under the name of its rule where no policy that passed keeps it.

        The weights hold without a promise: a budget keeps to its cost whatever that loses. Where the rule's name has
        weights already, these are newer.

        Args:
            fitted: the rule with its weights.
            passed: what the calibration found.
        """
        kept = self.policies.get(fitted.name)
        if kept is not None and kept.name == fitted.name:
            self.policies[fitted.name] = kept.with_tensors(fitted.tensors())
        elif kept is None and not any(policy.name == fitted.name for policy in passed):
            self.policies[fitted.name] = fitted

    @property
    def fitted(self) -> dict[str, ExitPolicy]:
        """Learned policies that have weights, by the name of their rule; of several the one in use, else the last."""
        return {each.name: each for each in (*self.policies.values(), self.policy) if each.learned and each.tensors()}

    def equip(self, policy: ExitPolicy) -> ExitPolicy:
        """Return a policy with weights: one that learns and has none takes those the model keeps for its kind.

        Args:
            policy: any.

        Raises:
            UsageError: the model has none for it, or they are for a model of another size; or it drops tokens behind a
                layer that the model has not.
        """
        if policy.gates is not None:
            policy = replace(policy, gates=self._trained(policy.gates))
        if policy.tokens is not None:
            policy = replace(policy, tokens=self._scored(policy.tokens))
        if not isinstance(policy, Learned):
            return policy
        if not policy.tensors() and policy.name not in self.fitted:
            raise UsageError(
                f"exit policy {policy.name!r} is learned, and model {self.name!r} has no weights for it: "
                f"run elbert calibrate with --policy {policy.name}"
            )
        whole = policy if policy.tensors() else policy.with_tensors(self.fitted[policy.name].tensors())
        whole.check_fits(self._num_outputs, self._hidden_size)
        return whole

    def _scored(self, tokens: TokenSchedule) -> TokenSchedule:
        """Return a schedule that fits the model; one without weights for its learned score takes those that are kept.

        Raises:
            UsageError: it does not fit, or nobody has fitted a score.
        """
        tokens.check_fits(self.num_layers)
        if tokens.score != "learned":
            return tokens
        kept = [each.tokens for each in (self.policy, *self.policies.values()) if each.tokens is not None]
        weights = next((each.weights for each in (tokens, *kept) if each.weights is not None), None)
        if weights is None:
            raise UsageError(
                f"model {self.name!r} has no learned score of tokens: fit one by Classifier.fit_tokens and keep a "
                "policy with it, or take score attention"
            )
        if weights.shape != (self.num_layers - 1, self._hidden_size):
            raise UsageError(
                f"the learned score of tokens has weights of shape {weights.shape}, for this model they are "
                f"[{self.num_layers - 1}, {self._hidden_size}]: fit it again"
            )
        return tokens.with_weights(weights)

    @property
    def gates(self) -> SkipGates | None:
        """The skip gates that the model was trained with, with their weights; None where it has none."""
        kept = (each.gates for each in (*self.policies.values(), self.policy))
        return next((each for each in kept if each is not None and each.weights is not None), None)

    def _trained(self, gates: SkipGates) -> SkipGates:
        """Return gates that fit the model; those without weights take the ones that are kept.

        Raises:
            UsageError: the model has none, or they do not fit.
        """
        weights = next((each.weights for each in (gates, self.gates) if each and each.weights is not None), None)
        found = gates if weights is None else gates.with_weights(weights)
        found.check_fits(self.num_layers, self._hidden_size)
        return found

    def exit_policy(self, policy: PolicyLike) -> ExitPolicy:
        """Return the policy that a caller names as in `from_pretrained`.

        Warns where its guarantee may not hold here, and where it asks for more layers than there are, or for a layer 0.

        Raises:
            UsageError: there is none such.
        """
        if policy is None:
            return self.policy
        if isinstance(policy, str) and policy in self.policies and policy in self.calibration.keys() - self._compared:
            self._compared.add(policy)  # once: neither side changes
            line = misfit(policy, self.calibration[policy], self._here())
            if line is not None:
                warnings.warn(line, CalibrationWarning, stacklevel=3)
        found = self.resolve(policy)
        if (line := found.beyond(self.num_layers)) is not None:
            warnings.warn(line, PolicyWarning, stacklevel=3)
        if found.words is not None and self.words is None:
            line = f"policy {found.name!r}: words is {found.words:g}, and the model has no layer 0 (words.safetensors)"
            warnings.warn(line, PolicyWarning, stacklevel=3)
        return found

    def resolve(self, policy: object) -> ExitPolicy:
        """Return the policy that a caller names, and warn of nothing; arguments and errors as `exit_policy`."""
        if isinstance(policy, ExitPolicy):
            return self.equip(policy)
        if isinstance(policy, dict):
            return self.equip(ExitPolicy.from_dict(policy))
        if not isinstance(policy, str):
            raise UsageError(f"policy is {policy!r}; allowed: an exit policy, its name, or a dict with a name")
        if policy in self.policies:
            return self.policies[policy]
        if policy in names():
            return self.equip(make(policy))
        raise UsageError(f"unknown policy {reprlib.repr(policy)}{did_you_mean(policy, [*self.policies, *names()])}")

    def _tensors(self) -> Tensors:
        return {name: policy.tensors() for name, policy in self.policies.items()}

    def _elbert_json(self) -> dict[str, Any]:
        saved = {key: policy.to_dict() for key, policy in self.policies.items()}
        max_length, calibration = self.max_length, self.calibration
        return replace(self.metadata, max_length=max_length, policies=saved, calibration=calibration).to_dict()

    def _use(self, name: str) -> None:
        """Make a policy the one of this object, and of the model once it is saved."""
        self.policy, self.metadata = self.resolve(name), replace(self.metadata, default_policy=name)

    def _calibrated(self, policy: str | None) -> str:
        """Return the name of the calibrated policy to compare with; raises UsageError as `check` says."""
        known = [name for name in self.calibration if name in self.policies]
        if not known:
            raise UsageError(f"model {self.name!r} has no calibrated policy; calibrate it first")
        if policy is not None and policy not in known:
            raise UsageError(f"policy {policy!r} is not calibrated{did_you_mean(policy, known)}")
        chosen = policy or self.metadata.default_policy
        if chosen in known:
            return str(chosen)
        if len(known) == 1:
            return known[0]
        raise UsageError(f"the model's default policy is not calibrated; name one that is: {', '.join(known)}")

    def _circumstances(self) -> dict[str, str]:
        """Return what the evidence says of where it was found."""
        from elbert import __version__

        return {"date": date.today().isoformat(), **self._here(), "elbert": __version__}
