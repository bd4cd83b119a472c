from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--bootstrap", 100, "--timed", 0)


def test_a_sweep_leaves_table_numbers_and_pictures(run: Run, model_folder: Path, reviews: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    status, printed, err = run("sweep", model_folder, reviews, "--out", out, *QUICK)
    assert status == 0
    recording, scoring = err.splitlines()  # no \r, no bar: this is no terminal
    assert recording.startswith(f"recording: 8 texts through all layers of {model_folder}, ")
    assert scoring.startswith("scoring: ")
    assert scoring.endswith(" settings, 100 resamples of the texts")
    assert "gain over fixed" in printed
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["sweep.csv", "sweep.json"]
        + [f"{name}.{kind}" for name in ("score_by_layers", "gains", "chosen_exits") for kind in ("png", "pdf")]
    )
    with (out / "sweep.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    numbers = json.loads((out / "sweep.json").read_text())
    assert len(rows) == sum(len(curve["points"]) for curve in numbers["curves"]) + 1
    assert (rows[-1]["policy"], rows[-1]["mean_exit_layer"]) == ("full", "4.0")
    assert {row["policy"] for row in rows} >= {"elbert", "entropy", "patience", "fixed"}
    assert json.loads(rows[0]["parameters"])["window"] == 3
    assert {row["on_front"] for row in rows} == {"true", "false"}
    assert (numbers["n"], numbers["layers"], numbers["sources"]["models"]) == (8, 4, [str(model_folder)])


def test_programs_get_one_json_line(run: Run, model_folder: Path, reviews: Path, tmp_path: Path) -> None:
    words = ("--policies", "patience,entropy", "--json", "--also", model_folder, *QUICK)
    status, printed, _ = run("sweep", model_folder, reviews, "--out", tmp_path / "sweep", *words)
    assert status == 0
    assert printed.count("\n") == 1
    line = json.loads(printed)
    assert list(line["areas"]) == list(line["fastest"]) == ["patience", "entropy", "fixed"]
    assert (line["n"], line["metric"], line["models"], line["timing"]) == (8, "accuracy", 2, None)
    low, high = line["areas"]["patience"]["area_band"]
    assert low <= line["areas"]["patience"]["area"] <= high
    assert len(line["areas"]["patience"]["area_by_model"]) == 2


def test_timed_settings_have_a_speedup_and_a_picture(
    run: Run, model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    words = ("--policies", "patience", "--bootstrap", 100, "--timed", 1, "--json")
    status, printed, _ = run("sweep", model_folder, reviews, "--out", out, *words)
    assert status == 0
    assert json.loads(printed)["timing"]["n"] == 8
    assert (out / "score_by_speedup.pdf").is_file()
    with (out / "sweep.csv").open(newline="") as stream:
        assert sum(bool(row["speedup"]) for row in csv.DictReader(stream)) >= 2


def test_an_earlier_sweep_is_replaced_only_when_asked_and_nothing_else_ever(
    run: Run, refused: Callable[..., str], model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    words = ("sweep", model_folder, reviews, "--out", out, "--policies", "patience", *QUICK)
    assert run(*words)[0] == 0
    assert "--overwrite" in refused(*words)
    assert run(*words, "--overwrite")[0] == 0
    (out / "sweep.json").unlink()
    assert "is no sweep, so --overwrite leaves it" in refused(*words, "--overwrite")
    shutil.rmtree(out)
    out.write_text("")
    assert "is a file" in refused(*words)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--policies", "patient"], "did you mean 'patience'?"),
        (["--policies", "patience,patience"], "named twice"),
        (["--bootstrap", "5"], "--bootstrap"),
        (["--seed", "-1"], "seed is -1; allowed: 0 to 4294967295"),
        (["--metric", "pearson"], "does not fit"),
        (["--also", "missing"], "missing"),
    ],
)
def test_a_wrong_request_is_refused_with_one_line_and_nothing_is_written(
    words: list[str], reason: str, refused: Callable[..., str], model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    assert reason in refused("sweep", model_folder, reviews, "--out", out, "--timed", 0, *words)
    assert list(tmp_path.glob("*sweep*")) == []
