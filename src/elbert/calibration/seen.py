"""Were these texts trained on? A promise about others can't come from texts the model knows by heart."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from elbert.data.source import short_name
from elbert.errors import CalibrationWarning, UsageError


def check_unseen(training: object, sha256: str, name: str) -> None:
    """Compare a data set with what the model's record says of its training.

    Args:
        training: the record; whatever stands there where another tool wrote it.
        sha256: fingerprint of the data set.
        name: of the data set.

    Raises:
        UsageError: the model was trained on these very texts.

    Warns:
        CalibrationWarning: they chose the step whose weights were kept, or are called as the training texts were.
    """
    seen = _within(training, "data")
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
    warnings.warn(f"{short_name(name)}: {doubt}", CalibrationWarning, stacklevel=3)


def _within(content: object, key: str) -> Mapping[str, Any]:
    """Return the object under `key`; an empty one where there is none, or something else."""
    found = content.get(key) if isinstance(content, Mapping) else None
    return found if isinstance(found, Mapping) else {}
