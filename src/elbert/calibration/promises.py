"""What may be promised, and under which name: the request of a calibration, checked before any text is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from elbert.errors import UsageError, did_you_mean
from elbert.exits import get, names
from elbert.lazy import from_extra
from elbert.results import ProblemType
from elbert.scoring.metrics import metric_name

# The speed levels a model is given where no promise is named.
LADDER: dict[str, float] = {"exact": 0.0, "drop-0.5": 0.005, "drop-1": 0.01, "drop-2": 0.02}
_LADDER_DEFAULT = "drop-1"


def promise_name(max_drop: float) -> str:
    """Return what a promise is called where nobody names it: `drop-0.5` for 0.005, and `exact` for 0."""
    return f"drop-{max_drop * 100:.6g}" if max_drop > 0 else "exact"


def promises(max_drop: float | None, name: str | None) -> dict[str, float]:
    """Return the promise asked for by its name, or the ladder's four.

    Raises:
        UsageError: a name for the ladder; or the name is empty, or an exit policy's own, which it would hide: `full`
            would no longer be full depth.
    """
    if max_drop is not None:
        _check_number("max_drop", max_drop)
    if name == "":
        raise UsageError("name is empty; give the policy a name, or leave it out for one made from max_drop")
    if name in names():
        raise UsageError(f"name {name!r} is taken by the exit policy itself; give another one, such as 'my-{name}'")
    if max_drop is not None:
        return {name or promise_name(max_drop): max_drop}
    if name is not None:
        raise UsageError("the ladder has four policies with names of their own; give a max_drop to name one")
    return LADDER


def _check_number(name: str, value: object) -> None:
    if not isinstance(value, Real):
        raise UsageError(f"{name} is {value!r}; allowed: a number")


def default_name(asked: str | None, promised: Mapping[str, float], saved: Iterable[str]) -> str:
    """Return the name of the policy that answers from now on where none is named.

    Args:
        asked: a name, or None: then the one promise made, or the ladder's `drop-1`.
        promised: what is being calibrated.
        saved: names of the policies the model has already.

    Raises:
        UsageError: there is no such policy.
    """
    known = [*promised, *saved, *names()]
    if asked is not None and asked not in known:
        raise UsageError(f"default {asked!r} is no policy of this model{did_you_mean(asked, known)}")
    return asked or (_LADDER_DEFAULT if promised == LADDER else next(iter(promised)))


def check_request(
    problem_type: ProblemType,
    promised: Mapping[str, float],
    confidence: float = 0.9,
    family: str = "elbert",
    metric: str | None = None,
    **_: Any,
) -> None:
    """Refuse a request that can't be met, before anything slow is done for it; arguments as in `calibrate`.

    Raises:
        UsageError: a promise or a confidence out of range, an unknown family or metric.
        MissingExtraError: scipy is not installed.
    """
    from_extra("calibrate", "scipy.special")
    get(family)
    metric_name(problem_type, metric)
    _check_number("confidence", confidence)
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence:g}; allowed: more than 0 and less than 1, usually 0.9")
    for max_drop in promised.values():
        if not 0 <= max_drop < 1:
            allowed = "from 0 to less than 1, where 0.01 is one point of accuracy"
            raise UsageError(f"max_drop is {max_drop:g}; allowed: {allowed}")
