"""What `elbert.json` says of how the policy in use was chosen, and whether that was under these very conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elbert.exits import ExitPolicy
from elbert.reports import html


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


def section(found: Sequence[Evidence], *, dtype: str, backend: str) -> str:
    """Return the section of the page; empty where nothing was calibrated.

    Args:
        found: from `evidence_of`.
        dtype: of this run.
        backend: likewise.
    """
    if not found:
        return ""
    used = [each for each in found if each.in_use][:1]  # several promises may have ended in the same policy
    parts = [_warning(used, dtype, backend)]
    for each in used:
        parts += [html.facts(_rows(each)), _exits(each.entry.get("exits"))]
    others = [(each.name, _promise(each.entry)) for each in found[len(used) :]]
    if others:
        parts.append(html.details("Other calibrated policies of this model", html.facts(others)))
    return html.section("How this policy was chosen", *parts)


def _warning(used: Sequence[Evidence], dtype: str, backend: str) -> str:
    if not used:
        return html.callout(
            "Not calibrated",
            "The policy in use is none of those this model was calibrated for: no promise holds for it.",
            "warning",
        )
    here = {"dtype": dtype, "backend": backend}
    different = [
        f"{name} {used[0].entry[name]} there, {value} here"
        for name, value in here.items()
        if used[0].entry.get(name) not in (None, value)
    ]
    if not different:
        return ""
    return html.callout(
        "Calibrated under other conditions",
        f"{'; '.join(different)}. Thresholds belong to the numbers they were chosen on: calibrate again here.",
        "warning",
    )


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


def _exits(exits: object) -> str:
    """Return how well calibrated each exit was, and how well its score tells right from wrong."""
    if not isinstance(exits, list) or not all(isinstance(each, Mapping) for each in exits) or not exits:
        return ""
    keys = [("layer", "Layer"), ("temperature", "Temperature"), ("ece", "ECE"), ("brier", "Brier"), ("auroc", "AUROC")]
    present = [(key, name) for key, name in keys if any(key in each for each in exits)]
    rows = [[html.words(_number(each.get(key), 3)) for key, _ in present] for each in exits]
    grid = html.grid([f"#{name}" for _, name in present], rows, label="Calibration of every exit")
    about = "ECE and Brier: how far probabilities are from frequencies. AUROC: how well exits rank right above wrong."
    return html.details("Every exit's calibration", html.paragraph(about, "soft") + grid)
