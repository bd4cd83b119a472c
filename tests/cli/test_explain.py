from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from elbert.classifier import Classifier
from tests.reports.reader import checked

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]


def test_a_text_becomes_a_page(run: Run, model_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    status, out, err = run("explain", model_folder, "a good <b>film</b>", "--label", "pos", "--out", page)
    assert (status, err) == (0, "")
    assert str(page) in out
    words = checked(page.read_text(encoding="utf-8")).words
    assert "a good <b>film</b>" in words
    assert "after layer" in words
    assert ("✓ right" in words) or ("✗ wrong" in words)


def test_json_is_the_trace_and_needs_no_page(run: Run, model_folder: Path) -> None:
    status, out, _ = run("explain", model_folder, "a good film", "--json", "--threshold", "0.9", "--window", "2")
    assert status == 0
    assert out.count("\n") == 1
    line = json.loads(out)
    classifier = Classifier.from_pretrained(model_folder)
    policy = {"name": "elbert", "threshold": 0.9, "window": 2}
    assert line["exit_layer"] == classifier.predict("a good film", policy=policy).exit_layer  # type: ignore[union-attr]
    assert line["policy"]["threshold"] == 0.9
    assert len(line["probs"]) == len(line["attention"]) == len(line["reasons"]) == line["layers"] == 4
    assert line["pattern"] in ("simple", "mitigated", "hurt", "differs", "late", "plain")


def test_page_and_json_can_be_had_at_once(run: Run, model_folder: Path, tmp_path: Path) -> None:
    status, out, err = run(
        "explain", model_folder, "a film", "--text-pair", "good", "--out", tmp_path / "p.html", "--json"
    )
    assert status == 0
    assert json.loads(out)["text"] == ["a film", "good"]
    assert "p.html" in err


def test_a_text_can_come_from_standard_input(run: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("a déjà vu\n".encode())))
    assert json.loads(run("explain", model_folder, "-", "--json")[1])["text"] == "a déjà vu"


def test_broken_bytes_on_standard_input_are_refused(
    refused: Refused, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff")))
    assert "byte 2 is not UTF-8" in refused("explain", model_folder, "-", "--json", status=1)


@pytest.mark.parametrize("text", ["a \udcff b", "a \0 b"])
def test_a_text_no_tokenizer_takes_is_refused(refused: Refused, model_folder: Path, text: str) -> None:
    assert "position 2" in refused("explain", model_folder, text, "--json", status=1)


@pytest.mark.parametrize("columns", ["text,label", "text"])
def test_a_data_set_becomes_a_page_with_and_without_labels(
    run: Run, model_folder: Path, tmp_path: Path, columns: str
) -> None:
    data = tmp_path / "data.csv"
    rows = ["a good film,pos", "a bad film,neg", "so so,neg"]
    data.write_text("\n".join([columns, *(row if "," in columns else row.partition(",")[0] for row in rows)]) + "\n")
    page = tmp_path / "page.html"
    status, out, _ = run("explain", model_folder, "--data", data, "--out", page, "--json")
    assert status == 0
    line = json.loads(out)
    assert line["n"] == sum(line["exit_histogram"]) == 3
    assert (line["score"] is None) == (columns == "text")
    assert "Texts worth reading" in checked(page.read_text(encoding="utf-8")).words


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--json"], "neither was given"),
        (["a", "--data", "x.csv", "--json"], "both were given"),
        (["a"], "--out PAGE"),
        (["--data", "x.csv", "--label", "pos", "--json"], "belong to a text"),
        (["a", "--label", "poss", "--json"], "did you mean 'pos'"),
        (["a", "--policy", "elbrt", "--json"], "did you mean 'elbert'"),
        (["a", "--out", "missing/page.html"], "no folder"),
        (["--data", "missing.csv", "--json"], "missing.csv"),
    ],
)
def test_a_wrong_request_is_refused_with_one_line(
    words: list[str], reason: str, refused: Refused, model_folder: Path
) -> None:
    assert reason in refused("explain", model_folder, *words)


def test_a_page_is_never_written_over_another_unasked(
    run: Run, refused: Refused, model_folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text("precious")
    assert "--overwrite" in refused("explain", model_folder, "a film", "--out", page)
    assert page.read_text() == "precious"
    assert run("explain", model_folder, "a film", "--out", page, "--overwrite")[0] == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_nothing_half_written_is_left_behind(
    refused: Refused, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("elbert.reports.text_page.text_page", full)
    refused("explain", model_folder, "a film", "--out", tmp_path / "page.html", status=1)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_a_page_with_charts_is_refused_before_the_work_and_the_page_of_a_text_is_not(
    run: Run, refused: Refused, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elbert.reports.plots.find_spec", lambda _: None)
    data, page = tmp_path / "missing.csv", tmp_path / "page.html"
    for words in (("explain", model_folder, "--data", data, "--out", page), ("evaluate", model_folder, data)):
        more = ("--report", page) if words[0] == "evaluate" else ()
        assert "pip install 'elbert[plots]'" in refused(*words, *more, status=1)
    assert run("explain", model_folder, "a good film", "--out", page)[0] == 0
