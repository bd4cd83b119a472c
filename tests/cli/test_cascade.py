from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    path = tmp_path / "held-out.csv"
    rows = [f"film {number} good,{'pos' if number % 3 else 'neg'}" for number in range(40)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def test_two_models_become_one_folder_that_predicts(
    run: Run, model_folder: Path, other_folder: Path, held_out: Path, tmp_path: Path
) -> None:
    out = tmp_path / "both"
    status, told, err = run("cascade", model_folder, other_folder, "--data", held_out, "--out", out, "--json")
    assert status == 0, err
    line = json.loads(told)
    assert (line["cascade"], line["n"], line["family"]) == (str(out), 40, "max_prob")
    assert "the last model alone" in err
    status, told, err = run("predict", out, "a good film", "never", "--policy", "max_prob", "--threshold", 0.0)
    assert status == 0, err
    assert [json.loads(each)["exit_layer"] <= 4 for each in told.splitlines()] == [True, True]
    status, told, err = run("predict", out, "a good film", "--full-depth")
    assert {name: json.loads(told)[name] for name in ("exit_layer", "layers", "member", "cost")} == {
        "exit_layer": 4,
        "layers": 8,
        "member": 2,
        "cost": 4.0,
    }


def test_a_class_is_protected_by_its_flag(
    run: Run, model_folder: Path, other_folder: Path, held_out: Path, tmp_path: Path
) -> None:
    for flags, protected in ((["--protect", "neg"], ["neg"]), (["--per-class"], ["pos", "neg"])):
        out = tmp_path / flags[0]
        asked = ("cascade", model_folder, other_folder, "--data", held_out, "--out", out, *flags, "--json")
        status, told, err = run(*asked)
        assert status == 0, err
        assert json.loads(told)["protect"] == protected
        assert json.loads((out / "cascade.json").read_text())["calibration"]["protect"] == protected


def test_it_is_evaluated_beside_its_last_model(
    run: Run, model_folder: Path, other_folder: Path, held_out: Path, tmp_path: Path
) -> None:
    out = tmp_path / "both"
    assert run("cascade", model_folder, other_folder, "--data", held_out, "--out", out)[0] == 0
    status, told, err = run("evaluate", out, held_out, "--threshold", 0.0, "--repeats", 1, "--json")
    assert status == 0, err
    line = json.loads(told)
    assert (line["n"], line["models"], line["layers"], line["exit_histogram"]) == (40, 2, 4, [40, 0])
    assert line["policy"]["name"] == "max_prob"  # a parameter alone names the usual rule
    assert "accuracy, last model" in err
    assert "texts by model" in err


def test_parts_of_a_cascade_are_those_of_one_run(
    run: Run, model_folder: Path, other_folder: Path, held_out: Path, tmp_path: Path
) -> None:
    out = tmp_path / "both"
    assert run("cascade", model_folder, other_folder, "--data", held_out, "--out", out)[0] == 0
    _, whole, _ = run("predict", out, "--input", held_out)
    assert run("predict", out, "--input", held_out, "--output", tmp_path / "parts", "--part-rows", 16)[0] == 0
    parts = sorted((tmp_path / "parts").glob("*.jsonl"))
    answers = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    wanted = [json.loads(line) for line in whole.splitlines()]
    assert len(answers) == 40
    for answer, line in zip(answers, wanted, strict=True):  # scores may round differently in other batches
        assert answer | {"score": 0} == line | {"score": 0}


def test_a_wrong_request_is_refused_with_one_line(
    refused: Callable[..., str], run: Run, model_folder: Path, other_folder: Path, held_out: Path, tmp_path: Path
) -> None:
    both = ("cascade", model_folder, other_folder, "--data", held_out, "--out")
    assert "is one of the models" in refused(*both, other_folder, "--overwrite")
    assert "exists; give another name" in refused(*both, tmp_path)
    assert "is no cascade, so --overwrite leaves it" in refused(*both, tmp_path, "--overwrite")
    assert "max_drop is 2" in refused(*both, tmp_path / "out", "--max-drop", 2)
    assert "have not in common" in refused(*both, tmp_path / "out", "--policy", "certainty")
    assert "unknown class 'none' to protect" in refused(*both, tmp_path / "out", "--protect", "none")
    assert "two models or more" in refused("cascade", model_folder, "--data", held_out, "--out", tmp_path / "out")
    assert run(*both, tmp_path / "out")[0] == 0
    assert "is a cascade of models" in refused("explain", tmp_path / "out", "a good film", "--json")
    assert "is a cascade of models" in run("train", held_out, "--model", tmp_path / "out", "--out", tmp_path / "new")[2]
    page = ("--report", tmp_path / "page.html")
    assert "--report shows one model's layers" in refused("evaluate", tmp_path / "out", held_out, *page)
