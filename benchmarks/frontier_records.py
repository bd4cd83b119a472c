"""What the frontier remembers: a line of its table, the record of a row, and what both need to be written."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elbert.calibration.promises import LADDER
from elbert.evaluation.bench.job import Spec
from frontier_ground import Ground

# Rows of ours: as it is trained by default, and with layer 0 added to every exit.
OURS = ("ours", "summed")

# The levels of ours that are shown.
LEVELS = tuple(name for name, drop in LADDER.items() if drop)


@dataclass(frozen=True)
class Line:
    """One line of the table, but for its times.

    Attributes:
        name: in words.
        row: which row it belongs to.
        system: of the race.
        backend: likewise.
        dtype: likewise.
        folder: of the model, below the folder of the corpus.
        score: in the corpus's metric.
        f1_macro: mean F1 over classes.
        rarest_recall: of the class of the fewest training rows.
        size_mb: of the files that a deployment needs.
        train_seconds: wall clock, whatever else the machine did; None where training was taken up again.
        core_seconds: of one core, likewise.
        policy: exits of ours, as JSON.
        level: the promise it was calibrated for; "full" at full depth, "" for what has no exits.
        words: whether layer 0 may answer.
        guaranteed: whether a test stands behind the promise.
        mean_exit_layer: over all texts reported on; layer 0 itself counts nothing here.
        layer_0: share of texts that left there.
        layers: M.
        note: what a reader has to know.
    """

    name: str
    row: str
    system: str
    backend: str
    dtype: str
    folder: str
    score: float
    f1_macro: float
    rarest_recall: float | None
    size_mb: float
    train_seconds: float | None = None
    core_seconds: float | None = None
    policy: dict[str, Any] | None = None
    level: str = ""
    words: bool = False
    guaranteed: bool = False
    mean_exit_layer: float | None = None
    layer_0: float | None = None
    layers: int | None = None
    note: str = ""

    @property
    def key(self) -> str:
        """What it is known by among the times of its corpus."""
        return f"{self.name}, {self.dtype}"

    def spec(self, ground: Ground) -> Spec:
        """Return who runs in a race."""
        return Spec(self.system, self.backend, self.dtype, self.policy, (ground.out / self.folder).resolve())


class Clock:
    """Seconds since it was made, of the wall and of this process's cores."""

    def __init__(self) -> None:
        self._wall, self._core = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return them as a line holds them."""
        return {
            "train_seconds": round(time.perf_counter() - self._wall, 1),
            "core_seconds": round(time.process_time() - self._core, 1),
        }


def size_mb(*paths: Path) -> float:
    """Return the size of files, and of all files in folders, in 1e6 bytes."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def read_lines(ground: Ground, row: str) -> list[Line]:
    """Return the lines that a row's record holds; none where it is not done."""
    path = ground.out / f"{row}.json"
    if not path.is_file():
        return []
    return [Line(**each) for each in json.loads(path.read_text(encoding="utf-8"))["lines"]]


def write_lines(ground: Ground, row: str, lines: Sequence[Line], facts: dict[str, Any]) -> None:
    """Write a row's record as a whole."""
    path = ground.out / f"{row}.json"
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps({**facts, "lines": [asdict(line) for line in lines]}, indent=1), encoding="utf-8")
    draft.replace(path)
