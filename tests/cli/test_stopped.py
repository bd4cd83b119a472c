"""Ctrl-C and SIGTERM: one line that says what is kept of the work, and nothing half-written."""

from __future__ import annotations

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
