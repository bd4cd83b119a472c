"""What decides whether the CUDA loop is switched on, and what is said where there is no card."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import device_loop


def row(**found: Any) -> dict[str, Any]:
    """Return one line of the table, right and half as fast again."""
    return {
        "dtype": "float32",
        "policy": {"name": "elbert"},
        "batch": 32,
        "gain_range": [1.5, 1.8],
        "differing": 0.0,
        **found,
    }


@pytest.mark.parametrize(
    ("rows", "on", "why"),
    [
        ([row(), row(gain_range=[1.2, 3.0])], True, "ELBERT_CUDA_LOOP=1.*1.20 times"),
        ([row(), row(gain_range=[0.9, 3.0], batch=256)], False, "0.90 times .* elbert at 256 in flight in float32"),
        ([row(), row(differing=0.01)], False, "1.0% of the texts differ under elbert in float32"),
        ([row(dtype="float16", differing=0.01)], True, "switch it on"),
    ],
)
def test_only_what_is_right_and_faster_in_every_round_is_switched_on(
    rows: list[dict[str, Any]], on: bool, why: str
) -> None:
    switch, said = device_loop.verdict(rows)
    assert switch is on
    assert re.search(why, said)


def test_both_roads_are_run_on_the_same_texts_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = device_loop.Classifier.from_pretrained("mini-sentiment", device="cpu")
    pair = device_loop.engines(classifier.model.weights(), "float32", torch.device("cpu"))
    options = device_loop.argparse.Namespace(data=None, count=12)
    texts = device_loop.texts_of(classifier, options)
    found = device_loop.beside(pair, texts, device_loop.make("elbert"), 4, rounds=2)
    assert found["differing"] == 0
    assert found["gain_range"][0] <= found["gain"] <= found["gain_range"][1]
    wrong = dict.fromkeys(range(12), (0, 0))
    monkeypatch.setattr(device_loop, "timed", lambda engine, *_: (1.0, wrong if engine is pair[0] else {}))
    assert device_loop.beside(pair, texts, device_loop.make("elbert"), 4, rounds=1)["differing"] == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_card_one_line_says_so() -> None:
    done = subprocess.run(
        [sys.executable, str(device_loop.__file__)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "device_loop.py: no CUDA device here, so the loop can't be tried: run this on a machine with one"
    ]
