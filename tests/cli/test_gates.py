"""`--gates`, where an exit policy is named: what it saves is counted, and wrong values end in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from elbert import Classifier
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


def test_wrong_values_end_in_one_line(
    refused: Callable[..., str], gated: Path, model_folder: Path, reviews: Path
) -> None:
    assert "gates: threshold is 2.0; allowed: a number from 0 to 1" in refused("evaluate", gated, reviews, "--gates", 2)
    none = refused("evaluate", model_folder, reviews, "--gates", 0.5)
    assert "gates were never trained: train with scheme skip_gates" in none
    words = ("export", gated, "--out", gated.with_name("graphs"), "--policy", "gated")
    assert "skips layers by gates, which run.py cannot" in refused(*words)
