"""Calibrating a classifier: texts in, policies with their evidence out. Only here does calibration meet a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from elbert.calibration.calibrate import Calibration, calibrate, check_request, promise_name
from elbert.calibration.drift import Drift, check, exit_confidence
from elbert.data import Text, TextDataset
from elbert.data.source import fingerprint, short_name
from elbert.errors import CalibrationWarning, DataError, UsageError, did_you_mean
from elbert.exits import names, replay
from elbert.results import LayerOutputs

if TYPE_CHECKING:
    from elbert.classifier import Classifier

# Texts recorded between two ticks of a progress bar.
_AT_ONCE = 512


def calibrate_model(
    classifier: Classifier,
    texts: Iterable[Text] | TextDataset,
    labels: Sequence[Any] | None = None,
    promises: Mapping[str, float] | None = None,
    *,
    batch_size: int = 32,
    on_texts: Callable[[int], object] | None = None,
    **search: Any,
) -> dict[str, Calibration]:
    """Record the texts once at full depth and search the policies of all promises.

    Args:
        classifier: as it will be used: same backend, same dtype.
        texts: that the model wasn't trained on; or a data set, with its labels.
        labels: names or ids, for multi-label lists of them, numbers for regression; None promises agreement.
        promises: by name; None takes the ladder.
        batch_size: texts in flight.
        on_texts: called with a count of texts whenever so many more are recorded.
        search: further arguments of `calibrate`.

    Raises:
        UsageError: these are the very texts the model was trained on, or an argument is out of range.
        DataError: too few texts, or a label that is missing or unknown.
    """
    check_request(classifier.problem_type, promises, **search)
    dataset = _dataset(classifier, texts, labels)
    sha256 = fingerprint(dataset.texts, dataset.labels)
    check_unseen(classifier.elbert, sha256, dataset.name)
    outputs = record(classifier, dataset.texts, batch_size, on_texts)
    found = calibrate(outputs, dataset.labels, promises, **search)
    about = {"source": short_name(dataset.name), "sha256": sha256, **_circumstances(classifier)}
    return {name: Calibration(name, each.policy, {**each.evidence, **about}) for name, each in found.items()}


def check_model(
    classifier: Classifier,
    texts: Sequence[Text],
    name: str,
    *,
    batch_size: int = 32,
    on_texts: Callable[[int], object] | None = None,
) -> Drift:
    """Compare texts of today, which need no labels, with those a policy was calibrated on.

    Args:
        classifier: that carries the policy.
        texts: at least one.
        name: of the calibrated policy.
        batch_size: texts in flight.
        on_texts: called with a count of texts whenever so many more are recorded.

    Raises:
        UsageError: no policy of that name is calibrated.
        DataError: there are no texts.
        ModelError: the evidence holds nothing to compare with.
    """
    if name not in classifier.calibration or name not in classifier.policies:
        raise UsageError(f"policy {name!r} is not calibrated{did_you_mean(name, classifier.calibration)}")
    if not len(texts):
        raise DataError("there are no texts to compare; give at least one")
    warn_of_misfit(classifier, name, set())
    policy = classifier.policies[name]
    layers, confidences = [], []
    for start in range(0, len(texts), _AT_ONCE):
        outputs = classifier.record(texts[start : start + _AT_ONCE], batch_size=batch_size)
        layers.append(replay(policy, outputs).cpu().numpy())
        confidences.append(exit_confidence(outputs, layers[-1]))
        if on_texts is not None:
            on_texts(len(layers[-1]))
    return check(classifier.calibration[name], np.concatenate(layers), np.concatenate(confidences))


def promises(max_drop: float | None, name: str | None, default: bool | None) -> dict[str, float] | None:
    """Return the one promise asked for by its name, or None for the ladder.

    Raises:
        UsageError: the ladder was asked for, with a name or as a default; or the name is empty, or an exit policy's
            own, which it would hide: `full` would no longer be full depth.
    """
    if name == "":
        raise UsageError("name is empty; give the policy a name, or leave it out for one made from max_drop")
    if name in names():
        raise UsageError(f"name {name!r} is taken by the exit policy itself; give another one, such as 'my-{name}'")
    if max_drop is not None:
        return {name or promise_name(max_drop): max_drop}
    if name is not None or default:
        raise UsageError(
            "the ladder has four policies with names of their own; give a max_drop to name one or make it default"
        )
    return None


def record(
    classifier: Classifier, texts: Sequence[Text], batch_size: int, on_texts: Callable[[int], object] | None
) -> LayerOutputs:
    """Return `classifier.record(texts)`, done in parts so that a bar can move."""
    parts = []
    for start in range(0, max(len(texts), 1), _AT_ONCE):
        part = texts[start : start + _AT_ONCE]
        parts.append(classifier.record(part, batch_size=batch_size))
        if on_texts is not None:
            on_texts(len(part))
    return LayerOutputs(
        torch.cat([part.logits for part in parts]),
        torch.cat([part.probs for part in parts]),
        torch.cat([part.lengths for part in parts]),
        problem_type=classifier.problem_type,
    )


def check_unseen(elbert: Mapping[str, Any], sha256: str, name: str) -> None:
    """Compare with what `elbert.json` says of the training.

    Raises:
        UsageError: the model was trained on these very texts.
    """
    seen = _within(_within(elbert, "training"), "data")
    learnt, scored = _within(seen, "train"), _within(seen, "evaluation")
    if learnt.get("digest") == sha256[:16]:
        raise UsageError(
            f"{name}: the model was trained on these {learnt.get('rows')} texts, which it knows too well for a promise "
            "about others; calibrate on texts it has not seen"
        )
    if scored.get("digest") == sha256[:16]:
        doubt = "they chose the step whose weights were kept, so full depth may look a little too good on them"
    elif learnt.get("name") and short_name(str(learnt["name"])) == short_name(name):
        doubt = f"the model was trained on {learnt.get('rows')} texts of a file of that name; a promise needs others"
    else:
        return
    warnings.warn(f"{short_name(name)}: {doubt}", CalibrationWarning, stacklevel=4)


def _within(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object under `key`; an empty one where there is none, or something else."""
    found = content.get(key)
    return found if isinstance(found, Mapping) else {}


def warn_of_misfit(classifier: Classifier, name: str, said: set[str]) -> None:
    """Warn once where a calibrated policy is used under other circumstances than it was calibrated in.

    Args:
        classifier: in use.
        name: of the policy.
        said: names already warned of; grows.
    """
    evidence = classifier.calibration.get(name)
    if not isinstance(evidence, Mapping) or name not in classifier.policies or name in said:
        return
    here = {"dtype": classifier.dtype, "backend": classifier.backend}
    other = [f"{evidence[key]}, not {value}" for key, value in here.items() if evidence.get(key, value) != value]
    if other:
        said.add(name)
        line = (
            f"policy {name!r} was calibrated in {' and '.join(other)}: its promise may not hold; calibrate again here"
        )
        warnings.warn(line, CalibrationWarning, stacklevel=4)


def _dataset(classifier: Classifier, texts: Any, labels: Sequence[Any] | None) -> TextDataset:
    if isinstance(texts, TextDataset):
        if labels is not None:
            raise UsageError("a data set brings its own labels; give texts and labels, or a data set alone")
        return texts
    listed = list(texts)
    if labels is None:
        return TextDataset(listed, name="texts")
    encoded: Any = [classifier.labels.encode(value, f"label {row}") for row, value in enumerate(labels, start=1)]
    return TextDataset(listed, encoded, classifier.labels, "texts")


def _circumstances(classifier: Classifier) -> dict[str, str]:
    from elbert import __version__

    return {
        "date": date.today().isoformat(),
        "dtype": classifier.dtype,
        "backend": classifier.backend,
        "elbert": __version__,
    }
