"""Which twenty texts of a run are worth reading, and why each was picked. Draws nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from elbert.reports.run import Run

MOST = 20


@dataclass(frozen=True, slots=True)
class Group:
    """Texts picked for one reason.

    Attributes:
        title: the reason, for people.
        about: what it means, in one sentence.
        rows: their places in the run, the most telling first.
    """

    title: str
    about: str
    rows: tuple[int, ...]


def worth_reading(run: Run) -> list[Group]:
    """Return groups of texts, at most `MOST` texts in all and none twice; groups without a text are left out."""
    sure, verdicts = run.confidence, run.verdicts
    late = (run.exit_layer == run.exit_layer.max()) & (run.exit_layer > run.exit_layer.min())
    everyone = torch.ones_like(late)
    wanted: list[tuple[str, str, Tensor | None, Tensor, int]] = [
        (
            "Overthinking mitigated",
            "Right at the exit, wrong at the last layer; the surest exits first.",
            None if verdicts is None else verdicts.corrected,
            sure,
            6,
        ),
        (
            "Left too soon",
            "Wrong at the exit, right at the last layer; the surest exits first.",
            None if verdicts is None else verdicts.hurt,
            sure,
            5,
        ),
        (
            "The exit changed the answer",
            "The last layer would have said something else.",
            run.changed if verdicts is None else None,
            sure,
            8,
        ),
        ("Moved most after the exit", "The last layer gives another value.", _moved(run), _distance(run), 8),
        (
            "Sure and wrong",
            "Wrong at the exit and at the last layer, with the highest confidence.",
            None if verdicts is None else verdicts.wrong,
            sure,
            3,
        ),
        ("Latest exits", "The texts that ran the most layers, the least sure first.", late, -sure, 4),
        ("Least sure", "The lowest confidence at the exit.", everyone, -sure, 3),
        (
            "Simple input, simple exit",
            "The earliest and surest: what the model finds easy.",
            ~run.changed,
            sure - 2.0 * run.exit_layer,
            3,
        ),
    ]
    return _taken(wanted)


def _taken(wanted: list[tuple[str, str, Tensor | None, Tensor, int]]) -> list[Group]:
    """Fill the groups in their order, each text once."""
    seen: set[int] = set()
    groups = []
    for title, about, members, order, quota in wanted:
        if members is None:
            continue
        places = members.nonzero().flatten()
        ordered = places[order[places].argsort(descending=True, stable=True)].tolist()
        rows = [row for row in ordered[: MOST + len(seen)] if row not in seen][: min(quota, MOST - len(seen))]
        seen.update(rows)
        if rows:
            groups.append(Group(title, about, tuple(rows)))
    return groups


def _distance(run: Run) -> Tensor:
    return (run.exit_probs - run.outputs.probs[:, -1]).abs().amax(-1)


def _moved(run: Run) -> Tensor | None:
    """Return where a regression's value moves after the exit; None for classes."""
    return None if run.names else _distance(run) > 0
