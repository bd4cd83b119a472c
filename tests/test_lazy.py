"""What is loaded on first use, and what is said where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from elbert.errors import MissingExtraError
from elbert.lazy import from_extra


def test_a_module_that_an_extra_brings_is_told_missing_or_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "brittle.py").write_text("import nowhere_at_all")
    (tmp_path / "whole.py").write_text("number = 3")
    assert from_extra("train", "whole").number == 3
    with pytest.raises(MissingExtraError, match=r"^a-package .* is not installed: run pip install 'elbert\[train\]'$"):
        from_extra("train", "nowhere_at_all.part", "a-package")
    with pytest.raises(MissingExtraError, match=r"^brittle .* cannot be imported \(No module named 'nowhere_at_all'\)"):
        from_extra("train", "brittle")
