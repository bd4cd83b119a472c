"""`elbert train` and `elbert schemes` as a user types them."""

from __future__ import annotations

import json

import pytest

from elbert.cli import main
from elbert.training import schemes
from tests.training.conftest import train_command


@pytest.fixture
def words(tmp_path, tiny_texts):
    """The words of a small run, after `elbert`."""
    return train_command(tmp_path, tiny_texts, epochs=1)[3:]


def test_train_prints_scores_and_what_to_do_next(words, tmp_path, capsys):
    assert main(words) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()[:5]] == ["layer", "1", "2", "3", "4"]
    assert f"elbert evaluate {tmp_path / 'out'} TEST_DATA" in printed.out
    assert "kept aside as dev split" in printed.err
    assert (tmp_path / "out" / "config.json").is_file()


def test_train_json_is_one_line_alone_on_stdout(words, tmp_path, capsys):
    dev = str(tmp_path / "data.jsonl")
    flags = ["--json", "--eval", dev, "--scheme", "elbert_balanced", "-o", "pull=2", "--metric", "f1"]
    assert main([*words, *flags]) == 0
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    summary = json.loads(line)
    assert (summary["scheme"], summary["metric"], summary["train_rows"]) == ("elbert_balanced", "f1_macro", 24)
    assert len(summary["layer_scores"]) == len(summary["scheme_weights"]) == 4
    assert f"elbert evaluate {tmp_path / 'out'} TEST_DATA" in printed.err  # the dev texts chose the epoch
    assert "24 of the 24 texts of" in printed.err  # and here they were learnt from, too
    saved = json.loads((tmp_path / "out" / "elbert.json").read_text())
    assert saved["scheme"]["options"]["pull"] == 2


def test_train_says_what_it_read_as_what_and_leaves_out_broken_rows_when_asked_to(words, tmp_path, capsys, tiny_texts):
    data = tmp_path / "train.txt"
    rows = "".join(f"{text}\t{place % 2}\n" for place, text in enumerate(tiny_texts))
    data.write_text(f"sentence\tlabel\n{rows}broken\n", encoding="utf-8")
    words = [str(data) if word.endswith("data.jsonl") else word for word in words]
    assert main(words) == 2
    assert "names columns, so it is no plain text; read it with --input-format tsv" in capsys.readouterr().err
    assert main([*words, "--input-format", "tsv"]) == 1
    assert "row 9 (line 10): cells: 1, where the header names 2" in capsys.readouterr().err
    assert main([*words, "--input-format", "tsv", "--skip-broken-rows"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any("1 of 9 rows skipped; the first" in line for line in lines)
    assert any("text from 'sentence', label from 'label', read as single-label" in line for line in lines)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--scheme", "elbrt"], "unknown scheme 'elbrt'; did you mean 'elbert'"),
        (["--scheme", "elbert", "-o", "pull=2"], "scheme 'elbert' has no option 'pull'"),
        (["-o", "pull"], "--scheme-option 'pull' is not NAME=VALUE"),
        (["--epochs", "0"], "epochs is 0; allowed: at least 1"),
        (["--learning-rate", "-1"], "learning_rate is -1.0; allowed: more than 0"),
        (["--dtype", "int8"], "unknown dtype 'int8'"),
        (["--metric", "pearson"], "does not fit a single_label_classification model"),
        (["--metric-for-best", "last"], "unknown metric_for_best 'last'"),
        (["--report-to", "nobody"], "report_to is 'nobody': nobody is not supported"),
        (["--model", "/no/such/folder"], "there is no model folder"),
        (["--eval", "/no/such/file.csv"], "/no/such/file.csv"),
        (["--label-column", "stars"], "stars"),
        (["--resume"], "nothing to resume"),
        (["--set", "epoch=3"], "unknown training setting 'epoch'; did you mean 'epochs'"),
        (["--set", "warmup=much"], "training setting warmup is 'much'; allowed: float"),
        (["--seed", "0", "--set", "seed=5"], "seed was given twice, by --seed and by --set seed=…"),
        (["--class-weight", "even"], "unknown class_weight 'even'; allowed: balanced"),
        (["--teacher", "random-tiny"], "random-tiny is a shape with random weights and no trained model; train one"),
        (["--temperature", "3"], "temperature says how a teacher is learnt from; give --teacher"),
        (["--unlabelled", "more.txt"], "more.txt"),
        (["--leap", "-1"], "leap is -1.0; allowed: at least 0"),
    ],
)
def test_a_wrong_request_is_one_line_with_status_2_and_leaves_nothing(words, tmp_path, capsys, flags, said):
    assert main([*words, *flags]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("elbert: ")
    assert said in last
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_set_takes_every_other_setting(words, tmp_path):
    further = ("warmup=0.5", "weight_decay=0", "gradient-accumulation-steps=2")
    assert main([*words, *(word for each in further for word in ("--set", each))]) == 0
    saved = json.loads((tmp_path / "out" / "elbert.json").read_text())["training"]["settings"]
    assert (saved["warmup"], saved["weight_decay"], saved["gradient_accumulation_steps"]) == (0.5, 0, 2)


def test_one_class_only_fails_with_status_1(words, tmp_path, capsys):
    (tmp_path / "data.jsonl").write_text('{"text": "a", "label": "good"}\n' * 20)
    assert main(words) == 1
    assert "every one of its 20 rows has the label 'good'" in capsys.readouterr().err


def test_schemes_lists_every_scheme_with_its_paper(capsys):
    assert main(["schemes", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == schemes.names()
    assert all(entry["summary"] and entry["citation"] for entry in entries)
    assert main(["schemes"]) == 0
    assert "2107.00175" in capsys.readouterr().out
