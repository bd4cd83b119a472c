"""The page of one text: what every layer said of it, why it left where it did, and what [CLS] attended to."""

from __future__ import annotations

from collections.abc import Sequence

from elbert.exits import ExitPolicy
from elbert.reports import attention, html, layers
from elbert.reports.page import page
from elbert.reports.series import series_of
from elbert.reports.summary import policy_words
from elbert.results import Trace
from elbert.tracing.answers import answer, gold_words, score
from elbert.tracing.patterns import pattern_of

_HOW_SHADED = (
    "Shaded by what [CLS] attends to, up to the chosen layer: averaged over heads, summed over depth, as a share of "
    "all tokens; the most attended word is darkest. It shows where the model looked, not why it decided."
)


def text_page(trace: Trace, gold: object = None, facts: Sequence[tuple[str, str]] = ()) -> str:
    """Return the page as HTML.

    Args:
        trace: of one text.
        gold: the right answer, encoded as in a `TextDataset`; None where nobody knows.
        facts: further rows of the table "how it was read".
    """
    series = series_of(trace)
    right = None if gold is None else gold_words(gold, trace.labels, trace.problem_type)
    pattern = pattern_of(trace, gold)
    marks = {each.name: f'<span class="mark c{each.kind[1]}">{each.letter}</span>' for each in series if each.letter}
    sections = [
        html.callout(pattern.title, pattern.words),
        _truncation(trace),
        html.section(
            "Layer by layer",
            _walk(trace),
            attention.reading(trace),
            html.paragraph(_HOW_SHADED, "soft"),
            '<div class="pair">',
            html.figure(layers.chart(trace, series), "", layers.legend(series)),
            f"<div>{layers.shares(trace, series)}<h3>Most attended words</h3>{attention.top_words(trace)}</div></div>",
            html.details("How attention builds up, word by word (per cent)", attention.build_up(trace, marks)),
            layers.classes(trace),
            lead="All layers are shown, also those this text did not run. The vertical line is its exit.",
        ),
        html.section("Every layer", layers.table(trace, series, right)),
        html.section("How it was read", html.facts([*_facts(trace, right), *facts]), _source(trace)),
    ]
    data = {**layers.script_data(trace, series), **attention.script_data(trace)}
    return page(_title(trace), _lead(trace), sections, data)


def _title(trace: Trace) -> str:
    text = trace.text if isinstance(trace.text, str) else " / ".join(trace.text)
    return f"“{html.shortened(' '.join(text.split()), 80)}”"


def _lead(trace: Trace) -> str:
    row = trace.probs[trace.exit_layer - 1].tolist()
    said = html.isolated(answer(row, trace.labels, trace.problem_type))
    sure = score(row, trace.problem_type)
    chance = "" if sure is None else f" (probability {html.words(html.probability(sure))})"
    depth = f"after layer <b>{trace.exit_layer} of {trace.layers}</b>"
    return f"<b>{said}</b>{chance}, {depth}. {html.isolated(layers.rule(trace))}"


def _truncation(trace: Trace) -> str:
    if not trace.truncated:
        return ""
    return html.callout(
        "The end was not read",
        f"The text is longer than the {len(trace.tokens)} tokens this model reads. What stands in grey was cut off.",
        "warning",
    )


def _walk(trace: Trace) -> str:
    """Return the slider; hidden where no script runs, and then the exit is what is shown."""
    return (
        '<div class="walk" id="walk" hidden><label for="layer">Shown:</label> <output id="where" for="layer"></output>'
        f'<input type="range" id="layer" min="1" max="{trace.layers}" step="1" value="{trace.exit_layer}">'
        '<p class="soft" id="why" aria-live="polite"></p></div>'
    )


def _facts(trace: Trace, right: str | None) -> list[tuple[str, str]]:
    rows = [] if right is None else [("label", right)]
    return [*rows, ("tokens read", str(len(trace.tokens))), ("policy", policy_words(trace.policy))]


def _source(trace: Trace) -> str:
    return f'<p class="soft">Exit rule: {html.linked(ExitPolicy.from_dict(trace.policy).citation)}</p>'
