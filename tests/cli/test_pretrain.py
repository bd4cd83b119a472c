from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]
SHAPE = {
    "layers": 2,
    "hidden_size": 16,
    "attention_heads": 2,
    "intermediate_size": 32,
    "embedding_size": 8,
    "max_positions": 64,
    "micro_tokens": 64,
    "batch_tokens": 128,
    "dtype": "float32",
    "tokens": 5_000,
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    texts = [f"The film number {number} was long. I liked it, and so did she." for number in range(40)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(SHAPE))
    return path


def test_it_ends_in_one_json_line_and_reports_on_stderr(run: Run, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    words: tuple[Any, ...] = ("--settings", recipe, "--tokens", 300, "--max-length", 32, "--vocabulary", 100)
    status, out, err = run("pretrain", corpus, "--out", tmp_path / "encoder", *words)
    assert status == 0, err
    summary = json.loads(out)
    assert 300 <= summary["tokens"] < 5_000  # the flag goes before the file
    assert summary["out"] == str(tmp_path / "encoder")
    assert "masked_words" in err
    assert (tmp_path / "encoder/model.safetensors").is_file()


def test_set_reaches_any_setting(run: Run, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    words: tuple[Any, ...] = ("--settings", recipe, "--set", "tokens=200", "--set", "max-length=32")
    status, out, err = run("pretrain", corpus, "--out", tmp_path / "encoder", *words, "--set", "sentence_order=0")
    assert status == 0, err
    assert set(json.loads(out)["held_out"]) == {"masked_words"}


def test_bad_requests_end_in_one_line(refused: Callable[..., str], corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder"
    assert "no corpus file" in refused("pretrain", tmp_path / "none.txt", "--out", out)
    assert "--set 'tokens' is not NAME=VALUE" in refused("pretrain", corpus, "--out", out, "--set", "tokens")
    assert "did you mean 'tokens'" in refused("pretrain", corpus, "--out", out, "--set", "token=3")
    assert "no model folder" in refused("pretrain", corpus, "--out", out, "--teacher", tmp_path / "nobody")
    assert "nothing to resume" in refused("pretrain", corpus, "--out", out, "--resume")
    assert "--out" in refused("pretrain", corpus)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xff\n")
    assert "not UTF-8" in refused("pretrain", tmp_path / "bad.txt", "--out", out, status=1)
    assert not list(tmp_path.glob("encoder*"))
