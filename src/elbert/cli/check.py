"""`elbert check`: do today's texts still look like those of the calibration? The tests are in `elbert.calibration`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from elbert.cli import options
from elbert.cli.console import answer, facts, progress_bar
from elbert.errors import ElbertError

if TYPE_CHECKING:
    from elbert.calibration import Drift

# Below this p-value the table speaks of other texts: a false alarm in a hundred checks.
_ALARM = 0.01


def check(
    model: options.Model,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Texts of today, without labels: file, folder, hub:NAME.")
    ],
    split: options.SplitOfTest = None,
    policy: Annotated[
        str | None, typer.Option(help="A calibrated policy of the model.  [default: the model's, else its only one]")
    ] = None,
    fail_below: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="P", help="End with status 1 if the p-value is below P.")
    ] = None,
    batch_size: options.BatchSize = 32,
    loading: options.LoadFlags = options.LOADING,
    columns: options.TextFlags = options.TEXTS,
    progress: options.Progress = False,
    json: options.JsonLine = False,
) -> None:
    """Tell from texts without labels whether they leave where, and as surely as, the calibration's texts did.

    A guarantee holds for texts like those it was made on. Exit layers are compared by a permutation test, confidences
    by Kolmogorov and Smirnov's; the p-value is of both together. A difference is an answer, not a failure, so the exit
    status is 0 either way, unless --fail-below asks for 1.

    Example:
        elbert check runs/mine today.csv --policy drop-1
        elbert check runs/mine today.csv --fail-below 0.001 || mail -s "calibrate again" me
    """
    loaded = options.load_classifier(model, loading=loading, full_depth=True)
    texts = columns.load_texts(data, split, usual="test").texts
    with progress_bar(len(texts), "texts", forced=progress) as bar:
        drift = loaded.check(texts, policy, batch_size=batch_size, on_texts=bar.update)
    _show(drift, as_json=json)
    if fail_below is not None and drift.p_value < fail_below:
        raise ElbertError(
            f"p-value {drift.p_value:.3g} is below {fail_below:g}: these texts differ from the calibration's"
        )


def _show(drift: Drift, *, as_json: bool) -> None:
    """Print the table for people, and for programs the JSON line alone on stdout."""
    verdict = "these are other texts: calibrate again" if drift.p_value < _ALARM else "no difference shown"
    rows = [
        ("policy", drift.policy),
        ("texts", f"{drift.n:,}, calibrated on {drift.calibration_n:,}"),
        ("mean exit layer", f"{drift.mean_exit_layer:.2f}, then {drift.calibration_mean_exit_layer:.2f}"),
        ("exit layers", f"{drift.exits_distance:.1%} leave elsewhere, p-value {drift.exits_p_value:.3g}"),
        ("confidence", f"greatest distance {drift.confidence_distance:.3f}, p-value {drift.confidence_p_value:.3g}"),
        ("both", f"p-value {drift.p_value:.3g}: {verdict}"),
    ]
    answer(facts(rows), document=drift.to_dict(), as_json=as_json)
