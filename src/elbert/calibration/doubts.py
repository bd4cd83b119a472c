"""What makes a promise doubtful: texts trained on, copies, other circumstances than it was made in, rare classes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
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


def misfit(name: str, evidence: object, here: Mapping[str, str]) -> str | None:
    """Return a line where a calibrated policy is used under other circumstances than it was calibrated in.

    Args:
        name: of the policy.
        evidence: of its calibration; whatever stands there where another tool wrote it.
        here: the circumstances now, by the evidence's keys; those the evidence lacks are not compared.
    """
    if not isinstance(evidence, Mapping):
        return None
    other = [
        "on another model's weights" if key == "weights" else f"in {evidence[key]}, not {value}"
        for key, value in here.items()
        if evidence.get(key, value) != value
    ]
    if not other:
        return None
    return f"policy {name!r} was calibrated {' and '.join(other)}: its promise may not hold; calibrate again here"


# A class rarer than this many times what may be lost could lose a fifth of its texts within the promise.
_TIMES = 5
# Nor is a class rare that has this part or more of an even share.
_PART = 0.5


def rare_classes(evidence: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return a line on the classes that a promise could cost much, with what these texts show; None where none is.

    Args:
        evidence: of one calibration, with the names of the classes that it protects.
        names: of the classes.
    """
    if not evidence["guaranteed"] or not evidence["classes"]:
        return None
    most = evidence["max_drop"]
    limit = min(_TIMES * most, _PART / len(evidence["classes"]))
    shown = [
        f"{name!r} ({each['share']:.1%} of the texts, recall {each['full_depth_recall']:.3f} to {each['recall']:.3f})"
        for name, each in zip(names, evidence["classes"], strict=False)
        if 0 < each["share"] < limit and name not in evidence.get("protect", ())
    ]
    if not shown:
        return None
    rest = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return f"a promise of {most:g} over all texts protects no class this rare: {', '.join(shown[:3])}{rest}"
