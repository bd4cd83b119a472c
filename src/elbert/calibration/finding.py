"""What finds the policies a model keeps: the promises of `calibrate`, and `check`, whether texts are still the same.

Both ask for a recording, and know nothing of what makes it.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from elbert.calibration.calibrate import Calibration, calibrate
from elbert.calibration.doubts import check_repeats, check_unseen, rare_classes
from elbert.calibration.drift import Drift, check, exit_confidence
from elbert.calibration.keeping import PolicyKeeper
from elbert.calibration.parts import protected_classes
from elbert.calibration.promises import check_request, default_name, promises
from elbert.data import Labels, Text, TextDataset
from elbert.data.source import fingerprint, short_name
from elbert.errors import CalibrationWarning, DataError
from elbert.exits import get, make, replay
from elbert.exits.gates import AUTO, Shortcut, SkipGates, asked_gates, shortcut_field
from elbert.exits.tokens import TokenSchedule, asked_schedules
from elbert.lazy import from_extra
from elbert.results import LayerOutputs, ProblemType
from elbert.scoring.curves import LayerZeroCost


class PolicyFinder(PolicyKeeper):
    """What a Classifier knows of choosing its policies.

    Attributes:
        labels: the label space.
        problem_type: how to read the outputs.
    """

    labels: Labels
    problem_type: ProblemType

    @abstractmethod
    def record(
        self,
        texts: Iterable[Text],
        *,
        batch_size: int = 32,
        pooled: bool = False,
        tokens: TokenSchedule | None = None,
        gates: SkipGates | None = None,
        on_texts: Callable[[int], object] | None = None,
    ) -> LayerOutputs:
        """Run every text to full depth and return what every exit said."""

    @abstractmethod
    def layer_0_cost(self, texts: Sequence[Text], *, batch_size: int = 32) -> LayerZeroCost:
        """Measure what layer 0 takes of a text, and return what it adds to a policy's mean exit layer."""

    def calibrate(
        self,
        texts: Iterable[Text] | TextDataset,
        labels: Sequence[Any] | None = None,
        max_drop: float | None = None,
        confidence: float = 0.9,
        *,
        policy: str = "elbert",
        metric: str | None = None,
        name: str | None = None,
        default: str | None = None,
        batch_size: int = 32,
        on_texts: Callable[[int], object] | None = None,
        on_policy: Callable[[], object] | None = None,
        allow_seen: bool = False,
        protect: Sequence[str] = (),
        per_class: bool = False,
        conditional: bool = False,
        abstain: bool = False,
        tokens: TokenSchedule | dict[str, Any] | Sequence[TokenSchedule | dict[str, Any]] | str | None = None,
        gates: SkipGates | float | Sequence[SkipGates | float] | str | None = AUTO,
    ) -> dict[str, Calibration]:
        """Find the fastest policies that give up less than was promised, and keep them with their evidence, see docs.

        One of them becomes the policy of this object, and of the model once it is saved: the one named by `default`,
        else the one promise asked for, else `drop-1` of the ladder.

        Args:
            texts: the model wasn't trained on; or a `TextDataset`, with its labels.
            labels: names or ids; None promises agreement with full depth, which needs none.
            max_drop: mean loss that may be given up, in [0, 1); None finds a ladder: exact, drop-0.5, drop-1, drop-2.
            confidence: of the promise, in (0, 1); each promise of the ladder is one by itself.
            policy: family to search: the name of an exit policy. The weights of one that learns are fitted on three
                tenths of the texts, which the promise then says nothing of; they are kept under the family's own name
                where no test passed.
            metric: what is reported beside; the promise is about accuracy, see the evidence's `loss`.
            name: of the policy in `policies`; None makes one from `max_drop`.
            default: which policy to use from now on where none is named, a new or a saved one, or `full`.
            batch_size: texts in flight together.
            on_texts: called with a count of texts whenever so many more are recorded.
            on_policy: called after every policy tried.
            allow_seen: only warn where the model was trained on some of these texts.
            protect: names of classes whose recall may not lose `max_drop` either, each by itself.
            per_class: protect every class so.
            conditional: keep the promise also among the texts that leave at any one layer or before it.
            abstain: keep three tenths of the texts aside to test how sure an answer must be, see the evidence's
                `abstain`.
            tokens: schedules to try with every policy, beside all tokens: one or several, or `auto` for a few that fit
                the depth, see `elbert.exits.tokens.schedules`; None for none. Each takes a run of the texts of its own,
                and its share of what the test may be wrong by. Fastest is then what runs the fewest token-layers.
            gates: thresholds of skip gates to try with every policy, beside running every layer: one or several, or
                `auto` for the one that the model was trained with, if it was; None for none. Each takes a run and a
                share as a schedule of tokens does. A policy that learns takes none.

        Returns:
            Each policy with its evidence, by name; full depth, not `guaranteed`, where no test passed.

        Raises:
            UsageError: a value out of range, or these are the texts the model was trained on.
            DataError: fewer than ten texts, or a label that is missing or unknown.
            MissingExtraError: scipy is not installed.
        """
        promised = promises(max_drop, name)
        chosen = default_name(default, promised, self.policies)
        shortcuts: list[Shortcut] = [*asked_schedules(tokens, self.num_layers), *self.gates_for(policy, gates)]
        search: dict[str, Any] = {"confidence": confidence, "family": policy, "metric": metric}
        check_request(self.problem_type, promised, **search)
        dataset = TextDataset.of(texts, labels, self.labels)
        labelled_texts = dataset.labels is not None
        guarded = protected_classes(protect, self.labels.names, per_class=per_class, labelled=labelled_texts)
        search |= {"protect": guarded, "conditional": conditional, "abstain": abstain, "on_policy": on_policy}
        sha256 = fingerprint(dataset.texts, dataset.labels)
        check_unseen(self.metadata, dataset.texts, sha256, dataset.name, allowed=allow_seen)
        check_repeats(dataset.texts, dataset.name)
        told: dict[str, Any] = {"batch_size": batch_size, "on_texts": on_texts, "pooled": "pooled" in get(policy).needs}
        # First those that a model may refuse.
        shortened = [self.record(dataset.texts, **shortcut_field(each), **told) for each in shortcuts]
        outputs = self.record(dataset.texts, **told)
        search["layer_0_cost"] = self.layer_0_cost(dataset.texts, batch_size=batch_size)
        about: dict[str, Any] = {"source": short_name(dataset.name), "sha256": sha256, **self._circumstances()}
        about["protect"] = [self.labels.names[index] for index in guarded]
        found = {
            key: replace(each, evidence={**each.evidence, **about})
            for key, each in calibrate(outputs, dataset.labels, promised, shortened=shortened, **search).items()
        }
        self.policies |= {key: each.policy for key, each in found.items()}
        self.calibration |= {key: each.evidence for key, each in found.items()}
        fitted = next(iter(found.values())).fitted
        if fitted is not None:
            self._keep_weights(fitted, [each.policy for each in found.values()])
        self._use(chosen)
        line = rare_classes(self.calibration[chosen], self.labels.names) if chosen in found else None
        if line is not None:
            warnings.warn(f"policy {chosen!r}: {line}", CalibrationWarning, stacklevel=2)
        return found

    def gates_for(self, family: str, asked: Any) -> tuple[SkipGates, ...]:
        """Return the skip gates to try with a family of policies, with their weights.

        Args:
            family: name of an exit policy.
            asked: as `gates` of `calibrate`.

        Raises:
            UsageError: the model has none, the family learns, or this is no threshold.
        """
        if asked == AUTO and get(family).learned:
            return ()
        found = tuple(self._trained(each) for each in asked_gates(asked, self.gates))
        for each in found:
            make(family, gates=each)  # a policy that learns refuses
        return found

    def check(
        self,
        texts: Sequence[Text],
        policy: str | None = None,
        *,
        batch_size: int = 32,
        on_texts: Callable[[int], object] | None = None,
    ) -> Drift:
        """Compare texts of today, which need no labels, with those a policy was calibrated on.

        Args:
            texts: at least one.
            policy: name of a calibrated one; None takes the model's default, else its only one.
            batch_size: texts in flight together.
            on_texts: called with a count of texts whenever so many more are recorded.

        Raises:
            UsageError: no such policy is calibrated, or none is named and several are.
            DataError: there are no texts.
            ModelError: the evidence holds nothing to compare with.
            MissingExtraError: scipy is not installed.
        """
        from_extra("calibrate", "scipy.stats")  # before anything slow is done for it
        name = self._calibrated(policy)
        if not len(texts):
            raise DataError("there are no texts to compare; give at least one")
        chosen = self.exit_policy(name)
        pooled = "pooled" in chosen.needs
        told: dict[str, Any] = {"batch_size": batch_size, "on_texts": on_texts}
        outputs = self.record(texts, pooled=pooled, tokens=chosen.tokens, gates=chosen.gates, **told)
        exit_layer = replay(chosen, outputs).cpu().numpy()
        return check(name, self.calibration[name], exit_layer, exit_confidence(outputs, exit_layer))
