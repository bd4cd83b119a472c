"""The page of one text: what every layer said of it, why it left where it did, and what [CLS] attended to."""

from __future__ import annotations

from collections.abc import Sequence

from elbert.exits import ExitPolicy
from elbert.exits.wording import policy_words
from elbert.reports import attention, layers
from elbert.reports.filters import shortened, where_left
from elbert.reports.page import page
from elbert.reports.series import series_of
from elbert.results import Trace
from elbert.tasks import task_of
from elbert.tracing.patterns import pattern_of


def text_page(trace: Trace, gold: object = None, facts: Sequence[tuple[str, str]] = ()) -> str:
    """Return the page as HTML.

    Args:
        trace: of one text.
        gold: the right answer, encoded as in a `TextDataset`; None where nobody knows.
        facts: further rows of the table "how it was read".
    """
    task, series = task_of(trace.problem_type), series_of(trace)
    right = None if gold is None else task.gold_words(gold, trace.labels)
    row = trace.exit_probs
    sure = task.confidence(row)
    known = [] if right is None else [("label", right)]
    return page(
        "text.html",
        {**layers.script_data(trace, series), **attention.script_data(trace)},
        title=_title(trace),
        trace=trace,
        pattern=pattern_of(trace, gold),
        said=task.words(row.tolist(), trace.labels),
        sure=layers.finite(float(sure)),
        where=where_left(trace.exit_layer, trace.layers),
        rule=layers.rule(trace),
        series=series,
        marks={each.name: each for each in series if each.letter},
        chart=layers.chart(trace, series),
        shares=layers.shares(trace, series),
        kinds=[layers.kind(trace, layer) for layer in range(1, trace.layers + 1)],
        rows=layers.rows(trace, right),
        classes=layers.classes(trace),
        reading=attention.reading(trace),
        who_read=attention.who_read(trace),
        top=attention.top_words(trace),
        build_up=attention.build_up(trace),
        facts=[*known, *_tokens(trace), ("policy", policy_words(trace.policy)), *facts],
        citation=ExitPolicy.from_dict(trace.policy).citation,
    )


def _tokens(trace: Trace) -> list[tuple[str, str]]:
    """Return how many tokens were read, by the encoder and by layer 0 where that had a part."""
    rows = [("tokens read", f"{len(trace.tokens):,}")]
    return rows if trace.layer_0 is None else [*rows, ("tokens read by layer 0", f"{trace.layer_0.tokens:,}")]


def _title(trace: Trace) -> str:
    text = trace.text if isinstance(trace.text, str) else " / ".join(trace.text)
    return f"“{shortened(' '.join(text.split()), 80)}”"
