"""The charts of a run: score by depth, where texts left, and exit layer against length, confidence and class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from elbert.reports import html, svg
from elbert.reports.run import Run

# The score axis covers at least this much, so that a difference of one text in a hundred doesn't look like a cliff.
_LEAST_RANGE = 0.1
_BINS = 8
_CLASSES = 12


def score_by_depth(
    scores: Sequence[float], metric: str, here: tuple[float, float], others: Sequence[tuple[float, float]]
) -> str:
    """Return score against layers: one depth for all texts as a line, the policy as a diamond, other settings as dots.

    Args:
        scores: [M] of each layer's exit.
        metric: what the score is.
        here: (mean exit layer, score) of the policy in use.
        others: the same pair for other settings.
    """
    values = [*scores, here[1], *(score for _, score in others)]
    low, high = min(values), max(values)
    spare = max(_LEAST_RANGE - (high - low), (high - low) * 0.1) / 2
    frame = svg.Frame(40, 24, 306, 170, (0.6, len(scores) + 0.4), (low - spare, high + spare))
    tip = "{:.4f} at {:.2f} layers".format
    dots = "".join(svg.dot(frame, depth, score, "faint", tip(score, depth), 2.6) for depth, score in others)
    line = list(enumerate(scores, start=1))
    marks = "".join(svg.dot(frame, layer, score, "s0", f"layer {layer}: {score:.4f}") for layer, score in line)
    picture = svg.chart(
        226,
        f"{metric} by depth. Exits reach {here[1]:.3f} after {here[0]:.1f} layers; full depth {scores[-1]:.3f}.",
        frame.axes("layers run (mean)", metric, len(scores)),
        dots,
        svg.line(frame, line, "s0"),
        marks,
        svg.diamond(frame, *here, "", f"this setting: {tip(here[1], here[0])}"),
    )
    keys = (
        _key(
            '<path class="line s0" d="M1 5.5H26"/><circle class="dot s0" cx="13" cy="5.5" r="3"/>', "one depth for all"
        )
        + _key('<path class="diamond" d="M13 0l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>', "these exits")
        + (_key('<circle class="dot faint" cx="13" cy="5.5" r="3"/>', "other settings") if others else "")
    )
    return html.figure(picture, "", f'<span class="legend">{keys}</span>')


def exit_layers(histogram: Sequence[int]) -> str:
    """Return the share of texts that left after each layer."""
    total, layers = max(sum(histogram), 1), len(histogram)
    shares = [100 * count / total for count in histogram]
    frame = svg.Frame(40, 24, 306, 170, (0.4, layers + 0.6), (0, max(*shares, 5) * 1.05))
    bars = "".join(
        svg.bar(frame, layer, share, 0.78, "", f"layer {layer}: {count:,} texts, {share:.1f} %")
        for layer, (share, count) in enumerate(zip(shares, histogram, strict=True), start=1)
    )
    most = max(range(layers), key=histogram.__getitem__)
    label = f"Texts by exit layer; most, {shares[most]:.0f} %, leave after layer {most + 1}."
    picture = svg.chart(226, label, frame.axes("exit layer", "texts, %", layers), bars)
    return html.figure(picture, f"Where the {total:,} texts left. At layer {layers} everybody does.")


def by_length(run: Run) -> str:
    """Return mean exit layer of shorter and longer texts, in bins of about equally many, with the middle 80 %."""
    lengths = run.outputs.lengths.double()
    edges = torch.quantile(lengths[: 10**6], torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)).unique()
    if len(edges) < 3:
        return ""
    place = torch.bucketize(lengths, edges[1:-1], right=True)
    bins = [run.exit_layer[place == number].double() for number in range(len(edges) - 1)]
    names = [_range(lengths[place == number]) for number in range(len(edges) - 1)]
    frame = svg.Frame(30, 24, 320, 150, (0.5, len(bins) + 0.5), (1, max(run.layers, 2)))
    parts = []
    for number, (layers, name) in enumerate(zip(bins, names, strict=True), start=1):
        if not len(layers):
            continue
        low, high = (float(torch.quantile(layers[: 10**6], share)) for share in (0.1, 0.9))
        mean = float(layers.mean())
        parts.append(svg.span(frame, number, low, high, ""))
        parts.append(svg.dot(frame, number, mean, "s0", f"{name} tokens: {mean:.2f} layers, {len(layers):,} texts", 4))
        parts.append(svg.text(frame.px(number), frame.top + frame.height + 14, name, "middle"))
    label = "Mean exit layer by length in tokens; strokes span the middle 80 % of the texts."
    picture = svg.chart(206, label, frame.axes("tokens", "exit layer", 0, 0), *parts)
    return html.figure(picture, "Exit layer by length: mean, and the middle 80 % of the texts.")


def _range(values: Tensor) -> str:
    if not len(values):
        return ""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}–{high}"


def by_confidence(run: Run) -> str:
    """Return, for each exit layer, the mean confidence of its texts and the share of them that is right."""
    if run.confidence is None:
        return ""
    frame = svg.Frame(36, 24, 310, 150, (0.4, run.layers + 0.6), (0, 1))
    parts = []
    for layer in range(1, run.layers + 1):
        here = run.exit_layer == layer
        count = int(here.sum())
        if not count:
            continue
        sure = float(run.confidence[here].double().mean())
        tip = f"layer {layer}, {count:,} texts: confidence {sure:.3f}"
        if run.verdicts is not None:
            right = float(run.verdicts.at_exit[here].double().mean())
            parts.append(svg.span(frame, layer, sure, right, ""))
            parts.append(svg.dot(frame, layer, right, "s0", f"{tip}, right {right:.3f}", 4))
        parts.append(svg.diamond(frame, layer, sure, "hollow", tip))
    label = "Mean confidence, and the share that is right, by exit layer."
    picture = svg.chart(206, label, frame.axes("exit layer", "share", run.layers), *parts)
    keys = _key('<path class="diamond hollow" d="M13 0l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>', "mean confidence")
    if run.verdicts is not None:
        keys += _key('<circle class="dot s0" cx="13" cy="5.5" r="4"/>', "share that is right")
    return html.figure(picture, "", f'<span class="legend">{keys}</span>')


def by_class(run: Run) -> str:
    """Return a table of classes: how deep their texts run, and how often they are right; the middle ones folded."""
    if run.problem_type != "single_label_classification":
        return ""
    classes = torch.tensor(run.gold) if run.gold is not None else run.exit_probs.argmax(-1)
    found = []
    for index, name in enumerate(run.names):
        here = classes == index
        if bool(here.any()):
            found.append((float(run.exit_layer[here].double().mean()), index, name, here))
    found.sort(key=lambda each: (each[0], each[1]))
    head = ["Class" if run.gold is not None else "Class answered", "#Texts", "Mean exit layer"]
    head += ["#Right at exit", "#Right at full depth"] if run.verdicts is not None else []
    rows = [_class_row(run, *each) for each in found]
    label = "Classes by mean exit layer"
    if len(rows) <= _CLASSES:
        return html.grid(head, rows, label=label)
    ends = rows[: _CLASSES // 2], rows[-_CLASSES // 2 :]
    return (
        f"<h3>Earliest classes</h3>{html.grid(head, ends[0], label='Earliest classes')}"
        f"<h3>Latest classes</h3>{html.grid(head, ends[1], label='Latest classes')}"
        + html.details(f"All {len(rows)} classes", html.grid(head, rows, label=label))
    )


def _class_row(run: Run, mean: float, index: int, name: str, here: Tensor) -> list[str]:
    del index
    bar = f'<span class="meter"><i style="--p:{mean / run.layers:.3f}"></i></span>{mean:.2f}'
    row = [html.isolated(html.shortened(name, 60)), f"{int(here.sum()):,}", bar]
    if run.verdicts is not None:
        row += [share(right[here]) for right in (run.verdicts.at_exit, run.verdicts.at_last)]
    return row


def share(holds: Tensor) -> str:
    """Return the share of a mask that is True, in per cent, ready HTML."""
    return html.words(html.percent(float(holds.double().mean())))


def _key(shape: str, name: str) -> str:
    return f'<span class="key"><svg viewBox="0 0 27 11" aria-hidden="true">{shape}</svg>{html.words(name)}</span>'
