"""A race for people: a table in plain text, and the same as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from elbert.evaluation.bench.rows import Row
from elbert.evaluation.bench.systems import OURS
from elbert.reports.plots import COLOURS, new_figure, rendered, styled
from elbert.reports.tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

_HEADS = ("system", "backend", "dtype", "batch", "texts/s", "± %", "× ref", "p50 ms", "p99 ms", "score", "same",
          "layers", "speedup", "effic.", "load s", "first s", "MB")  # fmt: skip
_WORDS = 3  # columns that hold words and stand to the left


def table_of(rows: Sequence[Row]) -> Table:
    """Return the rows that ran.

    `× ref` is to transformers float32, `same` the share of its labels, `layers` M over the mean exit layer, `speedup`
    the same weights with exits over full depth, `effic.` the second over the first.
    """
    return table([_cells(row) for row in rows if row.reason is None], _HEADS, words=_WORDS)


def notes_of(rows: Sequence[Row]) -> list[str]:
    """Return what has to be said of some rows, then the batch sizes at which systems did not run, with the reason."""
    missing: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason is not None:
            missing.setdefault((f"{row.system} {row.backend} {row.dtype}", row.reason), []).append(str(row.batch))
    narrow = sorted({f"{row.system} {row.dtype}" for row in rows if row.reason is None and "7 bits" in row.settings})
    note = (
        [f"{', '.join(narrow)}: weights of 7 bits: without VNNI, as on this CPU, 8-bit sums saturate"] if narrow else []
    )
    return [*note, *(f"{who}, batch {', '.join(at)}: {why}" for (who, why), at in missing.items())]


def _cells(row: Row) -> tuple[str, ...]:
    rate, spread = row.texts_per_second or 0.0, 50 * (row.spread or 0.0)
    numbers = (
        (row.times_reference, ".2f"), (row.p50_ms, ".2f"), (row.p99_ms, ".2f"), (row.score, ".4f"),
        (row.same_labels, ".3f"), (row.layer_speedup, ".2f"), (row.speedup, ".2f"), (row.engine_efficiency, ".2f"),
        (row.load_s, ".1f"), (row.first_run_s, ".1f"), (row.peak_memory_mb, ",.0f"),
    )  # fmt: skip
    words = (row.system, row.backend, row.dtype, str(row.batch), f"{rate:,.1f}", f"{spread:.0f}")
    return (*words, *("" if value is None else format(value, form) for value, form in numbers))


def picture_of(rows: Sequence[Row], title: str) -> bytes:
    """Draw as PNG texts per second, a panel per batch size and a bar per system; ours are coloured apart.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    batches = list(dict.fromkeys(row.batch for row in rows))
    tallest = max(sum(row.batch == batch for row in rows) for batch in batches)
    with styled("bench", **{"font.size": 8}):
        figure = new_figure((5.2, (0.5 + 0.2 * tallest) * len(batches) + 0.4))
        for axes, batch in zip(figure.subplots(len(batches), squeeze=False)[:, 0], batches, strict=True):
            _panel(axes, batch, [row for row in rows if row.batch == batch and row.texts_per_second])
        _name(figure, title)
        return rendered(figure, "png")


def _panel(axes: Any, batch: int, rows: Sequence[Row]) -> None:
    listed = sorted(rows, key=lambda row: row.texts_per_second or 0.0)
    rates = [row.texts_per_second or 0.0 for row in listed]
    colours = [COLOURS["exits" if row.system in OURS else "depth"] for row in listed]
    axes.barh(range(len(rates)), rates, color=colours, height=0.7)
    for place, rate in enumerate(rates):
        axes.annotate(f"{rate:,.0f}", (rate, place), (2, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_yticks(range(len(rates)), [_named(row) for row in listed])
    axes.margins(x=0.12)
    axes.tick_params(axis="y", length=0)
    axes.set_title("one text at a time" if batch == 1 else f"{batch} texts in flight", loc="left")


def _named(row: Row) -> str:
    backend = f", {row.backend}" if row.system in OURS and row.backend != "torch" else ""
    return f"{row.system}{backend}, {row.dtype}"


def _name(figure: Figure, title: str) -> None:
    figure.suptitle(title, fontsize=9)
    figure.supxlabel("texts per second", fontsize=8)
