"""Ctrl-C and SIGTERM: one line that says what is kept of the work, and nothing half-written."""

from __future__ import annotations

import json
import pkgutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elbert.engine.scheduler import Scheduler

pytest.importorskip("matplotlib")

Run = Callable[..., tuple[int, str, str]]

NOTHING = "nothing was written to OUT: start again"

# Each with what is said; none writes before its end, but for parts and the checkpoints of a training.
STOPPED = [
    ("sweep MODEL DATA --policies entropy --out OUT", NOTHING),
    ("calibrate MODEL DATA --out OUT", NOTHING),
    ("evaluate MODEL DATA --report OUT", NOTHING),
    ("evaluate MODEL DATA", ""),
    ("explain MODEL --data DATA --out OUT", NOTHING),
    ("cascade MODEL OTHER --data DATA --out OUT", NOTHING),
    ("bench MODEL DATA --against none --plot OUT.png", "nothing was written to OUT.png: start again"),
    ("export MODEL --out OUT", NOTHING),
    ("predict MODEL --input DATA --output OUT --output-format csv", NOTHING),
    ("predict MODEL --input DATA --output OUT --part-rows 3", "0 parts are whole in OUT: the same command goes on"),
    ("predict MODEL text", ""),
    ("train DATA --model MODEL --out OUT", NOTHING),
]


@pytest.mark.parametrize(("words", "said"), STOPPED)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_stops_a_verb_is_told_what_is_kept(
    run: Run,
    model_folder: Path,
    other_folder: Path,
    reviews: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    words: str,
    said: str,
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(Scheduler, "step", stop)
    monkeypatch.setattr("elbert.training.start_model", stop)  # later on the trainer says so itself
    monkeypatch.setattr("elbert.export.write._write_graphs", stop)
    monkeypatch.setattr("elbert.cli.bench._run", stop)
    places = {"MODEL": model_folder, "OTHER": other_folder, "DATA": reviews, "OUT": tmp_path / "out"}
    places["OUT.png"] = tmp_path / "out.png"
    before = sorted(path.name for path in tmp_path.iterdir())
    status, out, err = run(*(places.get(word, word) for word in words.split()))
    word, expected = ("terminated", 143) if number == signal.SIGTERM else ("interrupted", 130)
    for name, place in places.items():
        said = said.replace(f"to {name}:", f"to {place}:").replace(f"in {name}:", f"in {place}:")
    assert (status, out) == (expected, "")
    assert err.splitlines()[-1] == f"elbert: {word}" + (f"; {said}" if said else "")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# Where a training that has begun is stopped, and what is said.
WITHIN = [
    ("train DATA --model random-tiny --out OUT", "elbert.training.run.encode", "stopped before the first step"),
    ("train DATA --model random-tiny --teacher MODEL --out OUT", "elbert.training.teachers._ask", "0 of 7 answers"),
    ("train DATA --model random-tiny --out OUT", "elbert.training.EarlyExitTrainer.training_step", "stopped at step 1"),
    ("train DATA --model random-tiny --out OUT", "elbert.training.run.layer_zero", "what was saved is in OUT.partial"),
    ("pretrain CORPUS --settings RECIPE --out OUT", "elbert.pretraining.run.MasterWeights.step", "everything is saved"),
]


@pytest.mark.parametrize(("words", "within", "said"), WITHIN)
@pytest.mark.parametrize(("numbers", "status"), [("INT", 130), ("TERM", 143), ("TERM TERM", 143)])
def test_a_training_ends_with_the_status_of_the_signal_that_stopped_it(
    run: Run,
    model_folder: Path,
    reviews: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    within: str,
    said: str,
    numbers: str,
    status: int,
) -> None:
    place, name = within.rsplit(".", 1)
    owner = pkgutil.resolve_name(place)
    whole = getattr(owner, name)

    def stopped(*given: Any, **more: Any) -> Any:
        for each in numbers.split():  # `timeout` sends two
            signal.raise_signal(signal.Signals[f"SIG{each}"])
        return whole(*given, **more)

    monkeypatch.setattr(owner, name, stopped)
    corpus, recipe = tmp_path / "corpus.txt", tmp_path / "recipe.json"
    corpus.write_text("\n\n".join(f"The film number {number} was long. So was she." for number in range(40)))
    shape = {"layers": 2, "hidden_size": 16, "attention_heads": 2, "intermediate_size": 32, "embedding_size": 8}
    sizes = {"max_length": 32, "max_positions": 64, "micro_tokens": 64, "batch_tokens": 128, "vocabulary": 100}
    recipe.write_text(json.dumps({**shape, **sizes, "dtype": "float32", "tokens": 5_000}))
    places = {"MODEL": model_folder, "DATA": reviews, "OUT": tmp_path / "out", "CORPUS": corpus, "RECIPE": recipe}
    given, out, err = run(*(places.get(word, word) for word in words.split()))
    assert (given, out) == (status, "")
    assert said.replace("OUT", str(tmp_path / "out")) in err.splitlines()[-1]
