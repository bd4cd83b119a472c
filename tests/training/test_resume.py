"""A run that was broken off ends, once resumed, in the very model of an unbroken one; anything else is refused."""

from __future__ import annotations

import dataclasses
import json
import signal

import pytest
import torch

from elbert.errors import ModelError, UsageError
from elbert.training import EarlyExitTrainer, TrainingInterruptedError
from tests.training.conftest import make_dataset, read_log, same_weights
from tests.training.test_run import scripted

STEPS_PER_EPOCH = 7  # 54 rows in batches of 8


@pytest.fixture
def with_dropout(settings):
    """Dropout draws from the random generators at every step, so a generator not restored shows."""
    return dataclasses.replace(settings, dropout=0.1, save_steps=3)


@pytest.fixture
def break_at(monkeypatch):
    """`break_at(step, how)`: call `how` within that step, once."""

    def arm(step, how):
        whole_step = EarlyExitTrainer.training_step

        def training_step(self, *args, **kwargs):
            loss = whole_step(self, *args, **kwargs)
            if self.state.global_step + 1 == step:
                monkeypatch.setattr(EarlyExitTrainer, "training_step", whole_step)
                how()
            return loss

        monkeypatch.setattr(EarlyExitTrainer, "training_step", training_step)

    return arm


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


class KilledError(Exception):
    """Stands for a process that ends without a word."""


def kill():
    raise KilledError


def learned(folder):
    saved = json.loads((folder / "elbert.json").read_text())
    return saved["scheme"], saved["training"]["layer_scores"], saved["training"]["best_step"]


@pytest.mark.parametrize("step", [1, 5, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 4, 2 * STEPS_PER_EPOCH])
def test_ctrl_c_then_resume_gives_the_unbroken_runs_model(fine_tune, with_dropout, tmp_path, break_at, step):
    fine_tune(tmp_path / "whole", settings=with_dropout)
    break_at(step, press_ctrl_c)
    with pytest.raises(TrainingInterruptedError, match=rf"stopped at step {step} of 14, saved in .*broken.partial"):
        fine_tune(tmp_path / "broken", settings=with_dropout)
    assert not (tmp_path / "broken").exists()
    torch.rand(5)
    fine_tune(tmp_path / "broken", settings=with_dropout, resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "broken")
    assert learned(tmp_path / "whole") == learned(tmp_path / "broken")
    logs = [read_log(tmp_path / name / "training_log.jsonl") for name in ("whole", "broken")]
    assert logs[0] == logs[1]


def test_a_broken_regression_goes_on_in_the_units_it_began_in(fine_tune, with_dropout, tmp_path, break_at, tiny_texts):
    dataset = make_dataset(tiny_texts, problem_type="regression")
    prices = dataclasses.replace(dataset, labels=[100 * value + 7000 for value in dataset.labels])
    fine_tune(tmp_path / "whole", dataset=prices, settings=with_dropout)
    break_at(9, press_ctrl_c)
    with pytest.raises(TrainingInterruptedError):
        fine_tune(tmp_path / "broken", dataset=prices, settings=with_dropout)
    fine_tune(tmp_path / "broken", dataset=prices, settings=with_dropout, resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "broken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "whole"]
    default = json.loads((tmp_path / "whole" / "elbert.json").read_text())["policies"]["elbert"]
    assert default["criterion"] == "range"  # `monotone` never fires for a value


def test_the_same_texts_under_another_name_are_the_same_request(fine_tune, with_dropout, reviews, tmp_path, break_at):
    break_at(4, press_ctrl_c)
    with pytest.raises(TrainingInterruptedError):
        fine_tune(tmp_path / "broken", settings=with_dropout)
    renamed = dataclasses.replace(reviews, name=f"./{reviews.name}")
    fine_tune(tmp_path / "broken", dataset=renamed, settings=with_dropout, resume=True)
    assert (tmp_path / "broken" / "config.json").is_file()


@pytest.mark.parametrize("step", [2, 5, STEPS_PER_EPOCH + 3])
def test_a_killed_run_goes_on_from_its_last_checkpoint(fine_tune, with_dropout, tmp_path, break_at, step):
    fine_tune(tmp_path / "whole", settings=with_dropout)
    break_at(step, kill)
    with pytest.raises(KilledError):
        fine_tune(tmp_path / "broken", settings=with_dropout)
    if step < with_dropout.save_steps:  # nothing was saved, so nothing is left to resume
        assert [path.name for path in tmp_path.iterdir()] == ["whole"]
        return
    fine_tune(tmp_path / "broken", settings=with_dropout, resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "broken")


def test_a_run_killed_outright_before_its_first_checkpoint_starts_again(
    fine_tune, with_dropout, tmp_path, break_at, monkeypatch
):
    fine_tune(tmp_path / "whole", settings=with_dropout)
    with monkeypatch.context() as outright:  # a process that is killed tidies nothing up
        outright.setattr("elbert.runs.folder.RunFolder.drop_if_empty", lambda _: None)
        break_at(2, kill)
        with pytest.raises(KilledError):
            fine_tune(tmp_path / "broken", settings=with_dropout)
    fine_tune(tmp_path / "broken", settings=with_dropout, resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "broken")


def test_a_run_started_before_a_setting_existed_had_its_default(fine_tune, with_dropout, tmp_path, break_at):
    before = dataclasses.replace(with_dropout, classifier_dropout=0.1)
    break_at(4, press_ctrl_c)
    with pytest.raises(TrainingInterruptedError):
        fine_tune(tmp_path / "model", settings=before)
    path = tmp_path / "model.partial" / "run.json"
    record = json.loads(path.read_text())
    del record["settings"]["length_drop"], record["settings"]["classifier_dropout"]
    path.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"request: settings.classifier_dropout was 0.1 and is now 0.3; ask"):
        fine_tune(tmp_path / "model", settings=dataclasses.replace(before, classifier_dropout=0.3), resume=True)
    assert fine_tune(tmp_path / "model", settings=before, resume=True).steps == 14


def test_a_checkpoint_that_was_being_written_is_not_taken_for_one(fine_tune, with_dropout, tmp_path, break_at):
    break_at(4, press_ctrl_c)
    with pytest.raises(TrainingInterruptedError):
        fine_tune(tmp_path / "model", settings=with_dropout)
    (tmp_path / "model.partial" / "checkpoints" / ".checkpoint-6.new").mkdir()
    assert fine_tune(tmp_path / "model", settings=with_dropout, resume=True).steps == 14


def test_sigterm_saves_as_ctrl_c_does(fine_tune, settings, tmp_path, break_at):
    break_at(5, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(TrainingInterruptedError, match="stopped at step 5"):
        fine_tune(tmp_path / "model")


def test_a_run_may_be_broken_twice(fine_tune, with_dropout, tmp_path, break_at):
    fine_tune(tmp_path / "whole", settings=with_dropout)
    for step, resume in ((4, False), (10, True)):
        break_at(step, press_ctrl_c)
        with pytest.raises(TrainingInterruptedError):
            fine_tune(tmp_path / "broken", settings=with_dropout, resume=resume)
    fine_tune(tmp_path / "broken", settings=with_dropout, resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "broken")


def test_ctrl_c_before_the_first_step_says_that_nothing_was_kept(fine_tune, tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("elbert.training.run.make_trainer", interrupted)
    with pytest.raises(TrainingInterruptedError, match="stopped before the first step; start again, without --resume"):
        fine_tune(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_second_ctrl_c_stops_at_once_and_keeps_the_last_checkpoint(fine_tune, with_dropout, tmp_path, break_at):
    def twice():
        press_ctrl_c()
        press_ctrl_c()

    break_at(5, twice)
    with pytest.raises(TrainingInterruptedError, match=r"stopped at once; run .* to go on from .*checkpoint-3"):
        fine_tune(tmp_path / "broken", settings=with_dropout)


def test_a_second_sigterm_changes_nothing(fine_tune, with_dropout, tmp_path, break_at):
    def twice():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # as `timeout` does

    break_at(5, twice)
    with pytest.raises(TrainingInterruptedError, match="stopped at step 5"):
        fine_tune(tmp_path / "broken", settings=with_dropout)


def test_signals_are_given_back_after_training(fine_tune, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    fine_tune(tmp_path / "model")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_how_often_it_saves_changes_nothing(fine_tune, with_dropout, tmp_path):
    fine_tune(tmp_path / "often", settings=dataclasses.replace(with_dropout, save_steps=1))
    fine_tune(tmp_path / "seldom", settings=dataclasses.replace(with_dropout, save_steps=500))
    assert same_weights(tmp_path / "often", tmp_path / "seldom")


def test_a_run_killed_after_it_stopped_early_is_not_trained_further(
    fine_tune, settings, tmp_path, monkeypatch, break_at
):
    wanted = dataclasses.replace(settings, epochs=5, early_stopping=1)
    scripted(monkeypatch, [(0.9,) * 3, (0.5,) * 3, (1.0,) * 3])
    monkeypatch.setattr("elbert.training.run._take_best", lambda *_: kill())
    with pytest.raises(KilledError):
        fine_tune(tmp_path / "model", settings=wanted)
    monkeypatch.undo()
    summary = fine_tune(tmp_path / "model", settings=wanted, resume=True)
    assert (summary.steps, summary.best_step) == (2 * STEPS_PER_EPOCH, STEPS_PER_EPOCH)


def test_only_the_last_and_the_best_checkpoint_are_kept(fine_tune, settings, tmp_path, monkeypatch, break_at):
    scripted(monkeypatch, [(0.9,) * 3, (0.5,) * 3, (0.4,) * 3])
    break_at(16, press_ctrl_c)
    with pytest.raises(TrainingInterruptedError):
        fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, epochs=3))
    kept = {path.name for path in (tmp_path / "model.partial" / "checkpoints").iterdir()}
    assert kept == {"checkpoint-7", "checkpoint-16"}


def test_checkpoints_hold_no_pickle(fine_tune, settings, tmp_path, break_at):
    break_at(3, press_ctrl_c)
    with pytest.raises(TrainingInterruptedError):
        fine_tune(tmp_path / "model")
    files = [path for path in (tmp_path / "model.partial").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".jsonl"}


class TestRefusals:
    @pytest.fixture
    def unfinished(self, fine_tune, tmp_path, break_at):
        break_at(3, press_ctrl_c)
        with pytest.raises(TrainingInterruptedError):
            fine_tune(tmp_path / "model")
        return tmp_path / "model"

    def test_other_settings(self, fine_tune, settings, unfinished):
        other = dataclasses.replace(settings, batch_size=4, scheme="equal")
        said = r"settings.scheme was 'elbert_balanced' and is now 'equal', settings.batch_size was 8 and is now 4"
        with pytest.raises(UsageError, match=said):
            fine_tune(unfinished, settings=other, resume=True)

    def test_other_data(self, fine_tune, reviews, unfinished):
        with pytest.raises(UsageError, match=r"data.train.digest was .*data.evaluation") as caught:
            fine_tune(unfinished, dataset=reviews.select(range(1, 60)), resume=True)
        assert "sketch" not in str(caught.value)  # hundreds of letters that only a program reads

    def test_another_model(self, fine_tune, unfinished):
        with pytest.raises(UsageError, match=r"model.shape was"):
            fine_tune(unfinished, family="bert", resume=True)

    def test_a_new_run_over_an_unfinished_one(self, fine_tune, unfinished):
        with pytest.raises(UsageError, match=r"unfinished run lies at .*--resume to go on, or --overwrite"):
            fine_tune(unfinished)

    def test_settings_that_only_watch_may_differ(self, fine_tune, settings, unfinished):
        assert fine_tune(unfinished, settings=dataclasses.replace(settings, save_steps=2), resume=True).steps == 14

    def test_overwrite_starts_an_unfinished_run_again(self, fine_tune, settings, unfinished):
        fine_tune(unfinished, settings=dataclasses.replace(settings, epochs=1), overwrite=True)
        assert (unfinished / "config.json").is_file()
        assert not unfinished.with_name("model.partial").exists()

    def test_nothing_to_resume(self, fine_tune, tmp_path):
        with pytest.raises(UsageError, match=r"nothing to resume .* leave out --resume"):
            fine_tune(tmp_path / "model", resume=True)

    def test_resume_and_overwrite_together(self, fine_tune, tmp_path):
        with pytest.raises(UsageError, match="give one of them"):
            fine_tune(tmp_path / "model", resume=True, overwrite=True)

    def test_a_model_that_exists(self, fine_tune, tmp_path):
        fine_tune(tmp_path / "model")
        with pytest.raises(UsageError, match="exists; name another folder, or give --overwrite"):
            fine_tune(tmp_path / "model")
        with pytest.raises(UsageError, match="is finished"):
            fine_tune(tmp_path / "model", resume=True)
        fine_tune(tmp_path / "model", overwrite=True)

    def test_overwrite_spares_what_is_no_model(self, fine_tune, tmp_path):
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "thesis.txt").write_text("years of work")
        with pytest.raises(UsageError, match="is not a model folder"):
            fine_tune(tmp_path / "home", overwrite=True)
        assert (tmp_path / "home" / "thesis.txt").exists()

    def test_a_file_in_the_way(self, fine_tune, tmp_path):
        (tmp_path / "model").write_text("")
        with pytest.raises(UsageError, match="is a file; name a folder"):
            fine_tune(tmp_path / "model")

    def test_an_empty_folder_is_taken(self, fine_tune, tmp_path):
        (tmp_path / "model").mkdir()
        fine_tune(tmp_path / "model")
        assert (tmp_path / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "generators.safetensors", "resume.json"]
)
def test_a_damaged_checkpoint_is_named(fine_tune, tmp_path, break_at, name):
    break_at(3, press_ctrl_c)
    with pytest.raises(TrainingInterruptedError):
        fine_tune(tmp_path / "model")
    (tmp_path / "model.partial" / "checkpoints" / "checkpoint-3" / name).write_bytes(b"{")
    with pytest.raises(ModelError, match=rf"checkpoint .*{name} cannot be read: .*; train again with --overwrite"):
        fine_tune(tmp_path / "model", resume=True)
