"""Can these texts say anything of others? Not where the model knows them by heart, nor where most are copies."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from elbert.data.source import common, short_name
from elbert.data.splits import same_text
from elbert.errors import CalibrationWarning, UsageError
from elbert.metadata import DataRecord, Metadata

# Share of texts in common from which two data sets are no longer apart by chance.
_MOST_COMMON = 0.01
# Share of repeated texts that real traffic is hardly above.
_MOST_REPEATED = 0.1


def check_unseen(metadata: Metadata, texts: Sequence[Any], sha256: str, name: str, *, allowed: bool = False) -> None:
    """Compare a data set with what the model's record says of its training.

    Args:
        metadata: of the model.
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
    learnt, scored = metadata.met("train"), metadata.met("evaluation")
    known = _known(learnt, texts, sha256) or _known(DataRecord.from_dict(metadata.words), texts, sha256)
    if known is not None:
        doubt = f"{known} the model was trained on, which it knows too well for a promise about others"
        if not allowed:
            mend = "calibrate on texts it has not seen, or overrule this with --allow-seen (allow_seen=True)"
            raise UsageError(f"{name}: {doubt}; {mend}")
    elif scored.digest == sha256[:16]:
        doubt = "they chose the step whose weights were kept, so full depth may look a little too good on them"
    elif learnt.name and short_name(learnt.name) == short_name(name):
        doubt = f"the model was trained on {learnt.rows} texts of a file of that name; a promise needs others"
    else:
        return
    warnings.warn(f"{short_name(name)}: {doubt}", CalibrationWarning, stacklevel=3)


def check_repeats(texts: Sequence[Any], name: str) -> None:
    """Warn where many texts of a calibration are one text again, blanks and case aside: a test takes them for others.

    Args:
        texts: of the data set.
        name: its name.
    """
    different = len({same_text(text) for text in texts})
    if len(texts) - different > _MOST_REPEATED * len(texts):
        told = f"only {different:,} of {len(texts):,} texts differ, and every copy counts as a text of its own"
        mend = "drop the copies, unless what is to be classified repeats itself as often"
        warnings.warn(f"{short_name(name)}: {told}; {mend}", CalibrationWarning, stacklevel=3)


def _known(learnt: DataRecord, texts: Sequence[Any], sha256: str) -> str | None:
    """Say how many of the texts were trained on; None where they are too few to speak of, or nobody knows."""
    if learnt.digest == sha256[:16]:
        return f"all {len(texts)} texts are those"
    try:
        hits, looked_at = common(texts, learnt.sketch)
    except ValueError:
        return None
    if not hits or hits <= _MOST_COMMON * looked_at:
        return None
    sample = "" if looked_at == len(texts) else f" looked at (of {len(texts)})"
    return f"{hits} of {looked_at} texts{sample} are among the {learnt.rows}"
