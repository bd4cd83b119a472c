"""The site as `make docs` builds it; skipped where what builds it is not installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import TOP

FETCHED = re.compile(r"<(?:link|script|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//")


def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "the site's builder is not installed: pip install 'elbert[docs]'"
    config = pytest.importorskip("mkdocs.config", reason=reason)
    pytest.importorskip("material", reason=reason)
    pytest.importorskip("mkdocstrings", reason=reason)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    from mkdocs.commands.build import build

    build(config.load_config(str(TOP / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not FETCHED.search(page.read_text(encoding="utf-8")), page.name
    assert "exit_layer" in (tmp_path / "site/reference/results.html").read_text(encoding="utf-8")
