from __future__ import annotations

from pathlib import Path

from elbert.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_in_the_docs_is_what_the_program_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m elbert.cli.reference > docs/cli.md"
