"""Writes a sweep into a folder: a table for spreadsheets, JSON for programs, pictures for papers."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elbert.evaluation.sweep import Sweep
from elbert.reports import sweep_plots
from elbert.scoring.points import TradeoffPoint

TABLE, NUMBERS = "sweep.csv", "sweep.json"
COLUMNS = (
    *("policy", "parameters", "score", "score_low", "score_high", "mean_exit_layer", "layer_speedup", "speedup"),
    *("changed", "on_front", "on_overall_front", "layer_0"),
)


def write_sweep(sweep: Sweep, folder: Path, about: Mapping[str, Any]) -> None:
    """Write everything into an existing, empty folder.

    Args:
        sweep: what was found.
        folder: where to.
        about: further keys of the JSON file, put first: model, data, versions.
    """
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows(_row(point) for point in sweep.points)
    content = {**about, **sweep.to_dict()}
    (folder / NUMBERS).write_text(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    drawings = [sweep_plots.score_by_layers, sweep_plots.gains, sweep_plots.chosen_exits]
    if sweep.timing is not None:
        drawings.append(sweep_plots.score_by_speedup)
    for draw in drawings:
        (folder / f"{draw.__name__}.png").write_bytes(draw(sweep, picture="png"))
        (folder / f"{draw.__name__}.pdf").write_bytes(draw(sweep, picture="pdf"))


def _row(point: TradeoffPoint) -> list[Any]:
    parameters = {key: value for key, value in point.policy.items() if key != "name"}
    return [
        point.policy["name"],
        json.dumps(parameters),
        point.score,
        *point.score_band,
        point.mean_exit_layer,
        point.layer_speedup,
        point.speedup,
        point.changed,
        *(json.dumps(flag) for flag in (point.on_front, point.on_overall_front)),
        point.layer_0,
    ]
