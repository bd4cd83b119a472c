"""Which classes a promise about all texts does not protect: those that are a small part of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
