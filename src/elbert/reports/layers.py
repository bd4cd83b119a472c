"""One text, layer by layer: the chart, and what the template and the page's script show of every layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from elbert.reports import svg
from elbert.reports.filters import shortened, where_left
from elbert.reports.series import Series, stage_probs
from elbert.results import Trace
from elbert.tasks import task_of

_LEFT, _WIDTH = 30, 306


def chart(trace: Trace, series: Sequence[Series]) -> Markup:
    """Return the chart: what every exit says, how unsure it is, where the text leaves, and what was never run."""
    task, doubted = task_of(trace.problem_type), bool(trace.normalised_entropy.isfinite().all())
    scale = task.span([value for each in series for value in each.values])
    frame = svg.Frame(_LEFT, 44, _WIDTH, 150, (trace.stages[0] - 0.5, trace.layers + 0.5), scale)
    entropies = svg.Frame(_LEFT, 232, _WIDTH, 52, frame.x, (0, 1))
    height, lowest = (322, entropies) if doubted else (236, frame)
    bottom = lowest.top + lowest.height
    parts = [_background(trace, frame, bottom), _exit(trace, frame, bottom)]  # names of axes stand before the line
    parts.append(frame.axes("", task.measure) if doubted else frame.axes("layer", task.measure, trace.stages))
    for each in reversed(series):
        points = list(zip(trace.stages, each.values, strict=True))
        parts.append(svg.line(frame, points[-trace.layers :], each.kind))  # layer 0 is no step of the encoder's
        parts += [
            svg.dot(frame, layer, value, each.kind, f"layer {layer}: {each.name} {value:.3f}", 2.2)
            for layer, value in points
        ]
    parts.append(_letters(frame, series))
    if doubted:
        parts.append(_entropies(trace, entropies))
    label = (
        f"What the exits of {trace.layers} layers say. The text leaves {where_left(trace.exit_layer, trace.layers)}."
    )
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
    left = frame.px(trace.stages[0]) - step / 2
    parts.append(
        f'<rect id="cursor" class="cursor" x="{left:.1f}" y="{frame.top}" width="{step:.1f}" height="{high}"/>'
    )
    window = trace.policy.get("window")
    if isinstance(window, int) and window <= trace.layers:
        left = frame.px(1) - step / 2
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
    parts = [frame.axes("layer", "normalised entropy", trace.stages)]
    threshold = trace.policy.get("threshold")
    if trace.policy["name"] in ("elbert", "entropy", "pcee", "epee") and trace.policy.get("normalized", True):
        y = frame.py(float(threshold or 0))
        parts.append(f'<path class="limit" d="M{frame.left} {y:g}h{frame.width}"/>')
        parts.append(svg.text(svg.WIDTH, y + 3.5, f"{threshold:g}", "end"))
    values = list(zip(trace.stages, entropies(trace), strict=True))
    parts.append(svg.line(frame, values[-trace.layers :], "s5"))
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


def entropies(trace: Trace) -> list[float]:
    """Return the normalised entropy of each of `Trace.stages`."""
    first = [] if trace.layer_0 is None else [trace.layer_0.normalised_entropy]
    return [*first, *trace.normalised_entropy.tolist()]


def shares(trace: Trace, series: Sequence[Series]) -> list[tuple[Series, float, str]]:
    """Return the bars of the exit's layer: series, length from 0 to 1, value; the script moves them."""
    here = trace.stages.index(trace.exit_layer)
    lengths = widths(trace, series)[here]
    return [(each, width, _value(trace, each.values[here])) for each, width in zip(series, lengths, strict=True)]


def widths(trace: Trace, series: Sequence[Series]) -> list[list[float]]:
    """Return how long every bar is at each of `Trace.stages`, 0 to 1."""
    low, high = task_of(trace.problem_type).span([value for each in series for value in each.values])
    columns = [[round((value - low) / (high - low), 4) for value in each.values] for each in series]
    return [list(row) for row in zip(*columns, strict=True)]


def script_data(trace: Trace, series: Sequence[Series]) -> dict[str, Any]:
    """Return what the script needs to show any layer."""
    values = [[_value(trace, value) for value in row] for row in zip(*(each.values for each in series), strict=True)]
    window = trace.policy.get("window")
    return {
        "layers": trace.layers,
        "exit": trace.exit_layer,
        "first": trace.stages[0],
        "step": round(_WIDTH / len(trace.stages), 3),
        "window": window if isinstance(window, int) else 0,
        "widths": widths(trace, series),
        "values": values,
        "spoken": [_spoken(trace, layer) for layer in trace.stages],
        "notes": [trace.found(layer) for layer in trace.stages],
    }


def _spoken(trace: Trace, layer: int) -> str:
    place = f"layer {layer} of {trace.layers}" if layer else "layer 0, the words alone"
    if layer == trace.exit_layer:
        return f"{place}: the exit"
    if layer in trace.skipped:
        return f"{place}: skipped, what was said before it stands on"
    return place if layer < trace.exit_layer else f"{place}: not run, shown for comparison"


def rule(trace: Trace) -> str:
    """Return what let the text leave, as a sentence."""
    words = trace.found(trace.exit_layer).removeprefix("leaves: ").removeprefix("leaves as ")
    return f"{words[:1].upper()}{words[1:]}."


def _value(trace: Trace, value: float) -> str:
    return task_of(trace.problem_type).number(value)


_WINDOW = {None: "–", True: "holds", False: "not steady"}


def rows(trace: Trace, gold: str | None) -> list[dict[str, Any]]:
    """Return what the table says of every layer: answer, whether it is right, the numbers, what the rule made of it."""
    windowed = isinstance(trace.policy.get("window"), int)
    steady = trace.steady if trace.layer_0 is None else (None, *trace.steady)
    listed = []
    task = task_of(trace.problem_type)
    for layer, entropy, held in zip(trace.stages, entropies(trace), steady, strict=True):
        said = trace.said(layer)
        words = task.words(said.tolist(), trace.labels)
        listed.append(
            {
                "layer": layer,
                "kind": kind(trace, layer),
                "answer": words,
                "right": None if gold is None or not trace.labels else words == gold,
                "probability": finite(float(task.confidence(said))),
                "normalised_entropy": entropy,
                "window": _WINDOW[held] if windowed else None,
                "why": trace.found(layer),
            }
        )
    return listed


def finite(value: float) -> float | None:
    """Return a measure, or None where the task has none."""
    return value if math.isfinite(value) else None


def kind(trace: Trace, layer: int) -> str:
    """Return the CSS class of a layer: the exit, not run (beyond it, or skipped), or run before it."""
    if layer == trace.exit_layer:
        return "out"
    return "beyond" if layer > trace.exit_layer or layer in trace.skipped else "ran"


def classes(trace: Trace) -> dict[str, Any] | None:
    """Return the table of all classes' probabilities, most probable at the exit first; None for values."""
    if not trace.labels:
        return None
    order, probs = trace.exit_probs.argsort(descending=True).tolist(), stage_probs(trace)
    names = (f"#{layer}{' exit' if layer == trace.exit_layer else ''}" for layer in trace.stages)
    rows = [[shortened(trace.labels[index], 80), *map(_short, probs[:, index].tolist())] for index in order]
    return {"head": ["Class", *names], "rows": rows}


def _short(p: float) -> str:
    return "0" if p < 0.0005 else "1" if p >= 0.9995 else f"{p:.3f}"[1:]
