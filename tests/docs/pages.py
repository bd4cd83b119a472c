"""What the pages hold: fenced blocks, links and headings, read from their Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), TOP / "README.md", TOP / "CONTRIBUTING.md"])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^()\s]+)\)|(?:src|href)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, in which language, and its lines."""

    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(TOP)}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(TOP))


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages in one of these languages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            if match[1] in languages:
                found.append(Block(page, text.count("\n", 0, match.start()) + 2, match[1], match[2]))
    return found


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Return where a page's links and pictures point, outside of code."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [a or b for a, b in _LINK.findall(text)]


def anchors(page: Path) -> set[str]:
    """Return what a link may name on a page: its headings as GitHub spells them, and the names of its reference."""
    text = prose(page)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return slugs | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
