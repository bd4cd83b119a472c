"""Training by two processes over gloo: it is the training of one that accumulates two batches a step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from elbert.cli import main
from elbert.errors import UsageError
from tests.training.conftest import read_log, weights

# Seconds that two processes may take; the run itself takes a few.
LIMIT = 240


def words(folder: Path, name: str, *more: str) -> list[str]:
    settings = ("dropout=0.0", "classifier_dropout=0.0", "batch_size=4", "learning_rate=1e-3", *more)
    flags = [
        "--model",
        "random-tiny",
        "--epochs",
        "2",
        "--dtype",
        "float32",
        "--scheme",
        "right_tool",
        "--eval",
        str(folder / "dev.jsonl"),
    ]
    given = [word for setting in settings for word in ("--set", setting)]
    return ["train", str(folder / "train.jsonl"), "--out", str(folder / name), *flags, *given]


def by_two(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "elbert"]
    return subprocess.run(
        [*launcher, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, count in (("train", 32), ("dev", 10)):
        rows = [
            {
                "text": f"{'good' if row % 2 else 'bad'} film " * (1 + row % 3) + str(row),
                "label": ("no", "yes")[row % 2],
            }
            for row in range(count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_two_processes_end_in_the_model_of_one_and_the_first_alone_writes(folder: Path) -> None:
    assert main(words(folder, "one", "gradient_accumulation_steps=2")) == 0
    two = by_two(words(folder, "two"))
    assert two.returncode == 0, two.stderr[-3000:]
    assert two.stdout.count("next:") <= 1
    one, other = weights(folder / "one"), weights(folder / "two")
    assert one.keys() == other.keys()
    for name, expected in one.items():
        torch.testing.assert_close(other[name], expected, rtol=1e-3, atol=1e-5, msg=name)
    # The scheme's own weights, which the model's processes know nothing of.
    one, other = (load_file(folder / name / "policies.safetensors") for name in ("one", "two"))
    assert one["right_tool/weight"].abs().max() > 1e-3  # they have moved
    for name, expected in one.items():
        torch.testing.assert_close(other[name], expected, rtol=1e-4, atol=1e-5, msg=name)
    steps = [[line.get("step") for line in read_log(folder / name / "training_log.jsonl")] for name in ("one", "two")]
    assert steps[0] == steps[1]
    assert not list(folder.glob("*.partial"))


def test_what_several_processes_cannot_do_is_refused(
    fine_tune: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--resume is for one process, and 2 were started"):
        fine_tune(tmp_path / "model", resume=True)
    with pytest.raises(UsageError, match="--teacher is for one process"):
        fine_tune(tmp_path / "model", teacher="mini-sentiment")
    assert not list(tmp_path.iterdir())
