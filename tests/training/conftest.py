"""A data set of sixty reviews, and one short run on it with whatever a test wants different."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from elbert.data import Labels, TextDataset
from elbert.training import TrainSettings, TrainSummary, train


def make_dataset(texts: list[str], rows: int = 60, problem_type: Any = "single_label_classification") -> TextDataset:
    """Reviews of different lengths; the good ones are at even places of `texts`."""
    chosen = [" ".join([texts[row % len(texts)]] * (1 + row % 3)) for row in range(rows)]
    if problem_type == "regression":
        labels: Any = [float(row % 2) + 0.01 * (row % 5) for row in range(rows)]
        return TextDataset(chosen, labels, Labels(problem_type, ()), "reviews")
    if problem_type == "multi_label_classification":
        labels = [[float(row % 2), float(row % 3 == 0)] for row in range(rows)]
        return TextDataset(chosen, labels, Labels(problem_type, ("good", "long")), "reviews")
    return TextDataset(chosen, [row % 2 for row in range(rows)], Labels(problem_type, ("good", "bad")), "reviews")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a run's log, in order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def reviews(tiny_texts: list[str]) -> TextDataset:
    return make_dataset(tiny_texts)


@pytest.fixture
def settings() -> TrainSettings:
    return TrainSettings(epochs=2, batch_size=8, learning_rate=1e-2, dtype="float32", max_length=32)


@pytest.fixture
def fine_tune(
    tiny_model: Any, tiny_tokenizer: Any, reviews: TextDataset, settings: TrainSettings
) -> Callable[..., Any]:
    """`fine_tune(out, dataset=…, settings=…, family=…, …)`: one run from the same fresh model."""

    def run(
        out: Path, *, dataset: TextDataset = reviews, settings: TrainSettings = settings, **options: Any
    ) -> TrainSummary:
        space = dataset.label_space
        assert space is not None
        model = tiny_model(
            options.pop("family", "albert"),
            options.pop("heads", "shared"),
            problem_type=space.problem_type,
            id2label=space.id2label,
            label2id=space.label2id,
        )
        evaluation = options.pop("evaluation", None)
        return train(model, tiny_tokenizer, dataset, evaluation, settings, out, progress=False, **options)

    return run


def train_command(folder: Path, texts: list[str], epochs: int) -> list[str]:
    """The command line of a small run on a file it writes, to be started as a process."""
    rows = [json.dumps({"text": text, "label": ("good", "bad")[row % 2]}) for row, text in enumerate(texts * 3)]
    (folder / "data.jsonl").write_text("\n".join(rows))
    main = "import sys; from elbert.cli import main; sys.exit(main())"
    flags = ["--model", "random-tiny", "--epochs", str(epochs), "--dtype", "float32"]
    return [sys.executable, "-c", main, "train", str(folder / "data.jsonl"), "--out", str(folder / "out"), *flags]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
