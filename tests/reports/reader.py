"""Reads a page as a strict parser would: every tag closed in order, ids all different, words as a reader sees them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """What stands on a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.words = ""
        self.scripts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif tag == "a" and name == "href":
                self.links.append(value or "")
            else:
                self.attributes.append((name, value or ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.scripts.append(data)
        else:
            self.words += data


def checked(html: str) -> Page:
    """Return the page, having seen to what every page of ours must be: whole, alone, and named."""
    page = Page(html)
    assert html.startswith("<!doctype html>\n<html lang=")
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("script") == 2  # the data and the program, no third
    assert {"img", "iframe", "object", "embed", "form", "base"}.isdisjoint(page.tags)
    assert page.tags.count("link") == 1
    assert not any(name == "src" or name.startswith("on") for name, _ in page.attributes)
    assert all(link.startswith("https://arxiv.org/") for link in page.links)
    cited = re.findall(r"arXiv:(\d{4}\.\d+)", page.words)
    assert page.links == [f"https://arxiv.org/abs/{number}" for number in cited]
    assert "@import" not in html
    assert "@font-face" not in html
    return page
