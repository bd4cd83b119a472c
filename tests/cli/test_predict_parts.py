"""`elbert predict --part-rows`: a folder of parts that a run killed at any moment completes when it is run again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from elbert.scaleout import parts as parts_module
from elbert.scaleout.parts import Block, How, open_parts
from elbert.scaleout.workers import complete, here

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    texts = [f"a {'good' if number % 3 else 'bad'} film {number}" for number in range(25)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_parts_together_are_what_one_file_would_be(run: Run, model_folder: Path, lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers"
    words = ("predict", model_folder, "--input", lines, "--output", out, "--part-rows", 10)
    status, printed, told = run(*words)
    assert (status, printed) == (0, "")
    assert [path.name for path in sorted(out.iterdir())] == [
        "manifest.json",
        *(f"part-0000{n}.jsonl" for n in range(3)),
    ]
    whole = run("predict", model_folder, "--input", lines)[1].splitlines()
    labels = [json.loads(line)["label"] for line in whole]
    joined = "".join((out / f"part-0000{number}.jsonl").read_text() for number in range(3)).splitlines()
    assert [json.loads(line)["label"] for line in joined] == labels
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["finished"], manifest["rows"], [part["rows"] for part in manifest["parts"]]) == (
        True,
        25,
        [10, 10, 5],
    )
    layers = [json.loads(line)["exit_layer"] for line in joined]
    assert manifest["mean_exit_layer"] == pytest.approx(sum(layers) / 25)
    mean = f"mean exit layer {manifest['mean_exit_layer']:.2f}"
    assert told == f"rows answered: 25, parts: 3, {mean}: {out}\n"
    assert run(*words)[2] == f"rows answered: 25, parts: 3 (3 by an earlier run), {mean}: {out}\n"


def test_a_finished_folder_is_left_alone_and_another_request_refused(
    run: Run, refused: Callable[..., str], model_folder: Path, lines: Path, tmp_path: Path
) -> None:
    words = ("predict", model_folder, "--input", lines, "--output", tmp_path / "answers", "--part-rows", 10)
    assert run(*words)[0] == 0
    before = content(tmp_path / "answers")
    assert run(*words)[0] == 0
    assert content(tmp_path / "answers") == before
    said = refused(*words, "--policy", "fixed", "--set", "layer=2")
    assert "holds the answers to another request (policy was " in said
    assert ", is fixed: layer 2)" in said
    assert "{" not in said
    assert "--overwrite" in said
    assert content(tmp_path / "answers") == before
    assert run(*words, "--policy", "fixed", "--set", "layer=2", "--overwrite")[0] == 0
    assert json.loads((tmp_path / "answers" / "manifest.json").read_text())["mean_exit_layer"] == 2


def test_rows_that_cannot_be_read_stand_beside_their_part_with_the_reason(
    run: Run, model_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "one"}\nnonsense\n{"text": "two"}\n{"text": "three"}\n{"text": 7, "x": \n')
    words = ("predict", model_folder, "--input", path, "--output", tmp_path / "out", "--part-rows", 2)
    status, _, err = run(*words, "--skip-broken-rows")
    assert status == 0, err
    assert "rows answered: 3, parts: 2, rows left out: 2 (*.rejects.jsonl say why), mean exit layer" in err
    rejects = {
        name: [json.loads(line) for line in text.decode().splitlines()]
        for name, text in content(tmp_path / "out").items()
        if "rejects" in name
    }
    assert {name: [each["row"] for each in rows] for name, rows in rejects.items()} == {
        "part-00000.rejects.jsonl": [2],
        "part-00001.rejects.jsonl": [5],
    }
    assert all("row" in each["reason"] for rows in rejects.values() for each in rows)
    assert not any("--skip-broken-rows" in each["reason"] for rows in rejects.values() for each in rows)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["rejected"] == 2


def test_without_leave_a_broken_row_stops_the_run_and_whole_parts_stay(
    run: Run, refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "texts.jsonl"
    rows = ['{"text": "one"}\n', '{"text": "two"}\n', '{"text": "three"}\n', '{"text": "four"}\n', "nonsense\n"]
    path.write_text("".join(rows))
    words = ("predict", model_folder, "--input", path, "--output", tmp_path / "out", "--part-rows", 2)
    assert "row 5" in refused(*words, status=1)
    kept = content(tmp_path / "out")
    assert "part-00000.jsonl" in kept
    path.write_text("".join([*rows[:4], '{"text": "five"}\n']))  # mended behind what was answered
    assert run(*words)[0] == 0
    assert content(tmp_path / "out")["part-00000.jsonl"] == kept["part-00000.jsonl"]
    path.write_text("".join(['{"text": "other"}\n', *rows[1:4]]))
    (tmp_path / "out" / "manifest.json").write_text(
        (tmp_path / "out" / "manifest.json").read_text().replace('"finished": true', '"finished": false')
    )
    assert "are others than those it answers" in refused(*words, status=1)


def test_a_whole_folder_answers_no_other_input(
    run: Run, refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("one\ntwo\nthree\nfour\n")
    words = ("predict", model_folder, "--input", path, "--output", tmp_path / "out", "--part-rows", 2)
    assert run(*words)[0] == 0
    before = content(tmp_path / "out")
    for changed, said in [
        ("one\ntwo\nthree\nfive\n", "the rows of part-00001.jsonl are others than those it answers"),
        ("one\ntwo\nthree\n", "the input is shorter than it was (rows of part-00001.jsonl: 2 then, 1 now)"),
        ("one\ntwo\n", "the input ends before the rows that part-00001.jsonl answers"),
    ]:
        path.write_text(changed)
        assert f"{said}; give the input it was begun with" in refused(*words, status=1)
        assert content(tmp_path / "out") == before
    path.write_text("one\ntwo\nthree\nfour\nfive\n")
    assert "the input goes on behind the rows that were answered" in refused(*words, status=1)
    assert content(tmp_path / "out") == before
    assert run(*words, "--overwrite")[0] == 0
    path.write_text("one\ntwo\nthree\nfour\nfive\nsix\n")  # its last part is not full
    longer = "the input is longer than it was (rows of part-00002.jsonl: 1 then, 2 now)"
    assert longer in refused(*words, status=1)


@pytest.mark.parametrize(("kind", "matters"), [("jsonl", False), ("csv", True)])
def test_only_a_column_that_the_answers_show_has_to_stay_as_it_was(
    run: Run, refused: Callable[..., str], model_folder: Path, tmp_path: Path, kind: str, matters: bool
) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("id,text\n1,one\n2,two\n3,three\n")
    words = ("predict", model_folder, "--input", path, "--output", tmp_path / "out", "--part-rows", 2)
    words = (*words, "--output-format", kind)
    assert run(*words)[0] == 0
    before = content(tmp_path / "out")
    path.write_text("id,text,more\n1,one,x\n9,two,y\n3,three,z\n")
    if matters:
        assert "are others than those it answers" in refused(*words, status=1)
    else:
        assert run(*words)[0] == 0
    assert content(tmp_path / "out") == before


def test_a_folder_of_another_format_is_told_how_to_go_on(
    run: Run, refused: Callable[..., str], model_folder: Path, lines: Path, tmp_path: Path
) -> None:
    words = ("predict", model_folder, "--input", lines, "--output", tmp_path / "answers", "--part-rows", 10)
    assert run(*words)[0] == 0
    manifest = tmp_path / "answers" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    assert "is of format 1, this version writes 2; name another folder" in refused(*words, status=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "2"], "--workers 2 needs --part-rows"),
        (["--ray", "local"], "--ray local needs --part-rows"),
        (["--part-rows", "5"], "name it with --output"),
    ],
)
def test_flags_that_say_nothing_are_refused(
    refused: Callable[..., str], model_folder: Path, lines: Path, words: list[str], said: str
) -> None:
    assert said in refused("predict", model_folder, "--input", lines, *words)


def test_a_folder_of_something_else_is_left_alone(
    refused: Callable[..., str], model_folder: Path, lines: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    said = refused("predict", model_folder, "--input", lines, "--output", tmp_path / "mine", "--part-rows", 5)
    assert "'thesis.txt', which no such run wrote" in said
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("rows", "words", "status"),
    [
        ("nonsense\n", [], 1),
        ("", [], 1),
        ('{"text": "a film"}\n', ["--text-column", "txt"], 2),
        ('{"text": "a film"}\n', ["--workers", "2", "--pair"], 1),
    ],
)
def test_a_run_that_fails_before_its_first_part_leaves_nothing(
    run: Run, refused: Callable[..., str], model_folder: Path, tmp_path: Path, rows: str, words: list[str], status: int
) -> None:
    path, out = tmp_path / "texts.jsonl", tmp_path / "new" / "answers"
    path.write_text(rows)
    asked = ("predict", model_folder, "--input", path, "--output", out, "--part-rows", 2)
    refused(*asked, *words, status=status)
    assert not out.parent.exists()
    out.mkdir(parents=True)
    refused(*asked, *words, status=status)
    assert list(out.iterdir()) == []  # the user's own folder stays
    path.write_text('{"text": "a film"}\n')
    assert run(*asked)[0] == 0
    before = content(out)
    path.write_text(rows)
    refused(*asked, *words, "--policy", "fixed", "--set", "layer=2", "--overwrite", status=status)
    assert content(out) == before  # they are replaced by answers, not by none


class Puppet:
    """Answers with the text's own length, and dies at a text that says so."""

    def __init__(self, deadly: str = "") -> None:
        self.deadly = deadly

    def stream(self, texts: Any, *, batch_size: int) -> Any:
        del batch_size
        for text in texts:
            if text == self.deadly:
                raise KeyboardInterrupt
            yield Answer(len(text))


class Answer:
    def __init__(self, layer: int) -> None:
        self.exit_layer = layer


class Plain:
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, columns: Any, cells: Any, prediction: Any) -> None:
        del columns
        self.stream.write(f"{cells['text']} {prediction.exit_layer}\n")


def blocks(count: int, size: int) -> Any:
    texts = [str(number) for number in range(count)]
    for start in range(0, count, size):
        part = texts[start : start + size]
        yield Block(("text",), part, [{"text": text} for text in part])


HOW = How(Plain, 8)


def answered(folder: Path, deadly: str = "") -> None:
    answering = partial(here, how=HOW, classifier=Puppet(deadly))  # type: ignore[arg-type]
    with open_parts(folder, ".txt", {"model": "m"}, overwrite=False) as parts:
        complete(parts, blocks(40, 7), answering)


def test_a_run_broken_anywhere_ends_in_the_same_bytes(tmp_path: Path) -> None:
    answered(tmp_path / "unbroken")
    for deadly in ("0", "6", "7", "20", "39"):
        with pytest.raises(KeyboardInterrupt):
            answered(tmp_path / "broken", deadly)
    answered(tmp_path / "broken")
    assert content(tmp_path / "broken") == content(tmp_path / "unbroken")


def test_what_a_kill_leaves_between_part_and_manifest_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(tmp_path / "unbroken")

    def killed(_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(parts_module.Parts, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            answered(tmp_path / "broken")
    (tmp_path / "broken" / ".part-00001.txt.99.part").write_text("half a")
    answered(tmp_path / "broken")
    assert content(tmp_path / "broken") == content(tmp_path / "unbroken")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_a_folder_that_cannot_be_made_is_told_in_one_line(
    refused: Callable[..., str], model_folder: Path, lines: Path
) -> None:
    said = refused("predict", model_folder, "--input", lines, "--output", "/proc/x", "--part-rows", 5)
    assert "cannot write '/proc/x': No such file or directory; name a place where files can be made" in said


def test_two_runs_never_share_a_folder(
    tmp_path: Path, refused: Callable[..., str], model_folder: Path, lines: Path
) -> None:
    with open_parts(tmp_path / "out", ".jsonl", {}, overwrite=False):
        said = refused("predict", model_folder, "--input", lines, "--output", tmp_path / "out", "--part-rows", 5)
    assert "another run is writing" in said


def _alive(pid: str) -> bool:
    """Tell whether a process runs, and is not just still to be taken note of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_process_killed_outright_is_completed_in_this_one(run: Run, model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"a film number {number}\n" for number in range(1500)))
    words = [sys.executable, "-m", "elbert", "predict", str(model_folder), "--input", str(path), "--output"]
    more = ["--part-rows", "50", "--workers", "2"]
    with subprocess.Popen([*words, str(tmp_path / "broken"), *more], stderr=subprocess.PIPE) as running:
        while running.poll() is None and not list(tmp_path.glob("broken/part-0000[2-9]*")):
            time.sleep(0.01)
        workers = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        pids = workers.read_text().split() if workers.exists() else []
        running.send_signal(signal.SIGKILL)
    end = time.monotonic() + 30
    while any(_alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(map(_alive, pids))
    for name in ("broken", "unbroken"):
        assert run(*words[3:], tmp_path / name, *more[:2])[0] == 0
    assert content(tmp_path / "broken") == content(tmp_path / "unbroken")


@pytest.mark.parametrize(
    "words", [["--split", "dev"], ["--input-format", "csv"], ["--skip-broken-rows"], ["--text-column", "x"]]
)
def test_flags_of_a_source_are_refused_where_texts_are_arguments(
    refused: Callable[..., str], model_folder: Path, words: list[str]
) -> None:
    assert f"{words[0]} says how --input is read" in refused("predict", model_folder, "a text", *words)
