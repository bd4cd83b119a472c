"""Texts worth reading, each with what every layer says of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from elbert.reports.choice import worth_reading
from elbert.reports.filters import probability, shortened
from elbert.reports.run import Run

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
    said = [run.task.words(probs, run.names) for probs in run.outputs.probs[row].tolist()]
    known = [] if run.gold is None else [("label", run.task.gold_words(run.gold[row], run.names))]
    answer = run.task.words(run.exit_probs[row].tolist(), run.names)  # at layer 0 that of the words
    return {
        "said": answer,
        "right": None if run.verdicts is None else bool(run.verdicts.at_exit[row]),
        "exit_layer": exit_layer,
        "excerpt": shortened(" ".join(whole.split()), _EXCERPT),
        "whole": shortened(whole, _LONGEST),
        "facts": [
            *known,
            (f"at the exit, layer {exit_layer}", _best(run, run.exit_probs[row])),
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
