"""The step log survives a run that was cut off, and notices a loss that is no number."""

from __future__ import annotations

import json

import pytest
import torch

from elbert.errors import ElbertError
from elbert.training.steplog import StepLog
from tests.training.conftest import read_log


def note(log, step, loss=1.0):
    log.step(step, 1e-3, torch.tensor(loss), torch.tensor([0.25, 0.75]), torch.tensor([1.0, 1.0]))


def test_steps_are_written_in_order_once_flushed(tmp_path):
    log = StepLog(tmp_path / "log.jsonl")
    for step in (1, 2):
        note(log, step)
    log.scores(2, [0.5, 1.0], "accuracy")
    first, _, scores = read_log(tmp_path / "log.jsonl")
    assert first == {
        "step": 1,
        "loss": 1.0,
        "learning_rate": 0.001,
        "layer_losses": [0.25, 0.75],
        "weights": [1.0, 1.0],
    }
    assert scores == {"step": 2, "metric": "accuracy", "scores": [0.5, 1.0]}


def test_what_comes_after_the_checkpoint_is_dropped_on_resume(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3)) + '{"step": 4, "lo')
    log = StepLog(path, last_step=2)
    note(log, 3)
    log.flush()
    assert [entry["step"] for entry in read_log(path)] == [1, 2, 3]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_an_error_even_without_a_file(loss):
    log = StepLog(None)
    note(log, 7, loss)
    with pytest.raises(ElbertError, match="at step 7"):
        log.flush()


def test_many_steps_are_written_without_being_asked(tmp_path):
    log = StepLog(tmp_path / "log.jsonl")
    for step in range(1, 61):
        note(log, step)
    assert len(read_log(tmp_path / "log.jsonl")) == 50
