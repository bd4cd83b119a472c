"""Turns an evaluation into one HTML page that needs nothing beside itself: no network, no script, no font.

Every word that came from data is escaped. What the pictures show is `plots`' business, the numbers are `evaluate`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from elbert.evaluation.evaluate import Evaluation
from elbert.evaluation.plots import COLOURS
from elbert.exits import ExitPolicy

# Characters of an example text that are shown.
_LONGEST_EXAMPLE = 280

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure of the page.

    Attributes:
        svg: from `plots`.
        caption: what it shows, for everyone.
        name: a word of its own, to keep the names inside two pictures apart.
    """

    svg: bytes
    caption: str
    name: str


@dataclass(frozen=True, slots=True)
class Example:
    """One classified text.

    Attributes:
        text: as it came in; cut for display.
        answer: the label given, with its score.
        exit_layer: layers run.
        layers: M.
        right: whether the answer is right; None where nobody knows.
    """

    text: str
    answer: str
    exit_layer: int
    layers: int
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that stands on the page.

    Attributes:
        title: heading.
        lead: what was done, in a sentence or two.
        evaluation: the numbers.
        pictures: in reading order.
        examples: texts with the layers they ran; none leaves the section out.
        facts: rows of the table "how it was done".
        notes: things the reader has to know, one paragraph each.
    """

    title: str
    lead: str
    evaluation: Evaluation
    pictures: Sequence[Picture]
    examples: Sequence[Example] = ()
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


def render(report: Report) -> str:
    """Return the page as HTML."""
    result = report.evaluation
    template = Template(files("elbert.evaluation").joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(report.title),
        lead=escape(report.lead),
        tiles="\n".join(_tile(value, label) for value, label in _headlines(result)),
        notes="\n".join(f"<p>{escape(note)}</p>" for note in report.notes),
        pictures="\n".join(map(_figure, report.pictures)),
        examples=_examples(report.examples),
        numbers=_table(summary(result)),
        facts=_table(report.facts),
        citation=_linked(ExitPolicy.from_dict(result.policy).citation),
    )


def summary(result: Evaluation) -> list[tuple[str, str]]:
    """Return the rows of the table for people, on the page as on the terminal."""
    return [
        ("texts", f"{result.n:,}"),
        (f"{result.metric}, with exits", f"{result.score:.4f}"),
        (f"{result.metric}, full depth", f"{result.full_depth_score:.4f}"),
        ("mean exit layer", f"{result.mean_exit_layer:.2f} of {result.layers}"),
        ("layer speedup", f"{result.layer_speedup:.2f}×"),
        ("speedup, wall-clock", f"{result.speedup:.2f}×"),
        ("engine efficiency", f"{result.engine_efficiency:.2f}"),
        ("seconds, with exits", _seconds(result.seconds, result.n)),
        ("seconds, full depth", _seconds(result.full_depth_seconds, result.n)),
        ("texts by exit layer", " ".join(map(str, result.exit_histogram))),
        ("policy", _policy_words(result.policy)),
        ("computed by", f"{result.backend}, {result.dtype}, {result.device}, {result.threads} threads"),
        ("batch size, rounds", f"{result.batch_size}, median of {result.repeats}"),
    ]


def _headlines(result: Evaluation) -> list[tuple[str, str]]:
    return [
        (f"{result.score:.3f}", f"{result.metric} with exits"),
        (f"{result.full_depth_score:.3f}", f"{result.metric} at full depth"),
        (f"{result.mean_exit_layer:.1f} of {result.layers}", "layers a text runs, on average"),
        (f"{result.speedup:.2f}×", f"faster on the clock ({result.layer_speedup:.2f}× fewer layers)"),
    ]


def _seconds(seconds: float, texts: int) -> str:
    return f"{seconds:.3f} ({texts / seconds:,.0f} texts/s)"


def _policy_words(policy: dict[str, object]) -> str:
    parameters = ", ".join(f"{key} {value}" for key, value in policy.items() if key != "name" and value is not None)
    return f"{policy['name']}: {parameters}" if parameters else str(policy["name"])


def _tile(value: str, label: str) -> str:
    return f'<div class="tile"><b>{escape(value)}</b><span class="soft">{escape(label)}</span></div>'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)


def _figure(picture: Picture) -> str:
    caption = escape(picture.caption)
    return f"<figure>{_inline(picture)}<figcaption>{caption}</figcaption></figure>"


def _inline(picture: Picture) -> str:
    """Return the SVG as part of the page: its own names, our theme's colours, a label for those who can't see it."""
    svg = picture.svg.decode("utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| (width|height)="[\d.]+pt"', "", svg, count=4)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{picture.name}-", svg)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(picture.caption)}"', 1)


def _examples(examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    items = "\n".join(map(_example, examples))
    return f'<h2>A few texts, and how far they had to go</h2>\n<ul class="examples">\n{items}\n</ul>'


def _example(example: Example) -> str:
    text = example.text if len(example.text) <= _LONGEST_EXAMPLE else f"{example.text[:_LONGEST_EXAMPLE]}…"
    bar = "".join('<i class="run"></i>' if layer < example.exit_layer else "<i></i>" for layer in range(example.layers))
    depth = f"left after layer {example.exit_layer} of {example.layers}"
    state = ' class="wrong"' if example.right is False else ""
    return (
        f'<li{state}><span class="verdict">{escape(example.answer)}</span> <span class="soft">{depth}</span>'
        f'<div class="depth" aria-hidden="true">{bar}</div><div class="soft">{escape(text)}</div></li>'
    )


def _linked(citation: str) -> str:
    """Return a citation with its arXiv numbers turned into links."""
    return _ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', escape(citation))
