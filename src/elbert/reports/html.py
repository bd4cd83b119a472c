"""Small pieces of HTML. Everything that comes from a user goes through `words`, which nothing can break out of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

# What HTML forbids or nobody can see: control characters other than tab and newline, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def words(text: object) -> str:
    """Return text escaped for HTML, in an element or a quoted attribute; what can't be shown becomes U+FFFD."""
    return escape(_UNPRINTABLE.sub("\ufffd", str(text).replace("\r\n", "\n")))


def isolated(text: object) -> str:
    """Return user text as an element of its own, so that right-to-left marks in it can't reorder the page."""
    return f"<bdi>{words(text)}</bdi>"


def shortened(text: str, length: int) -> str:
    """Return at most `length` characters of a text, with an ellipsis where it was longer."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def section(title: str, *parts: str, lead: str = "") -> str:
    """Return a section with a heading; no parts, no section."""
    if not any(parts):
        return ""
    opening = f'<p class="soft">{lead}</p>' if lead else ""
    return f"<section><h2>{words(title)}</h2>{opening}{''.join(parts)}</section>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f"<p{_class(kind)}>{words(text)}</p>"


def callout(title: str, text: str, kind: str = "note") -> str:
    """Return a framed remark."""
    return f'<div class="callout {kind}" role="note"><b>{words(title)}.</b> {words(text)}</div>'


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the headline numbers: (value, what it is)."""
    inner = "".join(f"<div><dt>{words(label)}</dt><dd>{words(value)}</dd></div>" for value, label in pairs)
    return f'<dl class="tiles">{inner}</dl>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values."""
    inner = "".join(f'<tr><th scope="row">{words(name)}</th><td>{isolated(value)}</td></tr>' for name, value in rows)
    return f'<div class="scroll" tabindex="0"><table class="facts">{inner}</table></div>' if inner else ""


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "", label: str = "") -> str:
    """Return a table that scrolls by itself where it is wider than the page.

    Args:
        head: column names, plain text; those that start with `#` hold numbers.
        rows: cells, ready HTML; the first names the row.
        kind: CSS class.
        label: what the table shows, for those who can't see it.
    """
    numbers = [name.startswith("#") for name in head]
    top = "".join(
        f'<th scope="col"{_class("n" if number else "")}>{words(name.lstrip("#"))}</th>'
        for name, number in zip(head, numbers, strict=True)
    )
    body = []
    for row in rows:
        cells = [f'<th scope="row"{_class("n" if numbers[0] else "")}>{row[0]}</th>']
        cells += [f"<td{_class('n' if n else '')}>{cell}</td>" for cell, n in zip(row[1:], numbers[1:], strict=True)]
        body.append(f"<tr>{''.join(cells)}</tr>")
    table = f"<table{_class(kind)}><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll" role="region" aria-label="{words(label)}" tabindex="0">{table}</div>'


def details(summary: str, body: str, *, kind: str = "") -> str:
    """Return a part that is folded away until asked for; `summary` is ready HTML."""
    return f"<details{_class(kind)}><summary>{summary}</summary>{body}</details>"


def figure(svg: str, caption: str, legend: str = "") -> str:
    """Return a picture with a caption (plain text) and a legend (ready HTML)."""
    return f"<figure>{svg}<figcaption>{words(caption)}{legend}</figcaption></figure>"


def percent(share: float) -> str:
    """Return a share as a percentage with a sensible number of digits."""
    if share == 0:
        return "0 %"
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def probability(p: float) -> str:
    """Return a probability in three digits, never rounded to a certainty it isn't."""
    if 0 < p < 0.0005:
        return "<0.001"
    return ">0.999" if 0.9995 <= p < 1 else f"{p:.3f}"


def linked(citation: str) -> str:
    """Return a citation with its arXiv numbers turned into links."""
    return _ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', words(citation))


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
