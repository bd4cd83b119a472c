"""A small study for tests of the comparison: its texts, its start, and the command run on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import compare
from elbert.modeling.files.load import load_model


def write_study(folder: Path, study: str, texts: Sequence[str], *, train: int = 40, test: int = 24) -> None:
    """Write a study of `sst2` and so many rows of its two parts, made of eight texts, good and bad by turns."""
    (folder / "sst2").mkdir()
    for part, rows in (("train", train), ("test", test)):
        lines = [
            {"text": f"{texts[row % 8]} {'number ' * (row // 8)}", "label": ("good", "bad")[row % 2]}
            for row in range(rows)
        ]
        (folder / "sst2" / f"{part}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "study.toml").write_text(study)


def write_start(folder: Path, texts: Sequence[str]) -> None:
    """Write what rivals are cut from, for `call_from_start`."""
    model, tokenizer, elbert = load_model("random-tiny", labels=["bad", "good"], texts=list(texts))
    model.save_pretrained(folder / "start", tokenizer=tokenizer, elbert=elbert)


def call(folder: Path, policies: Sequence[str], *flags: str) -> dict[str, Any]:
    """Run the command and return what it wrote for programs."""
    argv = [str(folder / "study.toml"), "--data", str(folder), "--out", str(folder / "out"), "--bootstrap", "100"]
    argv += ["--policies", *policies]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["compare.py", *argv, *flags])
        compare.main()
    return json.loads((folder / "out" / "results.json").read_text())


def call_from_start(folder: Path, *flags: str) -> dict[str, Any]:
    """Run it on what `write_start` wrote, with one policy."""
    return call(folder, ["entropy"], "--start", str(folder / "start"), *flags)
