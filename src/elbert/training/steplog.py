"""The log of a run: one JSON line a step with the loss of every layer and the weight the scheme gives it.

Values stay on their device and are fetched a few dozen at a time, so that logging every step does not hold a GPU up.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elbert.errors import ElbertError

_FLUSH_EVERY = 50
_DIGITS = 6


class StepLog:
    """Collects steps and appends them to a file.

    Args:
        path: a `.jsonl` file; None keeps nothing but still notices a loss that is no number.
        last_step: steps after this one, left over from a run that was cut off, are dropped from the file.
    """

    def __init__(self, path: Path | None, last_step: int = 0) -> None:
        self.path = path
        self._waiting: list[tuple[int, float, Tensor]] = []
        if path is not None:
            lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
            kept = [line for line in lines if _is_before(line, last_step)]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def step(self, step: int, learning_rate: float, loss: Tensor, layer_losses: Tensor, weights: Tensor) -> None:
        """Note one step: its loss (a scalar), the layers' losses [M] and weights [M].

        Raises:
            ElbertError: a loss is no finite number any more.
        """
        values = torch.cat([loss.detach().view(1), layer_losses.detach(), weights.detach().to(loss.device)])
        self._waiting.append((step, learning_rate, values))
        if len(self._waiting) >= _FLUSH_EVERY:
            self.flush()

    def scores(self, step: int, scores: list[float], metric: str) -> None:
        """Note the dev scores of every layer."""
        self.flush()
        self._append([{"step": step, "metric": metric, "scores": scores}])

    def flush(self) -> None:
        """Write what waits.

        Raises:
            ElbertError: a loss is no finite number any more.
        """
        if not self._waiting:
            return
        rows = torch.stack([values for _, _, values in self._waiting]).tolist()
        steps = [(step, rate) for step, rate, _ in self._waiting]
        self._waiting.clear()
        entries = []
        for (step, rate), (loss, *layers) in zip(steps, rows, strict=True):
            if not math.isfinite(loss):
                raise ElbertError(f"the loss is {loss} at step {step}: training has diverged; lower --learning-rate")
            half = len(layers) // 2
            entry = {"step": step, "loss": loss, "learning_rate": rate}
            entries.append({**entry, "layer_losses": layers[:half], "weights": layers[half:]})
        self._append(entries)

    def _append(self, entries: list[dict[str, Any]]) -> None:
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(_rounded(entry)) + "\n" for entry in entries)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return {key: _rounded(item) for key, item in value.items()} if isinstance(value, dict) else value


def _is_before(line: str, last_step: int) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:  # a line that was being written when the run was cut off
        return False
    return isinstance(entry, dict) and entry.get("step", last_step + 1) <= last_step
