"""The part of the page of `compare.py` that holds rivals against policies: from what stands beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compare_rivals import Standing
from compare_tables import gain, table


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
