"""`--gates`, where an exit policy is named: what it saves is counted, and wrong values end in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from elbert import Classifier
from elbert.data import load_data
from elbert.exits import make
from elbert.exits.gates import SkipGates

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gated(model_folder: Path, tmp_path: Path) -> Path:
    """A model of four layers with gates that skip every layer they may."""
    classifier = Classifier.from_pretrained(model_folder, policy="full")
    weights = np.zeros((2, classifier.engine.weights.hidden_size + 1))
    weights[:, -1] = 1.0  # 0.73 for every text
    classifier.policies["gated"] = classifier.equip(make("entropy", gates=SkipGates().with_weights(weights)))
    classifier.save_pretrained(tmp_path / "gated")
    return tmp_path / "gated"


def test_skipped_layers_are_saved_layers(run: Run, gated: Path, reviews: Path) -> None:
    words = ("evaluate", gated, reviews, "--json", "--repeats", 1, "--policy", "full")
    skipping = json.loads(run(*words, "--gates", 0.5)[1])
    assert skipping["policy"] == {"name": "full", "gates": {"threshold": 0.5}}
    assert (skipping["mean_exit_layer"], skipping["layer_speedup"], skipping["token_layers"]) == (2, 2, 0.5)
    assert skipping["exit_histogram"] == [0, skipping["n"], 0, 0]
    running = json.loads(run(*words, "--gates", 0.9)[1])
    assert (running["mean_exit_layer"], running["score"]) == (4, running["full_depth_score"])


def test_explain_says_what_was_skipped_and_a_page_can_be_made(run: Run, gated: Path, reviews: Path) -> None:
    told = json.loads(run("explain", gated, "a very good film", "--json", "--policy", "full", "--gates", 0.5)[1])
    assert (told["exit_layer"], told["ran"], told["skipped"]) == (4, 2, [2, 3])
    assert told["reasons"][2] == "layer 3: skipped by its gate"
    page = reviews.with_name("page.html")
    flags = ("--repeats", 1, "--report", page, "--policy", "gated")
    assert run("evaluate", gated, reviews, *flags)[0] == 0
    assert page.is_file()


def test_a_calibration_tries_the_models_gates_and_says_so(run: Run, gated: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.csv"
    rows = [f"a {'good' if row % 2 else 'bad'} film {row},{'pos' if row % 2 else 'neg'}" for row in range(60)]
    held_out.write_text("\n".join(["text,label", *rows]) + "\n")
    words = ("calibrate", gated, held_out, "--policy", "full", "--max-drop", 0.5)
    status, told, err = run(*words)
    assert status == 0, err
    row = next(line for line in told.splitlines() if line.startswith("drop-50"))
    assert "gates" in told.splitlines()[0]
    assert "2.00x" in row
    assert "leaving early and skipping layers cost less than 0.5" in row
    saved = Classifier.from_pretrained(gated)
    assert saved.policy == make("full", gates=0.5)
    assert saved.calibration["drop-50"]["gates"] == [0.5]
    assert json.loads(run("predict", gated, "a good film")[1])["exit_layer"] == 2
    for flags, tried in ((["--gates", "none"], None), (["--gates", "0.9", "--gates", "0.4"], [0.9, 0.4])):
        evidence = json.loads(run(*words, *flags, "--json")[1])["calibration"]["drop-50"]
        assert evidence.get("gates") == tried
        assert evidence["mean_exit_layer"] == (2 if tried else 4)


def test_a_sweep_draws_skipped_layers_as_curves_of_their_own(
    run: Run, gated: Path, reviews: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "sweep"
    words = ("sweep", gated, reviews, "--out", out, "--policies", "entropy", "--timed", 0, "--bootstrap", 100)
    status, told, err = run(*words, "--also", gated)
    assert status == 0, err
    assert "entropy+gates" in told
    curves = {curve["policy"]: curve for curve in json.loads((out / "sweep.json").read_text())["curves"]}
    assert list(curves) == ["entropy", "fixed", "entropy+gates", "fixed+gates"]
    deepest = curves["fixed+gates"]["points"][-1]
    assert deepest["policy"] == {"name": "fixed", "layer": 4, "gates": {"threshold": 0.5}}
    left = deepest["exit_histogram"]
    assert (deepest["mean_exit_layer"], sum(left)) == (2, left[1])
    classifier = Classifier.from_pretrained(gated)
    dataset = load_data(reviews, labels=classifier.labels)
    said = classifier.predict_proba(dataset.texts, policy=make("full", gates=0.5)).argmax(-1)
    assert deepest["score"] == (said == np.array(dataset.labels)).mean()
    none = json.loads(run(*words, "--overwrite", "--gates", "none", "--json")[1])
    assert list(none["areas"]) == ["entropy", "fixed"]


def test_wrong_values_end_in_one_line(
    refused: Callable[..., str], gated: Path, model_folder: Path, reviews: Path
) -> None:
    assert "gates: threshold is 2.0; allowed: a number from 0 to 1" in refused("evaluate", gated, reviews, "--gates", 2)
    none = refused("evaluate", model_folder, reviews, "--gates", 0.5)
    assert "gates were never trained: train with scheme skip_gates" in none
    tried = ("--gates", "none", "--gates", 0.5)
    assert "allowed: numbers from 0 to 1, or auto or none alone" in refused("calibrate", gated, reviews, *tried)
    assert "gates were never trained" in refused("calibrate", model_folder, reviews, "--gates", 0.5, "--allow-seen")
    words = ("export", gated, "--out", gated.with_name("graphs"), "--policy", "gated")
    assert "skips layers by gates, which run.py cannot" in refused(*words)
