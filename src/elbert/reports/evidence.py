"""What `elbert.json` says of how the policy in use was chosen, and whether that was under these very conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elbert.exits import ExitPolicy


@dataclass(frozen=True, slots=True)
class Evidence:
    """One calibrated policy.

    Attributes:
        name: under which the model saves it.
        entry: what was promised and measured, as it stands in `elbert.json`.
        in_use: whether it is the policy of this run.
    """

    name: str
    entry: Mapping[str, Any]
    in_use: bool


def evidence_of(
    calibration: Mapping[str, Any], policies: Mapping[str, ExitPolicy], policy: ExitPolicy
) -> list[Evidence]:
    """Return the calibrated policies a model carries, the one in use first; none where it carries none.

    Args:
        calibration: evidence by name, as in `elbert.json`; what has another shape is left out.
        policies: the model's policies by name.
        policy: in use.
    """
    found = [
        Evidence(str(name), entry, policies.get(name) == policy)
        for name, entry in calibration.items()
        if isinstance(entry, Mapping)
    ]
    return sorted(found, key=lambda each: not each.in_use)


def shown(found: Sequence[Evidence], *, dtype: str, backend: str) -> dict[str, Any] | None:
    """Return what the page says of them; None where nothing was calibrated.

    Args:
        found: from `evidence_of`.
        dtype: of this run.
        backend: likewise.
    """
    if not found:
        return None
    used = next((each for each in found if each.in_use), None)  # several promises may have ended in the same policy
    here = {"dtype": dtype, "backend": backend}
    return {
        "used": None if used is None else {"rows": _rows(used), "exits": _exits(used.entry.get("exits"))},
        "different": []
        if used is None
        else [
            f"{name} {used.entry[name]} there, {value} here"
            for name, value in here.items()
            if used.entry.get(name) not in (None, value)
        ],
        "others": [(each.name, _promise(each.entry)) for each in found if each is not used],
    }


def _promise(entry: Mapping[str, Any]) -> str:
    if isinstance(entry.get("note"), str):
        return str(entry["note"])
    control = "the label" if entry.get("control") == "labels" else "the answer at full depth"
    verb = "guaranteed" if entry.get("guaranteed") else "measured, not guaranteed"
    drop, sure = _number(entry.get("max_drop")), _number(entry.get("confidence"))
    return f"at most {drop} of {entry.get('metric', 'the metric')} lost against {control}, at confidence {sure}: {verb}"


def _rows(each: Evidence) -> list[tuple[str, str]]:
    entry = each.entry
    known = {
        "policy": each.name,
        "promise": _promise(entry),
        "method": "; bound: ".join(str(entry[key]) for key in ("method", "bound") if entry.get(key)),
        "guaranteed": "" if "guaranteed" not in entry else "yes" if entry["guaranteed"] else "no",
        "settings tried": entry.get("tried"),
        "texts": entry.get("n"),
        "score there": _pair(entry, "score", "full_depth_score", "at full depth"),
        "mean exit layer there": _number(entry.get("mean_exit_layer")),
        "layer speedup there": _number(entry.get("layer_speedup")),
        "texts at layer 0 there": entry.get("layer_0"),
        "p-value": _number(entry.get("p_value")),
        "data": entry.get("source"),
        "sha256 of the data": entry.get("sha256"),
        "date": entry.get("date"),
        "computed by": " ".join(str(entry[key]) for key in ("backend", "dtype") if entry.get(key)),
        "elbert": entry.get("elbert"),
    }
    return [(name, str(value)) for name, value in known.items() if value not in (None, "", "–")]


def _pair(entry: Mapping[str, Any], first: str, second: str, words: str) -> str:
    if entry.get(first) is None:
        return ""
    return f"{_number(entry[first])}, {_number(entry.get(second))} {words}"


def _number(value: object, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else "–"


def _exits(exits: object) -> dict[str, Any] | None:
    """Return how well calibrated each exit was, and how well its score tells right from wrong."""
    if not isinstance(exits, list) or not all(isinstance(each, Mapping) for each in exits) or not exits:
        return None
    keys = [("layer", "Layer"), ("temperature", "Temperature"), ("ece", "ECE"), ("brier", "Brier"), ("auroc", "AUROC")]
    present = [(key, name) for key, name in keys if any(key in each for each in exits)]
    rows = [[_number(each.get(key), 3) for key, _ in present] for each in exits]
    return {"head": [f"#{name}" for _, name in present], "rows": rows}
