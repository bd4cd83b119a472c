"""What the engine's benchmark measures on: texts from all of a corpus, however many are asked for."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from grounds import texts_of


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """A folder with ten texts of SST-2's dev part, which is what "short" reads."""
    folder = tmp_path / "sst2"
    folder.mkdir()
    lines = [json.dumps({"text": f"text {number}", "label": number % 2}) for number in range(10)]
    (folder / "dev.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_fewer_texts_than_there_are_stand_at_equal_distances(corpora: Path) -> None:
    assert texts_of("short", corpora, 5) == [f"text {number}" for number in (0, 2, 4, 6, 8)]


@pytest.mark.parametrize("count", [10, 14, 30])
def test_more_texts_than_there_are_use_them_all_evenly(corpora: Path, count: int) -> None:
    used = Counter(texts_of("short", corpora, count))
    assert used.total() == count
    assert len(used) == 10
    assert max(used.values()) - min(used.values()) <= 1
