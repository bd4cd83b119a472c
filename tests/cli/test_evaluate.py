from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]

KEYS = {
    *("n", "metric", "score", "full_depth_score", "layers", "mean_exit_layer", "layer_speedup", "seconds"),
    *("full_depth_seconds", "speedup", "engine_efficiency", "exit_histogram", "policy", "backend", "dtype"),
}


def test_people_get_a_table(run: Run, model_folder: Path, reviews: Path) -> None:
    status, out, err = run("evaluate", model_folder, reviews)
    assert (status, err) == (0, "")
    for name in ("accuracy, with exits", "mean exit layer", "speedup, wall-clock", "engine efficiency"):
        assert name in out


def test_numbers_read_as_classes_with_names_are_told_in_one_line(run: Run, model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text("text,label\na good film,1\na bad film,0\nso so,1\n")
    status, out, err = run("evaluate", model_folder, path, "--json", "--repeats", 1)
    assert (status, json.loads(out)["n"]) == (0, 3)
    assert f"elbert: warning: {path}: labels 0, 1 are read as class numbers: 'neg', 'pos'\n" in err


def test_programs_get_one_json_line_on_stdout(run: Run, model_folder: Path, reviews: Path) -> None:
    fixed = ("--policy", "fixed", "--set", "layer=2")
    status, out, err = run("evaluate", model_folder, reviews, "--json", "--repeats", 1, *fixed)
    assert status == 0
    assert out.count("\n") == 1
    assert "mean exit layer" in err
    line = json.loads(out)
    assert set(line) >= KEYS
    assert line["n"] == 8
    assert line["metric"] == "accuracy"
    assert line["exit_histogram"] == [0, 8, 0, 0]
    assert (line["mean_exit_layer"], line["layers"], line["layer_speedup"]) == (2.0, 4, 2.0)
    assert line["policy"] == {"name": "fixed", "layer": 2}
    assert (line["backend"], line["dtype"], line["repeats"]) == ("torch", "float32", 1)
    assert line["speedup"] == pytest.approx(line["full_depth_seconds"] / line["seconds"])
    assert line["engine_efficiency"] == pytest.approx(line["speedup"] / line["layer_speedup"])


def test_a_page_is_written_when_asked_for_and_never_over_another(
    run: Run, refused: Callable[..., str], model_folder: Path, reviews: Path
) -> None:
    page = reviews.with_name("page.html")
    status, out, _ = run("evaluate", model_folder, reviews, "--report", page, "--repeats", 1)
    assert status == 0
    assert str(page) in out
    assert page.read_text().startswith("<!doctype html>")
    assert "--overwrite" in refused("evaluate", model_folder, reviews, "--report", page)


def test_a_progress_bar_goes_to_stderr_only_when_forced_or_on_a_terminal(
    run: Run, model_folder: Path, reviews: Path
) -> None:
    assert run("evaluate", model_folder, reviews, "--repeats", 1)[2] == ""
    with reviews.open("a") as stream:
        stream.write("8,,neg\n")
    status, _, err = run("evaluate", model_folder, reviews, "--repeats", 1)
    assert status == 0
    assert "the text is empty or blank in row 9; it is read as a text all the same" in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--metric", "bleu"], "unknown metric"),
        (["--metric", "pearson"], "does not fit"),
        (["--repeats", "0"], "--repeats"),
        (["--policy", "patient"], "did you mean 'patience'?"),
        (["--label-column", "lable"], "did you mean 'label'?"),
        (["--report", "missing/page.html"], "no folder"),
    ],
)
def test_a_wrong_request_is_refused_with_one_line(
    words: list[str], reason: str, refused: Callable[..., str], model_folder: Path, reviews: Path
) -> None:
    assert reason in refused("evaluate", model_folder, reviews, *words)


def test_a_label_the_model_does_not_know_is_named_with_its_row(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("text,label\ngood,pos\nso so,neutral\n")
    line = refused("evaluate", model_folder, path, status=1)
    assert "row 2" in line
    assert "neutral" in line


def test_data_without_labels_is_refused(refused: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bare.csv"
    path.write_text("text\ngood\n")
    assert "label" in refused("evaluate", model_folder, path)
