"""Static rivals of a comparison: each trains, keeps the layers it says, and stands beside policies at as many."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import compare
from compare_rivals import Rival
from compare_standing import speedup
from elbert import Classifier
from tests.benchmarks.comparing import call_from_start, write_start, write_study

STUDY = """
start = "tiny"

[settings]
epochs = 1
batch_size = 8
learning_rate = 1e-2
dtype = "float32"
words = false

[schemes.equal]

[rivals.first]
kind = "first"
layers = [2]

[rivals.distilled]
kind = "distilled"
layers = [2]
teacher = "equal"

[rivals.layer_drop]
kind = "layer_drop"

[rivals.early_bert]
kind = "early_bert"

[[corpora]]
name = "sst2"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """A study with rivals that has been run once."""
    folder = tmp_path_factory.mktemp("rivals")
    write_study(folder, STUDY, tiny_texts)
    write_start(folder, tiny_texts)
    call_from_start(folder)
    return folder


def test_each_is_a_row_beside_the_policies_at_as_many_layers(folder: Path) -> None:
    lengths = load_file(folder / "out" / "sst2-early_bert-0" / "records" / "test.safetensors")["lengths"]
    tokens, pairs = int(lengths.sum()), int((lengths**2).sum())
    # 32 units, 64 neurons of which 39 stay, 2 heads that both stay.
    whole, left = ((4 * 32 * 32 + 2 * 32 * neurons) * tokens + 2 * 32 * pairs for neurons in (64, 39))
    found = json.loads((folder / "out" / "results.json").read_text())
    assert [(row["rival"], row["layers"], row["models"]) for row in found["rivals"]] == [
        ("first", 2, 1),
        ("distilled", 2, 1),
        ("layer_drop", 2, 1),
        ("early_bert", pytest.approx(4 * left / whole), 1),
    ]
    equal = found["rows"][0]
    for row in found["rivals"]:
        assert (row["corpus"], row["scheme"]) == ("sst2", "equal")
        assert set(row["policies"]) == {"fixed", "entropy"}
        value, more, edges = row["policies"]["fixed"]
        assert more == pytest.approx(row["score"] - value)
        assert edges[0] <= more <= edges[1]
        if row["layers"] == 2:
            assert value == pytest.approx(equal["policies"]["fixed"]["at_speedups"][2]["score"])  # 2 of 4 layers
    page = (folder / "out" / "report.md").read_text()
    assert "| every text runs | layers | seeds | minutes | score | above `fixed` | above `entropy` |" in page
    assert "| `layer_drop` | 2 | 1 |" in page
    assert "`early_bert` runs every layer with 80% of its weights" in page  # 6,592 of 8,192


def test_each_is_trained_as_it_says(folder: Path) -> None:
    out = folder / "out"
    told = {
        name: json.loads((out / f"sst2-{name}" / "model" / "elbert.json").read_text())["training"]
        for name in ("first-2-0", "distilled-2-0", "layer_drop-0", "early_bert-0", "equal-0")
    }
    assert told["first-2-0"]["settings"]["epochs"] == told["distilled-2-0"]["settings"]["epochs"] == 2
    assert told["layer_drop-0"]["settings"]["epochs"] == 1
    assert told["early_bert-0"]["settings"]["epochs"] == 2  # 1 / 0.62, by BERT's proportions
    assert told["early_bert-0"]["settings"]["learning_rate"] == 2e-2
    assert [name for name, each in told.items() if "teacher" in each] == ["distilled-2-0"]
    whole, kept = (Classifier.from_pretrained(out / "sst2-layer_drop-0" / name) for name in ("whole", "model"))
    assert (whole.num_layers, kept.num_layers) == (4, 2)


def test_thinner_layers_are_timed_as_such_and_answer_as_they_were_recorded(folder: Path, tiny_texts: list[str]) -> None:
    [(each, at)] = [
        (each, folder / "out" / each.name)
        for each in compare.Study.read(folder / "study.toml").rival_runs()
        if each.rival.kind == "early_bert"
    ]
    timed, saved = each.classifier(at, "model"), Classifier.from_pretrained(at / "model")
    np.testing.assert_allclose(timed.predict_proba(tiny_texts), saved.predict_proba(tiny_texts), atol=1e-6)
    assert len(timed.engine.weights.layers[0][0].up.weight) == 39
    assert speedup(saved, timed, tiny_texts, rounds=1) > 0


def test_what_is_there_is_not_made_again_and_models_go_when_nobody_learns_from_them(folder: Path) -> None:
    before = (folder / "out" / "results.json").read_text()
    again = call_from_start(folder, "--report", "--drop-models")
    assert json.dumps(again) + "\n" == before
    assert not list((folder / "out").glob("*/model"))
    assert call_from_start(folder, "--report", "--rivals", "first")["rivals"][0]["rival"] == "first"
    (folder / "out" / "sst2-distilled-2-0" / "records").rename(folder / "elsewhere")
    with pytest.raises(Exception, match="is taught by sst2-equal-0, whose model is gone: train it again"):
        call_from_start(folder)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"kind": "second"}, "is of kind 'second'; allowed: first, distilled, layer_drop, early_bert, cascade"),
        ({"kind": "first"}, r"has layers \[\]; allowed: a list of numbers"),
        ({"kind": "layer_drop", "layers": [2]}, r"has layers \[2\]; allowed: none, for every other one is kept"),
        ({"kind": "early_bert", "layers": [2]}, "allowed: none, for all are kept, and made thinner"),
        ({"kind": "distilled", "layers": [2]}, "has the teacher None; allowed: one of equal"),
    ],
)
def test_a_rival_that_is_none_is_refused_with_one_line(content: dict[str, Any], line: str) -> None:
    with pytest.raises(SystemExit, match=line):
        Rival.read("mine", content, ["equal"])
