"""Every link leads somewhere, every page stands in the site's navigation, and every name in the reference exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import DOCS, PAGES, TOP, anchors, links, name_of

SITE = yaml.safe_load((TOP / "mkdocs.yml").read_text(encoding="utf-8"))

# Addresses that a page would fetch while it is read; a link that a reader may follow is another thing.
FETCHED = re.compile(r"https?://[^\"' )]+", re.IGNORECASE)


def _entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
        return
    for each in nav if isinstance(nav, list) else nav.values():
        yield from _entries(each)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "mailto:")):
            continue
        where, _, anchor = link.partition("#")
        target = (page.parent / where).resolve() if where else page
        assert target.is_file(), f"{link}: there is no such file"
        assert not page.is_relative_to(DOCS) or target.is_relative_to(DOCS), f"{link}: the site ends at docs/"
        assert not anchor or anchor in anchors(target), f"{link}: {sorted(anchors(target))}"


def test_the_navigation_names_every_page_once() -> None:
    named = list(_entries(SITE["nav"]))
    there = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(named) == sorted(there)


def test_the_site_is_set_up_to_fetch_nothing_and_to_end_at_the_first_warning() -> None:
    assert SITE["theme"]["font"] is False
    assert SITE["strict"] is True
    assert set(SITE["validation"]["links"].values()) == set(SITE["validation"]["nav"].values()) == {"warn"}
    for own in [*SITE.get("extra_css", []), *SITE.get("extra_javascript", [])]:
        assert not FETCHED.search((DOCS / own).read_text(encoding="utf-8"))  # and it is a file of ours
    for page in PAGES:
        assert "```mermaid" not in page.read_text(encoding="utf-8"), f"{page}: its renderer would come from a CDN"


@pytest.mark.parametrize("page", sorted((DOCS / "reference").glob("*.md")), ids=name_of)
def test_the_reference_names_what_is_there(page: Path) -> None:
    named = re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    for path in named:
        assert _found(path).__doc__, f"{path} has no docstring"


def _found(path: str) -> Any:
    """Return the module, class or function that a dotted path names."""
    words = path.split(".")
    for end in range(len(words), 0, -1):
        try:
            module = import_module(".".join(words[:end]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, words[end:], module)
    raise AssertionError(f"{path}: no module of this name")


def test_the_reference_covers_what_import_elbert_offers() -> None:
    import elbert

    named = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    last = {path.rpartition(".")[2] for path in re.findall(r"^::: (\S+)$", named, re.MULTILINE)}
    assert {*elbert.__all__} - last <= {"ElbertError"}  # which stands in its module's own entry
    assert "::: elbert.errors" in named
