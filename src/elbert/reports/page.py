"""The one page every report is shown on: a single HTML file with its style and script inside, and nothing outside it.

The browser is told so too: the page's own policy lets no network in, and no script but the one written here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from importlib.resources import files
from string import Template
from typing import Any

from elbert.reports.html import words


def page(title: str, lead: str, sections: Iterable[str], data: Any = None) -> str:
    """Return a whole page.

    Args:
        title: heading and name of the page, plain text.
        lead: one or two sentences under it, ready HTML.
        sections: ready HTML, in reading order.
        data: what the page's script needs, as JSON.
    """
    style, script = (_read(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(_read("page.html")).substitute(
        title=words(title),
        lead=lead,
        sections="\n".join(filter(None, sections)),
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        data=_embedded(data),
    )


def _read(name: str) -> str:
    return files("elbert.reports").joinpath(name).read_text(encoding="utf-8")


def _embedded(data: Any) -> str:
    """Return JSON that can't end the element it stands in, whatever strings it holds."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
