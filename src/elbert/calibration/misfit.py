"""Where a promise was made, and where it is used: other precision, backend, device or weights make it doubtful."""

from __future__ import annotations

from collections.abc import Mapping


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
