"""Which twenty texts of a run are worth reading, why each was picked, and what every layer says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elbert.reports.filters import probability, shortened, where_left
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


_EXCERPT = 160
_LONGEST = 1200


def groups(run: Run) -> list[dict[str, Any]]:
    """Return every group of texts as the template shows it."""
    return [
        {"title": group.title, "about": group.about, "texts": [_text(run, row) for row in group.rows]}
        for group in worth_reading(run)
    ]


def _text(run: Run, row: int) -> dict[str, Any]:
    """Return one text: answer, depth and strip at first, the rest on demand."""
    text = run.texts[row]
    whole = text if isinstance(text, str) else " ⁄ ".join(text)
    exit_layer = int(run.exit_layer[row])
    by_stage = run.outputs.select([row] * len(run.stages)).at(run.stages)  # [stages, C]
    said = [run.task.words(probs, run.names) for probs in by_stage.tolist()]
    known = [] if run.gold is None else [("label", run.task.gold_words(run.gold[row], run.names))]
    answer = run.task.words(run.exit_probs[row].tolist(), run.names)  # at layer 0 that of the words
    return {
        "said": answer,
        "right": None if run.verdicts is None else bool(run.verdicts.at_exit[row]),
        "place": run.stages.index(exit_layer),
        "where": where_left(exit_layer, run.layers),
        "excerpt": shortened(" ".join(whole.split()), _EXCERPT),
        "whole": shortened(whole, _LONGEST),
        "facts": [
            *known,
            (f"at the exit, {where_left(exit_layer, run.layers)}", _best(run, run.exit_probs[row])),
            (f"at the last layer, {run.layers}", _best(run, run.outputs.probs[row, -1])),
            ("tokens", str(int(run.outputs.lengths[row]))),
        ],
        **_strip(run, said, answer),
    }


def _best(run: Run, probs: Tensor, most: int = 3) -> str:
    """Return the most probable classes of one exit, [C], in words."""
    if not run.names:
        return run.task.words(probs.tolist(), run.names)
    best = probs.argsort(descending=True)[:most].tolist()
    return ", ".join(f"{run.names[index]} {probability(float(probs[index]))}" for index in best)


def _strip(run: Run, said: list[str], answer: str) -> dict[str, Any]:
    """Return the letter of every layer's answer, and what the letters stand for where there are several."""
    if not run.names:
        return {"marks": said, "legend": []}
    order = list(dict.fromkeys([answer, *said]))
    letters = {words: "ABCDEFGH"[place] if place < 8 else "·" for place, words in enumerate(order)}
    legend = [(letters[words], shortened(words, 40)) for words in order[:8]] if len(order) > 1 else []
    return {"marks": [letters[words] for words in said], "legend": legend}
