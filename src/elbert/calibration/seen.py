"""Were these texts trained on? A promise about others can't come from texts the model knows by heart."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from elbert.data.source import common, short_name
from elbert.errors import CalibrationWarning, UsageError

# Share of texts in common from which two data sets are no longer apart by chance.
_MOST_COMMON = 0.01


def check_unseen(training: object, texts: Sequence[Any], sha256: str, name: str, *, allowed: bool = False) -> None:
    """Compare a data set with what the model's record says of its training.

    Args:
        training: the record; whatever stands there where another tool wrote it.
        texts: of the data set.
        sha256: its fingerprint.
        name: its name.
        allowed: warn of texts the model was trained on instead of refusing them.

    Raises:
        UsageError: more than a hundredth of the texts are among those the model was trained on.

    Warns:
        CalibrationWarning: so, where it is allowed; or they chose the step whose weights were kept, or are called as
            the training texts were.
    """
    seen = _within(training, "data")
    learnt, scored = _within(seen, "train"), _within(seen, "evaluation")
    known = _known(learnt, texts, sha256)
    if known is not None:
        doubt = f"{known} the model was trained on, which it knows too well for a promise about others"
        if not allowed:
            mend = "calibrate on texts it has not seen, or overrule this with --allow-seen (allow_seen=True)"
            raise UsageError(f"{name}: {doubt}; {mend}")
    elif scored.get("digest") == sha256[:16]:
        doubt = "they chose the step whose weights were kept, so full depth may look a little too good on them"
    elif learnt.get("name") and short_name(str(learnt["name"])) == short_name(name):
        doubt = f"the model was trained on {learnt.get('rows')} texts of a file of that name; a promise needs others"
    else:
        return
    warnings.warn(f"{short_name(name)}: {doubt}", CalibrationWarning, stacklevel=3)


def _known(learnt: Mapping[str, Any], texts: Sequence[Any], sha256: str) -> str | None:
    """Say how many of the texts were trained on; None where they are too few to speak of, or nobody knows."""
    if learnt.get("digest") == sha256[:16]:
        return f"all {len(texts)} texts are those"
    kept = learnt.get("sketch")
    if not isinstance(kept, str):
        return None
    try:
        hits, looked_at = common(texts, kept)
    except ValueError:
        return None
    if not hits or hits <= _MOST_COMMON * looked_at:
        return None
    sample = "" if looked_at == len(texts) else f" looked at (of {len(texts)})"
    return f"{hits} of {looked_at} texts{sample} are among the {learnt.get('rows')}"


def _within(content: object, key: str) -> Mapping[str, Any]:
    """Return the object under `key`; an empty one where there is none, or something else."""
    found = content.get(key) if isinstance(content, Mapping) else None
    return found if isinstance(found, Mapping) else {}
