"""How values are written on a page. Jinja2 escapes; what no page can show is replaced here before it does."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from elbert.tasks import SINGLE_LABEL

# What HTML forbids or nobody can see: control characters other than tab and newline, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def printable(value: object) -> object:
    """Return text with what can't be shown as U+FFFD; ready HTML and other values as they are."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _UNPRINTABLE.sub("\ufffd", value.replace("\r\n", "\n"))


def escaped(text: object) -> Markup:
    """Return text that nothing can break out of, in an element or a quoted attribute."""
    return escape(printable(str(text)))


def shortened(text: str, length: int) -> str:
    """Return at most `length` characters of a text, with an ellipsis where it was longer."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def percent(share: float) -> str:
    """Return a share as a percentage with a sensible number of digits."""
    if share == 0:
        return "0 %"
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def probability(p: float) -> str:
    """Return a probability in three digits, never rounded to a certainty it isn't."""
    return SINGLE_LABEL.number(p)


def where_left(exit_layer: int, layers: int) -> str:
    """Return where a text left, for the end of a sentence; 0 is layer 0."""
    return f"after layer {exit_layer} of {layers}" if exit_layer else "before the first layer"


def linked(citation: str) -> Markup:
    """Return a citation with its arXiv numbers turned into links."""
    return Markup(_ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', str(escaped(citation))))
