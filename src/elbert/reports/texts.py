"""Texts worth reading, each with what every layer says of it."""

from __future__ import annotations

from elbert.reports import html
from elbert.reports.choice import Group, worth_reading
from elbert.reports.run import Run
from elbert.tracing.answers import answer, answers_by_layer, gold_words

_EXCERPT = 160
_LONGEST = 1200


def section(run: Run) -> str:
    """Return the section with every group of texts."""
    groups = worth_reading(run)
    lead = (
        "Each box is a layer; its letter is the answer there, the filled box is the exit, dotted ones were not run. "
        "<code>elbert explain MODEL TEXT</code> shows any text layer by layer."
    )
    return html.section("Texts worth reading", *(_group(run, group) for group in groups), lead=lead)


def _group(run: Run, group: Group) -> str:
    body = "".join(_text(run, row) for row in group.rows)
    return f"<h3>{html.words(group.title)}</h3>{html.paragraph(group.about, 'soft')}{body}"


def _text(run: Run, row: int) -> str:
    """Return one text: answer, depth and strip at first, the rest on demand."""
    text = run.texts[row]
    whole = text if isinstance(text, str) else " ⁄ ".join(text)
    exit_layer = int(run.exit_layer[row])
    probs = run.outputs.probs[row]
    said = answers_by_layer(probs, run.names, run.problem_type)
    gold = None if run.gold is None else gold_words(run.gold[row], run.names, run.problem_type)
    summary = (
        f'<span class="said">{html.isolated(html.shortened(said[exit_layer - 1], 80))}</span> {_verdict(run, row)}'
        f'<span class="soft">after layer {exit_layer} of {run.layers}</span>'
        f'<span class="excerpt">{html.isolated(html.shortened(" ".join(whole.split()), _EXCERPT))}</span>'
        f"{_strip(run, said, exit_layer)}"
    )
    facts = [] if gold is None else [("label", gold)]
    facts += [
        (f"at the exit, layer {exit_layer}", _best(run, row, exit_layer)),
        (f"at the last layer, {run.layers}", _best(run, row, run.layers)),
        ("tokens", str(int(run.outputs.lengths[row]))),
    ]
    body = f'<div class="reading small" dir="auto">{html.words(html.shortened(whole, _LONGEST))}</div>'
    return html.details(summary, body + html.facts(facts), kind="text")


def _verdict(run: Run, row: int) -> str:
    if run.verdicts is None:
        return ""
    right = bool(run.verdicts.at_exit[row])
    return f'<span class="verdict {"good" if right else "bad"}">{"✓ right" if right else "✗ wrong"}</span> '


def _best(run: Run, row: int, layer: int, most: int = 3) -> str:
    """Return the most probable classes of one exit in words."""
    probs = run.outputs.probs[row, layer - 1]
    if run.problem_type == "regression":
        return answer(probs.tolist(), run.names, run.problem_type)
    best = probs.argsort(descending=True)[:most].tolist()
    return ", ".join(f"{run.names[index]} {html.probability(float(probs[index]))}" for index in best)


def _strip(run: Run, said: list[str], exit_layer: int) -> str:
    """Return one box per layer with a letter per answer, and what the letters stand for."""
    if run.problem_type == "regression":
        marks, order = {words: words for words in said}, []
    else:
        order = list(dict.fromkeys([said[exit_layer - 1], *said]))
        marks = {words: "ABCDEFGH"[place] if place < 8 else "·" for place, words in enumerate(order)}
    listed = (f"<b>{marks[words]}</b> {html.isolated(html.shortened(words, 40))}" for words in order[:8])
    legend = f'<span class="soft legend">{" &nbsp; ".join(listed)}</span>' if len(order) > 1 else ""
    boxes = "".join(
        f'<i class="{_kind(layer, exit_layer)}">{html.words(marks[words])}</i>'
        for layer, words in enumerate(said, start=1)
    )
    label = html.words(f"Answers by layer: {' '.join(marks[words] for words in said)}; exit {exit_layer}")
    return f'<span class="strip"><span class="strip" role="img" aria-label="{label}">{boxes}</span>{legend}</span>'


def _kind(layer: int, exit_layer: int) -> str:
    return "out" if layer == exit_layer else "beyond" if layer > exit_layer else "ran"
