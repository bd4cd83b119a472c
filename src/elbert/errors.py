"""The few exceptions a caller may catch.

Every message is one line: what happened, the value given, what is allowed, how to mend it. The command line prints that
line on stderr and ends with `exit_status`; a library user catches `ElbertError` or one of its kinds.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class ElbertError(Exception):
    """Base of every error this library raises on purpose."""

    exit_status: int = 1


class UsageError(ElbertError):
    """The request itself is wrong: an unknown name, file or column, an output that exists, a value out of range.

    The command line as it stands can't be met, whatever is in the files and on whatever machine: it must be changed.
    """

    exit_status: int = 2


class DataError(ElbertError):
    """A data set was found but its content is unusable; the message names the file and the row."""


class ModelError(ElbertError):
    """A model folder was found but its content is unusable: a missing tensor, a wrong shape, a pickle."""


class NotFiniteError(ModelError):
    """Exits said NaN or infinity.

    Args:
        first: what to call the first of them, such as "text 3".
        layer: the layer it had just run, 1-based.
        rows: 0-based numbers of all of them, at least one.

    Attributes:
        rows: likewise; of the rows of a policy's call, or a scheduler's caller's own numbers.
        layer: likewise.
    """

    def __init__(self, first: str, layer: int, rows: Sequence[int]) -> None:
        super().__init__(
            f"the exit output of {first} at layer {layer} is NaN or infinite ({len(rows)} such in all); "
            "allowed: finite numbers: check the weights, or run in float32"
        )
        self.rows = tuple(rows)
        self.layer = layer


class MissingExtraError(ElbertError):
    """An optional dependency is not installed, or is broken; the message holds the exact install line.

    Args:
        package: its name.
        extra: the one of this package that brings it.
        error: what its import raised; None where it was only looked for.
    """

    def __init__(self, package: str, extra: str, error: ImportError | None = None) -> None:
        problem = "is not installed"
        if error is not None and not (isinstance(error, ModuleNotFoundError) and error.name == package):
            problem = f"cannot be imported ({' '.join(str(error).split())[:200]})"
        super().__init__(f"{package} is needed for this and {problem}: run pip install 'elbert[{extra}]'")


class TerminatedError(KeyboardInterrupt):
    """SIGTERM came: whoever cleans up at Ctrl-C cleans up now."""


def stop_status(stop: KeyboardInterrupt) -> int:
    """Return the exit status of a process that was stopped so: 143 by SIGTERM, 130 by Ctrl-C."""
    return 143 if isinstance(stop, TerminatedError) else 130


class CalibrationWarning(UserWarning):
    """A calibrated policy is used, or made, where its promise may not hold."""


class PolicyWarning(UserWarning):
    """An exit policy asks for layers that the model has not; the message says which parameter does."""


class DataWarning(UserWarning):
    """A data set was read in a way its owner may not have meant; the message says how."""


# Characters of an unknown name that are compared with known ones: anybody may send a name of megabytes.
_LONGEST = 100


def closest(name: object, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for an unknown `name` that is like one of `known`, else nothing."""
    close = difflib.get_close_matches(str(name)[:_LONGEST], list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'? Allowed: a, b, x"` for an unknown `name`, to end an error line with.

    Args:
        name: what was given, whatever it is.
        known: every allowed value; one that comes twice is said once.
    """
    allowed = list(dict.fromkeys(known))
    hint = closest(name, allowed)
    return f"{hint} Allowed: {', '.join(allowed)}" if hint else f"; allowed: {', '.join(allowed)}"
