"""The part of the page of `compare.py` that holds rivals against policies: from what stands beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compare_cascades import Line
from compare_standing import Standing
from compare_tables import gain, table
from elbert.scoring.held_out import LAYER_SPEEDUPS

# Of one corpus: static rivals, and cascades of them.
Beside = tuple[Sequence[Standing], Sequence[Line]]


def static(rivals: Sequence[Standing]) -> list[str]:
    """Return what models with fewer layers for every text reach, and what of it is above policies at as many."""
    if not rivals:
        return []
    clock = any(each.speedup is not None for each in rivals)
    head = (
        "every text runs",
        "layers",
        *(["by the clock"] if clock else []),
        "seeds",
        "minutes",
        "score",
        *(f"above `{name}`" for name in rivals[0].policies),
    )
    rows = []
    for each in rivals:
        minutes = np.mean([one["seconds"] for one in each.trained]) / 60
        cells = [f"{value:.3f}, {gain(more, edges)}" for value, more, edges in each.policies.values()]
        faster = [] if not clock else ["–" if each.speedup is None else f"{each.speedup:.2f}×"]
        own = [f"`{each.rival}`", f"{each.layers:.3g}", *faster, str(each.models), f"{minutes:.1f}"]
        rows.append([*own, f"{each.score:.3f}", *cells])
    told = [f"Policies are those of `{rivals[0].scheme}` at as many layers on average; before the comma their score."]
    told += [
        f"`{each.rival}` runs every layer with {each.weights:.0%} of its weights; its number of layers is what its "
        "multiply-adds are worth."
        for each in rivals
        if each.weights is not None
    ]
    if clock:
        told.append("By the clock is the speedup over the whole model at full depth, in turns.")
    return [*table(head, rows), " ".join(told), ""]


def in_a_row(cascades: Sequence[Line]) -> list[str]:
    """Return what whole models in a row reach, and what of it is above policies at as many layers."""
    if not cascades:
        return []
    ways = ("area", *(f"{speed:g}" for speed in LAYER_SPEEDUPS))
    head = ("whole models in a row", "minutes", "area", *(f"{speed:g}×" for speed in LAYER_SPEEDUPS))
    rows = []
    for each in cascades:
        scores = [f"{each.scores[way]:.3f}" if way in each.scores else "–" for way in ways]
        rows.append([", then ".join(f"`{name}`" for name in each.members), f"{each.minutes:.1f}", *scores])
        for name, own in each.policies.items():
            rows.append([f"above `{name}`", "", *(gain(*own[way][1:]) if way in own else "–" for way in ways)])
    told = (
        "The first that is sure by `max_prob` answers; a text costs the layers of all that were asked. Policies are "
        f"those of `{cascades[0].scheme}`; *area* is between the first model's layers and full depth, for both. "
        "A dash: fewer layers than the first model has."
    )
    return [*table(head, rows), told, "", *_run_for_real(cascades)]


def _run_for_real(cascades: Sequence[Line]) -> list[str]:
    rows = [
        [
            ", then ".join(f"`{name}`" for name in each.members),
            f"{one['threshold']:.4g}",
            f"{one['layers']:.2f}",
            f"{one['speedup']:.2f}×",
            f"{one['score']:.3f}",
        ]
        for each in cascades
        for one in each.timed
    ]
    head = ("run for real", "`max_prob`", "layers", "by the clock", "score, all texts")
    return table(head, rows) if rows else []
