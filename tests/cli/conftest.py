"""A model folder small enough to run a command line on in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elbert.cli import main
from elbert.modeling.files.load import load_model

TEXTS = ["a good film", "a bad film", "a very good film", "a very bad film", "good", "bad", "so so", "a film"]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ALBERT of 4 layers with random weights and the labels neg and pos, saved as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model, tokenizer, elbert = load_model("random-tiny", labels=["neg", "pos"], texts=TEXTS)
    model.save_pretrained(folder, tokenizer=tokenizer, elbert={**elbert, "default_policy": "elbert"})
    return folder


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the labels pos and neg, in that order."""
    folder = tmp_path_factory.mktemp("models") / "other"
    model, tokenizer, elbert = load_model("random-tiny", labels=["pos", "neg"], texts=["a good film", "a bad film"])
    model.save_pretrained(folder, tokenizer=tokenizer, elbert=elbert)
    return folder


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A CSV file of eight labelled texts, one of them with a comma, a quote and a line end in it."""
    path = tmp_path / "reviews.csv"
    rows = [f"{number},{text},{'pos' if number % 2 else 'neg'}" for number, text in enumerate(TEXTS[:7])]
    path.write_text("\n".join(["id,text,label", *rows, '7,"good, ""very""\ngood",pos']) + "\n")
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`run(*words)`: (exit status, stdout, stderr) of one command line, run in this process."""

    def call(*words: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        streams = capsys.readouterr()
        return status, streams.out, streams.err

    return call


@pytest.fixture
def refused(run: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """`refused(*words, status=2)`: the one error line of a command line that must fail and print nothing else."""

    def call(*words: Any, status: int = 2) -> str:
        given, out, err = run(*words)
        assert given == status, err
        assert out == ""
        assert err.startswith("elbert: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return err

    return call
