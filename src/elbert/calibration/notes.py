"""What a calibration came to, in one line, and its numbers as they are written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elbert.calibration.parts import CLASS_BOUND
from elbert.calibration.search import Choice, texts_needed
from elbert.exits import ExitPolicy

_DIGITS = 6


def note(choice: Choice, evidence: Mapping[str, Any], policy: ExitPolicy) -> str:
    """Say in one line what is promised of a policy, or why nothing is."""
    sure, most = f"{evidence['confidence']:.6g}", f"{evidence['max_drop']:g}"
    if choice.index is not None:
        what = f"less than {most}" if evidence["max_drop"] else "nothing"
        classes = len(evidence["protect"])
        also = f", and as little of the recall of {classes} protected class{'es' * (classes > 1)}" if classes else ""
        also += ", also among the texts that leave at any one layer or before it" * evidence["conditional"]
        left_out = "dropping tokens" if policy.tokens else "skipping layers" if policy.gates else None
        how = f"leaving early and {left_out} cost" if left_out else "leaving early costs"
        return f"at confidence {sure}, {how} {what} in the mean (loss: {evidence['loss']}){also}"
    takes = texts_needed(evidence["max_drop"], 1 - evidence["confidence"], CLASS_BOUND)
    if takes is not None and min(evidence["protected_texts"], default=takes) < takes:
        fewest = min(evidence["protected_texts"])
        return f"full depth: a protected class has {fewest} texts to test on; {most} at {sure} takes {takes} of each"
    needed, given = evidence["needed"], evidence["n"] + evidence.get("fitted_on", 0)
    if needed is not None and given < needed:
        few = f"{given} texts are too few for {most} at {sure}"
        return f"full depth: {few}; even where leaving early changes no answer, it takes {needed}"
    if needed is None:
        return (
            "full depth: no policy was shown to lose nothing at all; that takes exits that are better than full depth"
        )
    return (
        f"full depth: no policy of the family was shown to keep within {most} at {sure}; give more texts, or allow more"
    )


def rounded(value: Any) -> Any:
    """Return JSON-ready values, floats to six digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
