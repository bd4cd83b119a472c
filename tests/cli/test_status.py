"""Exit status: 2 where the command line itself is to be changed, 1 where it led to something that failed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from elbert.cli.app import VERBS

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

# MODEL is a model, TORN one whose weights are damaged; DATA is a file, BROKEN one with a row too wide, UNSEEN one with
# a label that no model knows; OUT is free, TAKEN holds something else, IN_FILE lies below a file.
STATUS = [
    # what is asked for is not there, or not allowed
    ("predict MODEL", 2),
    ("predict MODEL text --polciy elbert", 2),
    ("predict MODEL text --batch-size many", 2),
    ("predict MODEL text --policy elbrt", 2),
    ("predict MODEL text --threshold 5", 2),
    ("predict ./none text", 2),
    ("predict DATA text", 2),
    ("predict MODEL --input ./none.csv", 2),
    ("predict MODEL --input DATA --text-column txt", 2),
    ("predict MODEL --input DATA --output ./no/answers.csv", 2),
    ("predict MODEL --input DATA --output IN_FILE --part-rows 2", 2),
    ("predict MODEL --input DATA --output TAKEN --part-rows 2", 2),
    ("evaluate MODEL ./none.csv", 2),
    ("evaluate MODEL DATA --metric pearson", 2),
    ("evaluate MODEL DATA --device nowhere", 2),
    ("calibrate MODEL DATA --max-drop 1.5 --out OUT", 2),
    ("calibrate MODEL DATA --out TAKEN", 2),
    ("check MODEL DATA --fail-below 2", 2),
    ("check MODEL DATA", 2),
    ("sweep MODEL DATA --policies elbrt --out OUT", 2),
    ("sweep MODEL DATA --timed 0 --bootstrap 100 --policies patience --out IN_FILE", 2),
    ("bench MODEL DATA --against nobody", 2),
    ("explain MODEL text --label maybe --json", 2),
    ("explain MODEL text", 2),
    ("export MODEL --format paper --out OUT", 2),
    ("export MODEL --out TAKEN", 2),
    ("serve ./none --port 0", 2),
    ("serve MODEL --port 99999", 2),
    ("cascade MODEL MODEL --data DATA --out OUT", 2),
    ("train ./none.csv --out OUT", 2),
    ("train DATA --model random-tiny --label-column lable --out OUT", 2),
    ("train DATA --model random-tiny --out IN_FILE", 2),
    ("train DATA --set epochs=many --out OUT", 2),
    ("pretrain ./none.txt --out OUT", 2),
    ("pretrain CORPUS --settings ./none.toml --out OUT", 2),
    ("pretrain CORPUS --out IN_FILE", 2),
    ("demo --out TAKEN", 2),
    ("demo --out IN_FILE", 2),
    ("policies elbert", 2),
    ("schemes elbert", 2),
    # what is there fails
    ("predict MODEL --input BROKEN", 1),
    ("predict TORN text", 1),
    ("evaluate MODEL BROKEN", 1),
    ("evaluate MODEL UNSEEN", 1),
    ("calibrate MODEL UNSEEN --out OUT", 1),
    ("calibrate MODEL DATA --out OUT", 1),  # too few texts
    ("check TORN DATA", 1),
    ("sweep MODEL BROKEN --out OUT", 1),
    ("bench MODEL UNSEEN --against none", 1),
    ("explain MODEL --data BROKEN --out PAGE", 1),
    ("export TORN --out OUT", 1),
    ("serve TORN --port 0", 1),
    ("cascade MODEL TORN --data DATA --out OUT", 1),
    ("train BROKEN --out OUT", 1),
    ("train DATA --model TORN --out OUT", 1),
    ("pretrain BROKEN_CORPUS --out OUT", 1),
    # an answer
    ("predict MODEL text", 0),
    ("policies", 0),
    ("schemes", 0),
]


@pytest.fixture
def places(model_folder: Path, reviews: Path, tmp_path: Path) -> dict[str, Path]:
    """What the table's words in capitals stand for."""
    made = {
        "BROKEN": "text,label\na film,neg\na film,pos,and more\n",
        "UNSEEN": "text,label\na film,neg\na bad film,maybe\n",
        "CORPUS": "a good film\n\na bad film\n" * 20,
        "BROKEN_CORPUS": "no object\n",
    }
    names = {"BROKEN": "broken.csv", "UNSEEN": "unseen.csv", "CORPUS": "corpus.txt", "BROKEN_CORPUS": "broken.jsonl"}
    found = {word: tmp_path / name for word, name in names.items()}
    for word, path in found.items():
        path.write_text(made[word])
    shutil.copytree(model_folder, tmp_path / "torn")
    (tmp_path / "torn" / "model.safetensors").write_bytes(b"torn")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years of work")
    found |= {"MODEL": model_folder, "DATA": reviews, "TORN": tmp_path / "torn", "TAKEN": tmp_path / "taken"}
    return found | {"IN_FILE": reviews / "in", "OUT": tmp_path / "out", "PAGE": tmp_path / "page.html"}


@pytest.mark.parametrize(("words", "status"), STATUS)
def test_the_status_says_whether_the_request_or_what_it_led_to_is_to_be_changed(
    words: str, status: int, run: Callable[..., tuple[int, str, str]], places: dict[str, Path], tmp_path: Path
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    given, out, err = run(*(places.get(word, word) for word in words.split()))
    assert given == status, err
    if status:
        assert out == ""
        assert err.splitlines()[-1].startswith("elbert: ")
        assert "this is a bug" not in err
        assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_every_verb_stands_in_the_table() -> None:
    assert {words.split()[0] for words, status in STATUS if status == 2} == set(VERBS)
    fail = {words.split()[0] for words, status in STATUS if status == 1}
    assert fail == set(VERBS) - {"demo", "policies", "schemes"}  # which read nobody's files
