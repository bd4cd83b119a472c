"""`Cascade`: whole models, the cheapest first; a text leaves at the first that is sure of it.

To an exit policy a model of the chain is what a layer is elsewhere, so the rules, their replay and the test behind a
guarantee are those of one model's exits. Sources: CascadeBERT (arXiv 2012.14682), E-LANG (arXiv 2203.00748), model
cascading (arXiv 2210.05528).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elbert.calibration import Calibration, calibrate
from elbert.calibration.doubts import check_repeats, check_unseen, misfit, rare_classes
from elbert.calibration.keeping import PolicyLike
from elbert.calibration.parts import protected_classes
from elbert.calibration.promises import check_request, promise_name
from elbert.cascade.chain import Chain
from elbert.cascade.files import read_cascade, write_cascade
from elbert.cascade.rules import check_family, check_rule
from elbert.classifier import Classifier
from elbert.data import Text, TextDataset
from elbert.data.dataset import in_space_of
from elbert.data.source import fingerprint, short_name
from elbert.errors import CalibrationWarning, DataError, PolicyWarning, UsageError
from elbert.exits import ExitPolicy, make
from elbert.modeling.files.sources import find_folder
from elbert.predictor import Predictor
from elbert.results import Prediction

_NAME = "cascade"


class Cascade(Chain, Predictor):
    """A text classifier made of several; each keeps its own tokenizer, its own exits, and whatever it was saved with.

    `policy` decides after every model but the last, with the models counted as layers: `max_prob` and `energy` ask how
    sure the model is, `patience` whether two models say the same, and `full` asks the last one alone. A `Prediction`
    says which model answered and counts the layers of all that ran; as models are of unlike width, `cost` counts them
    in layers of the last.

    Attributes:
        policy: which model answers; until it is calibrated or named the last one answers.
        evidence: of its calibration; empty where there was none.
        name: where it was read from.
    """

    def __init__(
        self,
        models: Sequence[Classifier],
        policy: PolicyLike = None,
        *,
        evidence: dict[str, Any] | None = None,
        name: str = "",
    ) -> None:
        super().__init__(models)
        self.name = name
        self.evidence: dict[str, Any] = dict(evidence or {})
        self.policy = self.equip(make("full") if policy is None else policy)

    @classmethod
    def of(cls, models: Sequence[str | Path], **loading: Any) -> Cascade:
        """Load models by name and put them in a row; arguments as in `Classifier.from_pretrained`.

        Raises:
            UsageError: an unknown model, fewer than two, or they answer with other classes.
        """
        folders = [find_folder(model) for model in models]  # all of them, before any is loaded
        return cls([Classifier.from_pretrained(folder, **loading) for folder in folders])

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, policy: PolicyLike = None, **loading: Any) -> Cascade:
        """Read what `save_pretrained` wrote.

        Args:
            folder: the cascade's.
            policy: an `ExitPolicy`, its name or its dict; None takes the one it was saved with.
            loading: backend, device, dtype and problem_type, as in `Classifier.from_pretrained`, for all models.

        Raises:
            UsageError: no cascade, or an unknown policy.
            ModelError: the folder's content is unusable.
        """
        saved = read_cascade(Path(folder).expanduser())
        models = [Classifier.from_pretrained(model, **loading) for model in saved.models]
        found = cls(models, saved.policy, evidence=dict(saved.evidence), name=str(folder))
        if policy is not None:
            found.policy, found.evidence = found.exit_policy(policy), {}
        elif found.evidence and (line := misfit(_NAME, found.evidence, found._here())) is not None:
            warnings.warn(line, CalibrationWarning, stacklevel=2)
        return found

    def equip(self, policy: ExitPolicy | str | dict[str, Any]) -> ExitPolicy:
        """Return a policy that can decide between models.

        Raises:
            UsageError: there is none such, or what it reads does not say the same of several models as of one.
        """
        if isinstance(policy, str):
            policy = make(policy)
        elif isinstance(policy, dict):
            policy = ExitPolicy.from_dict(policy)
        check_rule(policy)
        return policy

    def exit_policy(self, policy: PolicyLike) -> ExitPolicy:
        """Return the policy that a caller names: a rule, its dict, `cascade` or None for the cascade's own.

        Warns where it asks for more models than there are.

        Raises:
            UsageError: as `equip`.
        """
        found = self.resolve(policy)
        if found is not self.policy and (line := found.beyond(len(self.models), "models")) is not None:
            warnings.warn(line, PolicyWarning, stacklevel=3)
        return found

    def resolve(self, policy: PolicyLike) -> ExitPolicy:
        """Return the policy that a caller names, and warn of nothing; arguments and errors as `exit_policy`."""
        return self.policy if policy is None or policy == _NAME else self.equip(policy)

    @property
    def policies(self) -> dict[str, ExitPolicy]:
        """The one policy a cascade keeps, by its name."""
        return {_NAME: self.policy}

    @property
    def calibration(self) -> dict[str, Any]:
        """The evidence of that policy, by its name; empty where it was not calibrated."""
        return {_NAME: self.evidence} if self.evidence else {}

    def _answers(
        self, texts: Iterable[Text], policy: PolicyLike, batch_size: int
    ) -> Iterator[tuple[Prediction, NDArray[np.float32]]]:
        return self.answers(texts, self.exit_policy(policy), batch_size)

    def calibrate(
        self,
        dataset: TextDataset,
        max_drop: float = 0.01,
        confidence: float = 0.9,
        *,
        policy: str = "max_prob",
        metric: str | None = None,
        batch_size: int = 32,
        on_texts: Callable[[int], object] | None = None,
        on_policy: Callable[[], object] | None = None,
        allow_seen: bool = False,
        protect: Sequence[str] = (),
        per_class: bool = False,
    ) -> Calibration:
        """Find the policy by which most texts leave early while the chain gives up less than was promised, and keep it.

        The promise is about the last model's answers, with the exits it has; it and its test are those of
        `Classifier.calibrate`, with models in the place of layers, and so is the evidence.

        Args:
            dataset: texts that none of the models was trained on, with their labels.
            max_drop: mean loss that may be given up against the last model, in [0, 1).
            confidence: of the promise, in (0, 1).
            policy: family to search.
            metric: what is reported beside.
            batch_size: texts in flight together.
            on_texts: called with a count of texts whenever a model is through with so many more.
            on_policy: called after every policy tried.
            allow_seen: only warn where a model was trained on some of these texts.
            protect: names of classes whose recall may not lose `max_drop` either, each by itself.
            per_class: protect every class so.

        Returns:
            The policy with its evidence; the last model alone, not `guaranteed`, where no test passed.

        Raises:
            UsageError: a value out of range, a policy that can't decide between models, an unknown class, or a model
                was trained on these texts.
            DataError: fewer than ten texts, or they have no labels.
        """
        check_family(policy, len(self.models), self.labels.num_labels)
        promised = {promise_name(max_drop): max_drop}
        check_request(self.problem_type, promised, confidence, policy, metric)
        if dataset.labels is None:
            raise DataError(f"{dataset.name}: no labels; a cascade is calibrated on labelled texts")
        guarded = protected_classes(protect, self.labels.names, per_class=per_class, labelled=True)
        dataset = in_space_of(dataset, self.labels)
        sha256 = fingerprint(dataset.texts, dataset.labels)
        for model in self.models:
            check_unseen(model.metadata, dataset.texts, sha256, dataset.name, allowed=allow_seen)
        check_repeats(dataset.texts, dataset.name)
        outputs = self.record(dataset.texts, batch_size=batch_size, on_texts=on_texts)
        asked: dict[str, Any] = {"confidence": confidence, "family": policy, "metric": metric, "on_policy": on_policy}
        (found,) = calibrate(outputs, dataset.labels, promised, protect=guarded, **asked).values()
        about: dict[str, Any] = {"source": short_name(dataset.name), "sha256": sha256, **self._here()}
        about["protect"] = [self.labels.names[index] for index in guarded]
        found = replace(found, evidence={**found.evidence, **about})
        self.policy, self.evidence = found.policy, found.evidence
        if (line := rare_classes(found.evidence, self.labels.names)) is not None:
            warnings.warn(f"the cascade: {line}", CalibrationWarning, stacklevel=2)
        return found

    def save_pretrained(self, folder: str | Path) -> None:
        """Write one folder with copies of the models' folders; an existing one is replaced as a whole.

        Raises:
            UsageError: a model was made in code, so there is no folder to copy.
        """
        names = [model.name for model in self.models]
        if not all(names):
            raise UsageError("a model of the cascade was made in code, so there is no folder to copy: save it first")
        write_cascade(Path(folder), [find_folder(name) for name in names], self.policy, self.evidence, self._card())

    def _card(self) -> str:
        told = self.evidence.get("note", "not calibrated")
        listed = "\n".join(f"{place}. {Path(model.name).name}" for place, model in enumerate(self.models, start=1))
        rule = f"`{self.policy.to_dict()}`: {self.policy.summary}, where a layer is a model."
        return f"# A cascade\n\n{listed}\n\n{rule}\n\n{told}\n\n    elbert predict FOLDER TEXT\n"
