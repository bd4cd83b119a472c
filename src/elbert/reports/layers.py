"""One text, layer by layer: the chart, and what the template and the page's script show of every layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from elbert.reports import svg
from elbert.reports.filters import shortened
from elbert.reports.series import Series
from elbert.results import Trace
from elbert.tasks import task_of
from elbert.tracing.patterns import answers_by_layer

_LEFT, _WIDTH = 30, 306


def chart(trace: Trace, series: Sequence[Series]) -> Markup:
    """Return the chart: what every exit says, how unsure it is, where the text leaves, and what was never run."""
    task, doubted = task_of(trace.problem_type), bool(trace.normalised_entropy.isfinite().all())
    scale = task.span([value for each in series for value in each.values])
    frame = svg.Frame(_LEFT, 44, _WIDTH, 150, (0.5, trace.layers + 0.5), scale)
    entropies = svg.Frame(_LEFT, 232, _WIDTH, 52, frame.x, (0, 1))
    height, lowest = (322, entropies) if doubted else (236, frame)
    bottom = lowest.top + lowest.height
    parts = [_background(trace, frame, bottom), _exit(trace, frame, bottom)]  # names of axes stand before the line
    parts.append(frame.axes("", task.measure) if doubted else frame.axes("layer", task.measure, trace.layers))
    for each in reversed(series):
        parts.append(svg.line(frame, enumerate(each.values, start=1), each.kind))
        parts += [
            svg.dot(frame, layer, value, each.kind, f"layer {layer}: {each.name} {value:.3f}", 2.2)
            for layer, value in enumerate(each.values, start=1)
        ]
    parts.append(_letters(frame, series))
    if doubted:
        parts.append(_entropies(trace, entropies))
    label = f"What the exits of {trace.layers} layers say. The text leaves after layer {trace.exit_layer}."
    return svg.chart(height, label, *parts)


def _background(trace: Trace, frame: svg.Frame, bottom: float) -> str:
    """Return the hatched part that was never run, the mark of the chosen layer, and the window's bracket."""
    step = frame.px(2) - frame.px(1)
    start = frame.px(trace.exit_layer) + step / 2
    edge = frame.px(trace.layers) + step / 2
    high = bottom - frame.top
    parts = [
        '<defs><pattern id="hatched" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<path class="hatch" d="M0 0V7"/></pattern></defs>'
    ]
    if trace.exit_layer < trace.layers:
        box = f'x="{start:.1f}" y="{frame.top}" width="{edge - start:.1f}" height="{high}"'
        parts.append(f'<rect class="unrun" {box}/><rect fill="url(#hatched)" {box}/>')
        if edge - start > 64:
            lowest = min(frame.top + high - 6, frame.top + frame.height + 16)
            parts.append(svg.text((start + edge) / 2, lowest, "not run", "middle"))
    left = frame.px(1) - step / 2
    parts.append(
        f'<rect id="cursor" class="cursor" x="{left:.1f}" y="{frame.top}" width="{step:.1f}" height="{high}"/>'
    )
    window = trace.policy.get("window")
    if isinstance(window, int) and window <= trace.layers:
        parts.append(
            f'<path id="window" class="window" visibility="hidden" '
            f'd="M{left + 1:.1f} {frame.top + 6}v-5h{step * window - 2:.1f}v5"><title>the window</title></path>'
        )
    return "".join(parts)


def _letters(frame: svg.Frame, series: Sequence[Series]) -> str:
    """Name every line by its letter at its right end, moved apart where lines meet."""
    named = [each for each in series if each.letter]
    if len(named) < 2:
        return ""
    places = [frame.py(each.values[-1]) + 4 for each in named]
    moved = svg.spread(places, 11, frame.top + 4, frame.top + frame.height + 4)
    x = frame.left + frame.width + 12
    return "".join(
        svg.text(x, place, each.letter, "middle", "letter") for each, place in zip(named, moved, strict=True)
    )


def _entropies(trace: Trace, frame: svg.Frame) -> str:
    parts = [frame.axes("layer", "normalised entropy", trace.layers)]
    threshold = trace.policy.get("threshold")
    if trace.policy["name"] in ("elbert", "entropy", "pcee", "epee") and trace.policy.get("normalized", True):
        y = frame.py(float(threshold or 0))
        parts.append(f'<path class="limit" d="M{frame.left} {y:g}h{frame.width}"/>')
        parts.append(svg.text(svg.WIDTH, y + 3.5, f"{threshold:g}", "end"))
    values = list(enumerate(trace.normalised_entropy.tolist(), start=1))
    parts.append(svg.line(frame, values, "s5"))
    parts += [svg.dot(frame, layer, value, "s5", f"layer {layer}: {value:.4f}", 2) for layer, value in values]
    return "".join(parts)


def _exit(trace: Trace, frame: svg.Frame, bottom: float) -> str:
    """Return the exit's flag: a line through both pictures with its name on top."""
    x = frame.px(trace.exit_layer)
    middle = min(max(x, 32), svg.WIDTH - 32)
    return (
        f'<path class="exit" d="M{x:g} 12V{bottom}"/>'
        f'<rect class="flag-box" x="{middle - 25:g}" y="2" width="50" height="18" rx="3"/>'
        f"{svg.text(middle, 15, f'exit {trace.exit_layer}', 'middle', 'flag')}"
    )


def shares(trace: Trace, series: Sequence[Series]) -> list[tuple[Series, float, str]]:
    """Return the bars of the exit's layer: series, length from 0 to 1, value; the script moves them."""
    here = trace.exit_layer - 1
    lengths = widths(trace, series)[here]
    return [(each, width, _value(trace, each.values[here])) for each, width in zip(series, lengths, strict=True)]


def widths(trace: Trace, series: Sequence[Series]) -> list[list[float]]:
    """Return how long every bar is at every layer, 0 to 1."""
    low, high = task_of(trace.problem_type).span([value for each in series for value in each.values])
    columns = [[round((value - low) / (high - low), 4) for value in each.values] for each in series]
    return [list(row) for row in zip(*columns, strict=True)]


def script_data(trace: Trace, series: Sequence[Series]) -> dict[str, Any]:
    """Return what the script needs to show any layer."""
    values = [[_value(trace, each.values[layer]) for each in series] for layer in range(trace.layers)]
    window = trace.policy.get("window")
    return {
        "layers": trace.layers,
        "exit": trace.exit_layer,
        "step": round(_WIDTH / trace.layers, 3),
        "window": window if isinstance(window, int) else 0,
        "widths": widths(trace, series),
        "values": values,
        "spoken": [_spoken(trace, layer) for layer in range(1, trace.layers + 1)],
        "notes": [why(trace, layer) for layer in range(1, trace.layers + 1)],
    }


def _spoken(trace: Trace, layer: int) -> str:
    place = f"layer {layer} of {trace.layers}"
    if layer == trace.exit_layer:
        return f"{place}: the exit"
    return place if layer < trace.exit_layer else f"{place}: not run, shown for comparison"


def why(trace: Trace, layer: int) -> str:
    """Return what the policy made of a layer, with its verdict in front."""
    left, last = trace.fired[layer - 1], layer == trace.layers
    leaves, goes_on = ("leaves", "goes on") if layer <= trace.exit_layer else ("would leave", "would go on")
    verdict = leaves if left else f"{leaves} as no layer is left" if last else goes_on
    return f"{verdict}: {trace.findings[layer - 1]}"


def rule(trace: Trace) -> str:
    """Return what let the text leave, as a sentence."""
    reason = trace.findings[trace.exit_layer - 1]
    words = reason if trace.fired[trace.exit_layer - 1] else f"no layer was left: {reason}"
    return f"{words[:1].upper()}{words[1:]}."


def _value(trace: Trace, value: float) -> str:
    return task_of(trace.problem_type).number(value)


_WINDOW = {None: "–", True: "holds", False: "not steady"}


def rows(trace: Trace, gold: str | None) -> list[dict[str, Any]]:
    """Return what the table says of every layer: answer, whether it is right, the numbers, what the rule made of it."""
    said = answers_by_layer(trace)
    windowed = isinstance(trace.policy.get("window"), int)
    listed = []
    sure = task_of(trace.problem_type).confidence(trace.probs)
    for layer, words in enumerate(said, start=1):
        listed.append(
            {
                "layer": layer,
                "kind": kind(trace, layer),
                "answer": words,
                "right": None if gold is None or not trace.labels else words == gold,
                "probability": finite(float(sure[layer - 1])),
                "normalised_entropy": float(trace.normalised_entropy[layer - 1]),
                "window": _WINDOW[trace.steady[layer - 1]] if windowed else None,
                "why": why(trace, layer),
            }
        )
    return listed


def finite(value: float) -> float | None:
    """Return a measure, or None where the task has none."""
    return value if math.isfinite(value) else None


def kind(trace: Trace, layer: int) -> str:
    """Return the CSS class of a layer: the exit, beyond it, or run before it."""
    return "out" if layer == trace.exit_layer else "beyond" if layer > trace.exit_layer else "ran"


def classes(trace: Trace) -> dict[str, Any] | None:
    """Return the table of all classes' probabilities, most probable at the exit first; None for values."""
    if not trace.labels:
        return None
    order = trace.probs[trace.exit_layer - 1].argsort(descending=True).tolist()
    names = (f"#{layer}{' exit' if layer == trace.exit_layer else ''}" for layer in range(1, trace.layers + 1))
    rows = [[shortened(trace.labels[index], 80), *map(_short, trace.probs[:, index].tolist())] for index in order]
    return {"head": ["Class", *names], "rows": rows}


def _short(p: float) -> str:
    return "0" if p < 0.0005 else "1" if p >= 0.9995 else f"{p:.3f}"[1:]
