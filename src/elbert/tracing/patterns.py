"""Names what happened to one text between its exit and the last layer, the ELBERT paper's two patterns among them."""

from __future__ import annotations

from dataclasses import dataclass

from elbert.results import Trace
from elbert.tasks import task_of


@dataclass(frozen=True, slots=True)
class Pattern:
    """What happened.

    Attributes:
        name: `simple`, `mitigated`, `hurt`, `differs`, `late` or `plain`.
        title: the same for people.
        words: one sentence about this text.
    """

    name: str
    title: str
    words: str


def answers_by_layer(trace: Trace) -> list[str]:
    """Return the answer of every exit in words, [M]."""
    task = task_of(trace.problem_type)
    return [task.words(row, trace.labels) for row in trace.probs.tolist()]


def pattern_of(trace: Trace, gold: object = None) -> Pattern:
    """Return the pattern of one trace.

    - simple: it left in the first half of the layers, or before them, and no later exit says anything else.
    - mitigated: right at the exit, wrong at the last layer; differs, where nobody knows what is right.
    - hurt: wrong at the exit, right at the last layer.
    - late: it left at the last layer, having run all of them but those that its gates skipped.

    Source: Xie et al., "ELBERT", ICASSP 2021, which names the first two.

    Args:
        trace: of one text.
        gold: the right answer, encoded as in a `TextDataset`; None where nobody knows.
    """
    if not trace.labels:
        return _of_values(trace, gold)
    exit_layer, layers = trace.exit_layer, trace.layers
    here = task_of(trace.problem_type).words(trace.exit_probs.tolist(), trace.labels)
    later = answers_by_layer(trace)[exit_layer:]
    last = later[-1] if later else here
    steady = set(later) <= {here}
    if exit_layer == layers:
        return _late(trace)
    if here != last:
        return _changed(trace, here, last, gold)
    if exit_layer <= layers // 2 and steady:
        ahead = len(set(range(exit_layer + 1, layers + 1)) - set(trace.skipped))
        left = f"{ahead} layers that were left to it would all" if ahead > 1 else "layer that was left to it would"
        rest = f"The {left} have said “{here}” too."
        return Pattern("simple", "Simple input, simple exit", rest)
    changes = "" if steady else " Some layer in between would have said something else."
    words = f"The answer at the exit and at layer {layers} is the same, “{here}”.{changes}"
    return Pattern("plain", "Same answer, fewer layers", words)


def _late(trace: Trace) -> Pattern:
    """Name a text that left at the last layer."""
    title = "Ran to the last layer, not all before it" if trace.skipped else "Ran to full depth"
    return Pattern("late", title, f"No exit before layer {trace.layers} let the text leave.")


def _changed(trace: Trace, here: str, last: str, gold: object) -> Pattern:
    """Name a text whose answer at the exit is not the last layer's."""
    both = f"Layer {trace.exit_layer} says “{here}”, layer {trace.layers} would have said “{last}”."
    if gold is None:
        return Pattern("differs", "The answer at the exit differs from the last layer's", both)
    right = task_of(trace.problem_type).gold_words(gold, trace.labels)
    if here == right:
        return Pattern(
            "mitigated", "Overthinking mitigated", f"{both} The label is “{right}”: leaving early was right."
        )
    if last == right:
        return Pattern("hurt", "Left too soon", f"{both} The label is “{right}”: the last layer would have been right.")
    return Pattern("differs", "Wrong either way", f"{both} The label is “{right}”.")


def _of_values(trace: Trace, gold: object) -> Pattern:
    """Name a regression: values are near or far, never right or wrong."""
    here, last = trace.exit_probs.tolist(), trace.probs[-1].tolist()
    step = max(abs(a - b) for a, b in zip(here, last, strict=True))
    if trace.exit_layer == trace.layers:
        return _late(trace)
    words = f"The value at the exit and at layer {trace.layers} differ by {step:.3f}."
    if isinstance(gold, (int, float)):
        errors = abs(here[0] - gold), abs(last[0] - gold)
        words += f" They are {errors[0]:.3f} and {errors[1]:.3f} away from the label {gold:g}."
    return Pattern("plain", "A value, from fewer layers", words)
