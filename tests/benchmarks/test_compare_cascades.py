"""Cascades of a comparison's rivals: recorded answers are replayed, and every model that is asked is paid for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from compare_cascades import Chain, Line, line
from compare_judge import Answers, judge
from compare_rivals import Rival, RivalRun
from elbert.results import LayerOutputs
from elbert.scoring.points import TradeoffCurve
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
layers = [2, 4]

[rivals.layer_drop]
kind = "layer_drop"

[rivals.both]
kind = "cascade"
chains = [["first-2", "first-4"]]

[[corpora]]
name = "sst2"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """A study with a cascade, of which that was run and what it is made of."""
    folder = tmp_path_factory.mktemp("cascades")
    write_study(folder, STUDY, tiny_texts)
    write_start(folder, tiny_texts)
    call_from_start(folder, "--rivals", "both")
    return folder


def test_it_is_a_line_beside_the_policies_and_brings_its_models_along(folder: Path) -> None:
    found = json.loads((folder / "out" / "results.json").read_text())
    assert [row["layers"] for row in found["rivals"]] == [2, 4]  # and no layer_drop
    [row] = found["cascades"]
    assert (row["corpus"], row["scheme"], row["models"]) == ("sst2", "equal", 1)
    assert (row["members"], row["layers"], row["timed"]) == (["first-2", "first-4"], [2, 4], [])
    assert set(row["scores"]) == {"area", "1", "1.5", "2"}  # with fewer layers than the first has nobody answers
    assert set(row["policies"]) == {"fixed", "entropy"}
    assert row["scores"]["2"] == pytest.approx(found["rivals"][0]["score"])  # where the first model answers all
    for way, (value, more, edges) in row["policies"]["fixed"].items():
        assert more == pytest.approx(row["scores"][way] - value)
        assert edges[0] <= edges[1]
    assert row["policies"]["fixed"]["2"][0] == pytest.approx(
        found["rows"][0]["policies"]["fixed"]["at_speedups"][2]["score"]
    )
    assert row["minutes"] == pytest.approx(
        sum(each["seconds"] for rival in found["rivals"] for each in rival["trained"]) / 60
    )
    page = (folder / "out" / "report.md").read_text()
    assert "| whole models in a row | minutes | area | 1× | 1.5× | 2× | 3× | 5× | 10× |" in page
    assert "| `first-2`, then `first-4` |" in page
    assert "run for real" not in page


def test_it_can_be_run_for_real(folder: Path) -> None:
    [row] = call_from_start(folder, "--report", "--timed", "2", "--rivals", "both")["cascades"]
    assert row["timed"]
    assert all(one["speedup"] > 0 and 2 <= one["layers"] <= 6 for one in row["timed"])
    assert "| run for real | `max_prob` | layers | by the clock |" in (folder / "out" / "report.md").read_text()


def answers(sure: np.ndarray, right: np.ndarray, layers: int) -> Answers:
    """Return what a model of so many layers says of texts of two classes, at its last exit; before it knows nothing."""
    labels = np.arange(len(sure)) % 2
    said = torch.zeros(len(sure), layers, 2)
    said[np.arange(len(sure)), -1, np.where(right, labels, 1 - labels)] = torch.from_numpy(
        np.where(sure, 5.0, 0.5)
    ).float()
    outputs = LayerOutputs(said, torch.softmax(said, -1), torch.full((len(sure),), 9))
    return Answers(outputs, labels, outputs, labels, {"seconds": 60.0}, {})


def judged_line(*models: tuple[np.ndarray, np.ndarray, int]) -> tuple[Line, TradeoffCurve]:
    """Return a cascade of models, each sure and right where it is said, of so many layers; and its settings."""
    names = [f"first-{layers}" for *_, layers in models]
    run: Any = None
    runs = {
        name: [(RivalRun(run, Rival("first", "first"), layers), Path())]
        for name, (*_, layers) in zip(names, models, strict=True)
    }
    said = {name: [answers(*model)] for name, model in zip(names, models, strict=True)}
    judged = judge(said[names[-1]], None, ["entropy"], 100)
    return line(Chain("both", tuple(names)), runs, said, "equal", judged, 100)


def test_a_text_costs_every_model_that_was_asked() -> None:
    every, half = np.ones(400, bool), np.arange(400) % 4 < 2
    found, curve = judged_line((half, half, 2), (every, every, 6))
    by_layers = {round(point.mean_exit_layer, 6): point.score for point in curve.points}
    assert by_layers == {2.0: 0.5, 5.0: 1.0, 8.0: 1.0}  # half of the texts are passed on; all of them
    assert found.scores["3"] == pytest.approx(0.5)
    assert found.scores["1.5"] == pytest.approx(0.5 + 0.5 * 2 / 3, abs=0.03)  # on the line to 5 layers, halves differ
    assert found.scores["area"] == pytest.approx((0.75 * 3 + 1.0) / 4, abs=0.03)
    constant = 0.5 + 0.5 * 3 / 5  # on the line from layer 1 to layer 6, which alone says something
    assert found.policies["fixed"]["1.5"][:2] == pytest.approx((constant, found.scores["1.5"] - constant))
    assert "5" not in found.scores


def test_the_last_model_can_be_asked_alone() -> None:
    every, half = np.ones(400, bool), np.arange(400) % 4 < 2
    found, curve = judged_line((every, half, 2), (every, every, 6))  # the first is as sure where it is wrong
    assert {round(point.mean_exit_layer, 6) for point in curve.points} == {2.0, 8.0}
    assert found.scores["1"] == pytest.approx(1.0)


def test_a_chain_may_have_three() -> None:
    every, part = np.ones(400, bool), np.arange(400) % 4
    found, curve = judged_line((part < 1, part < 1, 1), (part < 2, part < 2, 2), (every, every, 6))
    by_layers = {round(point.mean_exit_layer, 6): point.score for point in curve.points}
    assert by_layers == {1.0: 0.25, 1 + 2 * 0.75 + 6 * 0.5: 1.0, 9.0: 1.0}
    assert found.layers == (1, 2, 6)


def test_nearly_all_shares_of_the_texts_can_be_passed_on() -> None:
    generator = np.random.default_rng(0)
    every, right = np.ones(400, bool), generator.random(400) < 0.7
    small, large = answers(every, right, 2), answers(every, every, 6)
    small.test.probs[:, -1] = torch.softmax(small.test.logits[:, -1] * torch.rand(400, 1) * 0.2, -1)  # hardly apart
    run: Any = None
    runs = {f"first-{n}": [(RivalRun(run, Rival("first", "first"), n), Path())] for n in (2, 6)}
    said = {"first-2": [small], "first-6": [large]}
    _, curve = line(Chain("both", tuple(said)), runs, said, "equal", judge([large], None, ["entropy"], 100), 100)
    layers = np.sort([point.mean_exit_layer for point in curve.points])
    assert np.diff(layers).max() <= 6 / 12 + 1e-6


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"kind": "cascade"}, "has kind = 'cascade'; allowed: kind = 'cascade', chains = lists of runs"),
        ({"kind": "cascade", "chains": []}, r"chains = \[\]; allowed"),
        (
            {"kind": "cascade", "chains": [["a-2"]]},
            r"has the chain \['a-2'\]; allowed: two or more that differ of a-2, b",
        ),
        ({"kind": "cascade", "chains": [["a-2", "a-2"]]}, r"has the chain \['a-2', 'a-2'\]; allowed"),
        ({"kind": "cascade", "chains": [["a-2", "c"]]}, r"has the chain \['a-2', 'c'\]; allowed"),
    ],
)
def test_a_cascade_that_is_none_is_refused_with_one_line(content: dict[str, Any], line: str) -> None:
    with pytest.raises(SystemExit, match=line):
        Chain.read("mine", content, ["a-2", "b"])
