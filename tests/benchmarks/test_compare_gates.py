"""A comparison of a model whose texts skip layers: recorded with its gates, and counted by the layers that were run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import compare
from compare_judge import fitted_policies
from elbert import Classifier
from elbert.exits import make, replay
from elbert.exits.gates import SkipGates
from tests.benchmarks.comparing import call

STUDY = """
start = "random-tiny"

[settings]
heads = "full"
epochs = 1
batch_size = 8
dtype = "float32"
words = false

[schemes.skip_gates]

[[corpora]]
name = "sst2"
"""


def test_gates_come_to_the_study_of_twelve_layers_of_their_own_beside_the_runs_that_are_there() -> None:
    study = compare.Study.read(Path(compare.__file__).with_name("studies") / "mpnet.toml")
    others = {scheme: settings for scheme, settings in study.schemes.items() if scheme != "skip_gates"}
    assert len(others) == len(study.schemes) - 1
    before = replace(study, schemes=others)
    runs, there = ({run.name: run.settings for run in each.runs()} for each in (study, before))
    assert there.items() <= runs.items()
    rivals, made = ([(each.name, each.run.settings) for each in kind.rival_runs()] for kind in (study, before))
    assert rivals == made


def test_policies_stand_on_top_of_the_gates(
    tmp_path: Path, tiny_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sst2").mkdir()
    for part in ("train", "test"):
        lines = [{"text": f"{tiny_texts[row % 8]} {row}", "label": ("good", "bad")[row % 2]} for row in range(24)]
        (tmp_path / "sst2" / f"{part}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "study.toml").write_text(STUDY)
    real = compare.Run.train

    def train(run: compare.Run, data: Path, start: str, folder: Path) -> None:
        """Train, and let gates skip layer 2 of every text whatever they learnt."""
        real(run, data, start, folder)
        classifier = Classifier.from_pretrained(folder / "model")
        weights = torch.zeros(2, 33)
        weights[:, -1] = torch.tensor([2.0, -2.0])
        classifier.policies["q_exit"] = make("q_exit").with_tensors({"weight": torch.ones(64), "bias": 0.5})
        classifier.policies["gated"] = make("entropy", gates=SkipGates().with_weights(weights))
        classifier.save_policies(folder / "model")

    monkeypatch.setattr(compare.Run, "train", train)
    [row] = call(tmp_path, ["entropy", "certainty"])["rows"]
    assert set(row["policies"]) == {"entropy", "fixed"}  # certainty learns, and reads every layer's exit
    assert row["by_layer"][2] == row["by_layer"][3]  # three layers are all that any text runs
    answers = compare.read(tmp_path / "out" / "sst2-skip_gates-0")
    assert answers.test.depth[0].tolist() == [1, 3, 4, 4]
    along = fitted_policies(replace(answers, kept=replace(answers.kept, gates=None)), ["q_exit", "certainty"])
    assert along["q_exit"].tensors()["weight"].tolist() == [1.0] * 64  # the model's own: it was learnt along
    assert set(along["certainty"].tensors()) == {"weight", "bias"}
    assert set(replay(make("full", gates=0.5), answers.test).tolist()) == {3}
