from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elbert.classifier import Classifier

Run = Callable[..., tuple[int, str, str]]
KEYS = ["label", "score", "exit_layer", "layers", "truncated"]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """`stdin(content)`: what the next command line reads from standard input."""

    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    return give


def answers(run: Run, *words: Any) -> list[dict[str, Any]]:
    status, out, err = run("predict", *words)
    assert status == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_texts_as_arguments_give_one_object_a_line_in_order(run: Run, model_folder: Path) -> None:
    texts = ["a good film", "", "bad", "a good film", "ein schöner Film 🎬"]
    given = answers(run, model_folder, *texts)
    assert [list(answer) for answer in given] == [KEYS] * 5
    wanted = Classifier.from_pretrained(model_folder).predict(texts)
    assert isinstance(wanted, list)
    assert given == [prediction.to_dict() for prediction in wanted]


def test_standard_input_is_read_line_by_line(run: Run, model_folder: Path, stdin: Callable[[bytes], None]) -> None:
    stdin("gut\n\nschön\n".encode())
    from_stdin = answers(run, model_folder, "-")
    assert from_stdin == answers(run, model_folder, "gut", "", "schön")
    stdin(b'{"text": "gut"}\n')
    assert answers(run, model_folder, "--input", "-", "--input-format", "jsonl") == from_stdin[:1]


@pytest.mark.parametrize("words", [[], ["--part-rows", "1", "--output", "parts"]])
def test_empty_texts_are_answered_and_told_once(
    run: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.csv").write_text('id,text\n1,good\n2,\n3," \t"\n4,bad\n')
    status, out, err = run("predict", model_folder, "--input", "texts.csv", *words)
    assert status == 0
    answered = out or "".join(path.read_text() for path in Path("parts").glob("part-*"))
    assert answered.count('"label"') == 4
    told = "elbert: warning: texts.csv: the text is empty or blank in 2 rows, the first of them row 2; "
    assert err.startswith(told)
    assert err.count("warning") == 1


def test_of_a_pair_one_half_may_be_empty(run: Run, model_folder: Path) -> None:
    assert run("predict", model_folder, "--pair", "good", "")[2] == ""
    assert "empty or blank in row 1;" in run("predict", model_folder, "--pair", "", " ")[2]


def test_the_policy_and_its_parameters_decide_the_exit_layer(run: Run, model_folder: Path) -> None:
    def layer(*words: Any) -> int:
        return answers(run, model_folder, "a good film", *words)[0]["exit_layer"]

    assert layer("--full-depth") == 4
    assert layer("--policy", "fixed", "--set", "layer=2") == 2
    assert layer("--policy", "entropy", "--threshold", "1") in (1, 2, 3, 4)
    assert layer("--policy", "patience", "--patience", "1") in (2, 3, 4)
    assert layer("--threshold", "0", "--window", "0") == 4
    assert layer("--threshold", "0", "--window", "2", "--criterion", "agreement") in (2, 3, 4)


def test_pairs_from_arguments_lines_and_columns_are_alike(
    run: Run, model_folder: Path, stdin: Callable[[bytes], None], tmp_path: Path
) -> None:
    wanted = answers(run, model_folder, "--pair", "a man sleeps", "he is awake", "one", "two")
    assert len(wanted) == 2
    stdin(b"a man sleeps\the is awake\none\ttwo\n")
    assert answers(run, model_folder, "--pair", "-") == wanted
    path = tmp_path / "pairs.csv"
    path.write_text("first,second\na man sleeps,he is awake\none,two\n")
    columns = ("--text-column", "first", "--text-pair-column", "second")
    assert answers(run, model_folder, "--pair", "--input", path, *columns) == wanted


def test_a_line_of_more_than_two_halves_is_no_pair(
    refused: Callable[..., str], model_folder: Path, stdin: Callable[[bytes], None]
) -> None:
    stdin(b"a man sleeps\the is awake\tcontradiction\n")
    error = refused("predict", model_folder, "--pair", "-", status=1)
    assert "--pair needs two texts with a tab between them; there are 2" in error


def test_cells_that_only_later_rows_have_are_told_where_csv_leaves_them_out(
    run: Run, model_folder: Path, tmp_path: Path
) -> None:
    rows, output = tmp_path / "rows.jsonl", tmp_path / "answers.csv"
    rows.write_text('{"text": "good"}\n{"text": "bad", "id": 7}\n{"text": "so so", "source": "x"}\n')
    status, _, err = run("predict", model_folder, "--input", rows, "--output", output)
    assert status == 0
    assert err.count("has 'id', which the first row has not; CSV output leaves such cells out") == 1
    assert "source" not in err
    assert len(output.read_text().splitlines()) == 4


def test_csv_in_csv_out_keeps_every_row_and_column(run: Run, model_folder: Path, reviews: Path) -> None:
    output = reviews.with_name("answers.csv")
    status, out, _ = run("predict", model_folder, "--input", reviews, "--output", output)
    assert (status, out) == (0, "")
    with reviews.open(newline="") as stream:
        before = list(csv.DictReader(stream))
    with output.open(newline="") as stream:
        after = list(csv.DictReader(stream))
    assert [*after[0]] == ["id", "text", "label", "predicted_label", "score", "exit_layer", "layers", "truncated"]
    assert [{key: row[key] for key in ("id", "text", "label")} for row in after] == before
    lines = answers(run, model_folder, "--input", reviews)
    assert [row["predicted_label"] for row in after] == [line["label"] for line in lines]
    assert [row["truncated"] for row in after] == ["false"] * 8
    assert [path.name for path in reviews.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_name_that_is_taken_twice_over_is_numbered_and_the_output_can_be_read_again(
    kind: str, run: Run, model_folder: Path, tmp_path: Path
) -> None:
    cells = {"text": "good", "label": "a", "predicted_label": "b", "predicted_label_2": "c", "score": "d"}
    source = tmp_path / f"in.{kind}"
    if kind == "parquet":
        pytest.importorskip("pandas").DataFrame([cells]).to_parquet(source)
    else:
        source.write_text(json.dumps(cells) if kind == "jsonl" else f"{','.join(cells)}\n{','.join(cells.values())}\n")
    assert run("predict", model_folder, "--input", source, "--output", tmp_path / "one.csv")[0] == 0
    with (tmp_path / "one.csv").open(newline="") as stream:
        (header, row) = csv.reader(stream)
    assert header == [*cells, "predicted_label_3", "predicted_score", "exit_layer", "layers", "truncated"]
    assert row[: len(cells)] == list(cells.values())
    assert run("predict", model_folder, "--input", tmp_path / "one.csv", "--output", tmp_path / "two.csv")[0] == 0
    again = (tmp_path / "two.csv").read_text().splitlines()[0].split(",")
    assert len(set(again)) == len(again) == len(header) + 5


def test_a_text_with_a_carriage_return_is_written_so_that_it_is_read_back(
    run: Run, model_folder: Path, tmp_path: Path
) -> None:
    source, one, two = tmp_path / "in.jsonl", tmp_path / "one.csv", tmp_path / "two.csv"
    source.write_text(json.dumps({"text": "first part\rsecond part", "tags": ["a", "b\r"]}) + "\n")
    assert run("predict", model_folder, "--input", source, "--output", one)[0] == 0
    assert run("predict", model_folder, "--input", one, "--output", two)[0] == 0
    with two.open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["text"], json.loads(row["tags"])) == ("first part\rsecond part", ["a", "b\r"])
    assert b"\r\n" not in one.read_bytes()


def test_broken_rows_are_left_out_and_told_when_asked_to(
    run: Run, refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,text\n1,good\n2\n3,bad\n")
    assert "--skip-broken-rows" in refused(
        "predict", model_folder, "--input", source, "--output", tmp_path / "o", "--output-format", "csv", status=1
    )
    status, out, err = run("predict", model_folder, "--input", source, "--output-format", "csv", "--skip-broken-rows")
    assert [line[:1] for line in out.splitlines()[1:]] == ["1", "3"]
    assert (status, "1 of 3 rows skipped" in err) == (0, True)


def test_csv_can_go_to_standard_output(run: Run, model_folder: Path) -> None:
    status, out, _ = run("predict", model_folder, "good", "--output-format", "csv")
    assert status == 0
    assert out.splitlines()[0] == "text,label,score,exit_layer,layers,truncated"


def test_an_output_that_exists_is_kept_unless_told_otherwise(
    run: Run, refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    output.write_text("precious")
    assert "--overwrite" in refused("predict", model_folder, "good", "--output", output)
    assert output.read_text() == "precious"
    status, _, _ = run("predict", model_folder, "good", "--output", output, "--overwrite")
    assert status == 0
    assert list(json.loads(output.read_text())) == KEYS


def test_a_failure_half_way_leaves_no_output_behind(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "good"}\n' * 3000 + '{"text": \n')
    line = refused("predict", model_folder, "--input", source, "--output", tmp_path / "answers.csv", status=1)
    assert "row 3001" in line
    assert [path.name for path in tmp_path.iterdir()] == ["texts.jsonl"]


def test_a_text_longer_than_the_model_reads_is_marked_as_truncated(
    run: Run, model_folder: Path, stdin: Callable[[bytes], None]
) -> None:
    stdin(b"a " * 50_000 + b"\n\n")
    long, empty = answers(run, model_folder, "-")
    assert (long["truncated"], empty["truncated"]) == (True, False)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no texts"),
        (b"good\nb\0d\n", "row 2 (line 2): NUL"),
        (b"good\nb\xffd\n", "row 2 (line 2): byte 0xff"),
    ],
)
def test_standard_input_that_cannot_be_read_fails_with_its_row(
    content: bytes, reason: str, refused: Callable[..., str], model_folder: Path, stdin: Callable[[bytes], None]
) -> None:
    stdin(content)
    assert reason in refused("predict", model_folder, "-", status=1)


def test_a_broken_json_line_fails_with_its_row(
    refused: Callable[..., str], model_folder: Path, stdin: Callable[[bytes], None]
) -> None:
    stdin(b'{"text": "good"}\n{"text": NaN}\n')
    assert "row 2" in refused("predict", model_folder, "--input", "-", "--input-format", "jsonl", status=1)


def test_half_a_surrogate_pair_in_an_argument_is_refused(refused: Callable[..., str], model_folder: Path) -> None:
    assert "surrogate" in refused("predict", model_folder, "bad \udcff", status=1)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no texts: give them"),
        (["good", "--input", "x.csv"], "both given"),
        (["-", "good"], "- reads standard input and stands alone, but 2 texts were given"),
        (["--pair", "good", "-"], "- reads standard input and stands alone"),
        (["-", "--input", "x.csv"], "both given"),
        (["--pair", "one", "two", "three"], "even number"),
        (["good", "--policy", "elber"], "did you mean 'elbert'?"),
        (["good", "--threshold", "2"], "threshold is 2"),
        (["good", "--patience", "2"], "no parameter 'patience'"),
        (["good", "--set", "layer"], "NAME=VALUE"),
        (["good", "--full-depth", "--threshold", "0.5"], "--full-depth"),
        (["good", "--set", "threshold=0.9", "--threshold", "0.1"], "threshold was given twice, by --threshold and by"),
        (["good", "--set", "threshold=0.9", "--set", "threshold=0.9"], "--set threshold=… was given twice"),
        (["good", "--backend", "tensorflow"], "allowed: auto, torch"),
        (["good", "--dtype", "int4"], "unknown dtype"),
        (["good", "--device", "tpu7"], "unknown device"),
        (["good", "--device", "meta"], "unknown device"),
        (["good", "--threshold", "nan"], "threshold is nan"),
        (["good", "--window", "1"], "window is 1"),
        (["good", "--device", "cuda:99"], "CUDA devices"),
        (["good", "--batch-size", "0"], "--batch-size"),
        (["good", "--output", "missing/answers.csv"], "no folder"),
        (["good", "--output", "answers.xml"], "unknown extension"),
        (["good", "--output", "."], "output '.' is a folder; name a file"),
        (["good", "--output", "/dev/null", "--output-format", "csv"], "is no file"),
        (["good", "--output-format", "xml"], "unknown output format"),
        (["--input", "missing.csv"], "no file or folder"),
        (["--input", "-", "--input-format", "doc"], "unknown input format"),
    ],
)
def test_a_wrong_request_is_refused_with_one_line(
    words: list[str], reason: str, refused: Callable[..., str], model_folder: Path
) -> None:
    assert reason in refused("predict", model_folder, *words)


def test_a_files_name_given_as_a_text_is_classified_and_told(run: Run, model_folder: Path, reviews: Path) -> None:
    status, out, err = run("predict", model_folder, str(reviews), "x" * 5_000)
    assert (status, len(out.splitlines())) == (0, 2)
    assert f"'{reviews}' is the name of a file here" in err
    assert f"--input {reviews}" in err


def test_an_unknown_model_names_what_there_is(refused: Callable[..., str]) -> None:
    assert "random-small" in refused("predict", "./no-such-model", "good")


def test_an_unknown_column_names_the_closest(refused: Callable[..., str], model_folder: Path, reviews: Path) -> None:
    assert "did you mean 'text'?" in refused("predict", model_folder, "--input", reviews, "--text-column", "txt")


def test_a_model_folder_that_cannot_be_written_is_read_and_left_as_it_is(
    run: Callable[..., Any], model_folder: Path
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in model_folder.iterdir()}
    model_folder.chmod(0o555)
    try:
        status, out, _ = run("predict", model_folder, "good")
    finally:
        model_folder.chmod(0o755)
    assert (status, out.count("\n")) == (0, 1)
    assert {path.name: path.stat().st_mtime_ns for path in model_folder.iterdir()} == before


def test_of_a_folder_the_test_part_is_classified_and_told(run: Run, model_folder: Path, tmp_path: Path) -> None:
    for part, text in {"train": "good", "dev": "so so", "test": "bad"}.items():
        (tmp_path / f"{part}.csv").write_text(f"text\n{text}\n")
    status, out, err = run("predict", model_folder, "--input", tmp_path, "--output-format", "csv")
    assert status == 0
    assert out.splitlines()[1].startswith("bad,")
    assert "test.csv is classified; --split names another" in err
    status, out, err = run("predict", model_folder, "--input", tmp_path, "--split", "dev", "--output-format", "csv")
    assert (status, err) == (0, "")
    assert out.splitlines()[1].startswith("so so,")


def test_a_folder_without_a_test_part_is_not_classified_by_its_train_part(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.csv").write_text("text,label\ngood,pos\n")
    assert "no 'test' split" in refused("predict", model_folder, "--input", tmp_path)


def test_a_folder_called_csv_is_refused_as_a_folder(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "reviews.csv").mkdir()
    error = refused("predict", model_folder, "--input", tmp_path / "reviews.csv", "--output", tmp_path / "answers.csv")
    assert "no data in folder" in error
    assert not (tmp_path / "answers.csv").exists()


def test_a_part_is_named_only_of_what_has_parts(
    refused: Callable[..., str], model_folder: Path, reviews: Path, stdin: Callable[[bytes], None]
) -> None:
    said = refused("predict", model_folder, "--input", reviews, "--split", "dev")
    assert f"--split dev: {str(reviews)!r} is a file, and has no parts; name a folder or hub:NAME" in said
    stdin(b"good\n")
    assert "--split dev: standard input has no parts" in refused("predict", model_folder, "-", "--split", "dev")
    said = refused("predict", model_folder, "--input", "hub:x:y:train", "--split", "dev")
    assert "--split dev beside 'hub:x:y:train', which names its part 'train'" in said


@pytest.mark.parametrize("verb", ["evaluate", "calibrate", "bench", "check"])
def test_every_verb_refuses_a_part_of_a_file(
    refused: Callable[..., str], model_folder: Path, reviews: Path, verb: str
) -> None:
    assert "is a file, and has no parts" in refused(verb, model_folder, reviews, "--split", "test")
