"""The one page every report is shown on: a single HTML file with its style and script inside, and nothing outside it.

The browser is told so too: the page's own policy lets no network in, and no script but the one written here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from elbert.reports import filters


def page(template: str, data: Any = None, **content: Any) -> str:
    """Return a whole page.

    Args:
        template: its file's name in `templates`; it extends `page.html`.
        data: what the page's script needs, as JSON.
        content: what the template shows; strings are escaped, only `Markup` is taken as it is.
    """
    style, script = (_read(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(style=Markup(style), script=Markup(script), digest=digest, data=_embedded(data), **content)
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("elbert.reports"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        finalize=filters.printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for each in (filters.shortened, filters.percent, filters.probability, filters.linked):
        made.filters[each.__name__] = each
    return made


def _read(name: str) -> str:
    return files("elbert.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _embedded(data: Any) -> Markup:
    """Return JSON that can't end the element it stands in, whatever strings it holds."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
