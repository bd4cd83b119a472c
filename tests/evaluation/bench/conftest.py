"""A trained-like model folder and what a race needs of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from elbert.evaluation.bench import Job
from elbert.modeling.files.load import load_model

KINDS = ("single_label_classification", "multi_label_classification", "regression")


@pytest.fixture(scope="session")
def race_texts(tiny_texts: list[str]) -> list[str]:
    """Twenty-four texts of 5 to 40 tokens."""
    return [" ".join([*text.split()[: 3 + number], *text.split()]) for number in range(3) for text in tiny_texts]


@pytest.fixture(scope="session")
def make_job(tmp_path_factory: pytest.TempPathFactory, race_texts: list[str]) -> Callable[..., Job]:
    """`make_job(problem_type, **fields)`: a saved ALBERT of 4 layers, weights wide enough that answers differ."""
    folders: dict[str, Path] = {}

    def make(problem_type: str = KINDS[0], **fields: Any) -> Job:
        if problem_type not in folders:
            torch.manual_seed(0)
            names = () if problem_type == "regression" else ("neg", "pos", "odd")
            model, tokenizer, elbert = load_model(
                "random-tiny", labels=names, problem_type=problem_type, texts=race_texts
            )
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.15 * torch.randn_like(parameter))
            folders[problem_type] = tmp_path_factory.mktemp("race") / "model"
            model.save_pretrained(folders[problem_type], tokenizer=tokenizer, elbert=elbert)
        folder = folders[problem_type]
        scratch = folder.with_name("scratch")
        scratch.mkdir(exist_ok=True)
        given = {"folder": folder, "scratch": scratch, "texts": race_texts, "problem_type": problem_type}
        return Job(**{**given, "max_length": 64, "threads": 1, **fields})

    return make
