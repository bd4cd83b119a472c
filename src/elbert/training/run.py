"""`train`: one fine-tuning run from texts to a finished model folder, never left half made.

Joins data, model, scheme and trainer. What a run is decided by stands in `TrainSettings`; everything else here must not
change what comes out.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState

from elbert.data import TextDataset
from elbert.data.dataset import are_pairs
from elbert.disk import FREE_SPACE, write_errors
from elbert.errors import ElbertError, UsageError
from elbert.exits import make as make_policy
from elbert.modeling import MultiExitModel
from elbert.modeling.files.words import write_words
from elbert.modeling.quiet import quiet_transformers
from elbert.runs.attention import float32_attention
from elbert.runs.callbacks import EarlyStop, EvaluateWithin, Interruption, Progress, TrainingInterruptedError
from elbert.runs.folder import CHECKPOINT, LOG, RunFolder, open_run, run_folder
from elbert.training import checkpoint, ranks, schemes
from elbert.training.balance import choose_metric, class_weights
from elbert.training.card import model_card
from elbert.training.encoding import encode
from elbert.training.head_start import ValueUnits
from elbert.training.lesson import make_lesson
from elbert.training.prepare import check_datasets, check_installed, make_trainer, run_record
from elbert.training.settings import TrainSettings
from elbert.training.start import set_dropout
from elbert.training.summary import TrainSummary
from elbert.training.trainer import FINAL, TRAINER_STATE, EarlyExitTrainer
from elbert.training.truncation import choose_length, tell_truncation
from elbert.training.words import layer_zero
from elbert.words import WordModel
from elbert.words.fit import REACH

DEFAULT_POLICY = "elbert"


def train(
    model: MultiExitModel,
    tokenizer: Any,
    train: TextDataset,
    evaluation: TextDataset | None,
    settings: TrainSettings,
    out: str | Path,
    resume: bool = False,
    *,
    overwrite: bool = False,
    progress: bool = True,
    model_name: str | None = None,
    teacher: str | None = None,
    unlabelled: TextDataset | None = None,
) -> TrainSummary:
    """Fine-tune a model with an exit after every layer, and write its folder.

    Ctrl-C and SIGTERM save a checkpoint; `resume=True` with the same arguments then ends in the very model that an
    unbroken run would have given. Under torchrun every process takes batches of its own, whose gradients are averaged
    as accumulated ones are; the first process writes, and its own batches are those of the log.

    Args:
        model: as `start_model` gives it.
        tokenizer: the model's.
        train: labelled texts to learn from.
        evaluation: labelled texts to score on after each epoch; None takes a stratified tenth of `train`.
        settings: everything the outcome depends on.
        out: the model folder to be; `OUT.partial` beside it holds the run until then.
        resume: go on with the unfinished run in `OUT.partial`.
        overwrite: replace a model or an unfinished run at `out`.
        progress: show bars on stderr.
        model_name: what `model` was loaded as, for the model card.
        teacher: folder, hub id or bundled name of a trained classifier of the same classes, to learn from as well.
        unlabelled: texts to learn from the teacher alone, or from the last exit, where the scheme does that; labels
            they have are not looked at.

    Returns:
        The scores of every layer and where the model lies.

    Raises:
        UsageError: `out` is taken, there is nothing to resume, the run to resume is another one, or it is to be
            resumed, or taught, by several processes.
        DataError: nothing can be learnt from the data.
        MissingExtraError: a library that training needs is not installed.
        TrainingInterruptedError: a signal came; the message says how to go on.
        ElbertError: the loss diverged, or memory or disk is full.
    """
    started = time.perf_counter()
    check_installed(train, settings)
    _check_processes(resume, teacher)
    progress = progress and ranks.is_first()
    train, evaluation = check_datasets(model, train, evaluation)
    settings = settings.resolved(model.config, heads=model.heads, fresh_head=model.fresh_head)
    settings = dataclasses.replace(settings, metric=choose_metric(settings.metric, train))
    plain, most = model.reader(tokenizer), model.family.max_length(model.config)
    max_length = choose_length(settings.max_length, train, plain, most)
    settings = dataclasses.replace(settings, max_length=max_length)
    weights = class_weights(settings.class_weight, train)
    alone = schemes.get(settings.scheme).without_labels
    lesson = make_lesson(teacher, unlabelled, train, max_length, alone=alone)
    record = run_record(model, train, evaluation, settings, model_name) | ({} if lesson is None else lesson.record())
    if ranks.is_first():
        open_run(Path(out), record, settings.defaults(), resume=resume, overwrite=overwrite)
    ranks.wait()
    folder = run_folder(Path(out))
    set_dropout(model, settings.dropout, settings.classifier_dropout)
    units = ValueUnits.of(train)
    if units is not None:
        units.enter(model)
        train, evaluation = units.encoded(train), units.encoded(evaluation)
    try:
        reach = REACH if settings.words else 0
        sets = [encode(part, plain, max_length, reach=reach, progress=progress) for part in (train, evaluation)]
        tell_truncation(train, sets[0].truncated, plain, max_length, most)
        if lesson is not None:
            sets[0] = lesson.add_to(sets[0], train, plain, settings.dtype, folder.answers, units, progress=progress)
        with quiet_transformers():
            trainer = make_trainer(model, tokenizer, sets, settings, folder, weights)
            _run(trainer, settings, folder, resume=resume, progress=progress)
            _take_best(trainer, folder)
            if units is not None:
                units.restore(model)
    except BaseException as error:
        if ranks.is_first():
            folder.drop_if_empty()
        if isinstance(error, KeyboardInterrupt) and not folder.partial.exists():
            told = "stopped before the first step; start again, without --resume"
            raise TrainingInterruptedError(told, error) from None
        raise
    summary = _summary(trainer, settings, folder, time.perf_counter() - started)
    if ranks.is_first():
        words, scores = layer_zero(trainer, sets[0], train, settings)
        if scores is not None:
            summary = dataclasses.replace(summary, layer_scores=scores, encoder_scores=summary.layer_scores)
        content = {**_elbert_json(trainer, max_length, record, summary), "pairs": are_pairs(train.texts)}
        with write_errors(f"the model {folder.out}", FREE_SPACE):
            folder.finish(lambda fresh: _write(fresh, trainer, content, folder, words))
    ranks.wait()
    return summary


def _check_processes(resume: bool, teacher: str | None) -> None:
    """Refuse what several processes cannot do yet: each has random generators, and would ask the teacher, of its own.

    Raises:
        UsageError: there are several, and this was asked for.
    """
    asked = "--resume" if resume else "--teacher" if teacher is not None else None
    if ranks.count() > 1 and asked is not None:
        raise UsageError(f"{asked} is for one process, and {ranks.count()} were started; start it without torchrun")


def _run(
    trainer: EarlyExitTrainer, settings: TrainSettings, folder: RunFolder, *, resume: bool, progress: bool
) -> None:
    """Train from the start or the newest checkpoint, ready for signals."""
    interruption, bar = Interruption(settings.save_steps, str(folder.partial)), Progress(progress)
    trainer.add_callback(interruption)
    trainer.add_callback(bar)
    latest = folder.latest() if resume else None
    if settings.eval_steps is not None:
        trainer.add_callback(EvaluateWithin(settings.eval_steps))
    if settings.early_stopping is not None:
        early_stop = EarlyStop(settings.early_stopping, f"eval_{settings.metric_for_best}")
        trainer.add_callback(early_stop)
        if latest is not None and early_stop.spent(_read_state(latest).log_history):
            # It was killed between its last evaluation and its end: one more step would be one too many.
            trainer.state = _read_state(latest)
            checkpoint.load_weights(latest, trainer.model)
            return
    try:
        attention = float32_attention(trainer.multi_exit.backbone)
        with interruption, attention, write_errors(f"the run's folder {folder.partial}", FREE_SPACE):
            trainer.train(None if latest is None else str(latest))
    except KeyboardInterrupt as stop:
        kept = folder.latest()
        saved = "nothing was saved yet" if kept is None else f"run the same command with --resume to go on from {kept}"
        raise TrainingInterruptedError(f"stopped at once; {saved}", stop) from None
    except torch.OutOfMemoryError as error:
        size = f"batch_size {settings.batch_size}, max_length {settings.max_length}"
        raise ElbertError(f"out of GPU memory at {size}; lower either") from error
    finally:
        bar.close()


def _read_state(folder: Path) -> TrainerState:
    return TrainerState.load_from_json(str(folder / TRAINER_STATE))


def _take_best(trainer: EarlyExitTrainer, folder: RunFolder) -> None:
    """Put the weights of the best step back, model and scheme."""
    best = trainer.state.best_global_step
    if best is not None and best != trainer.state.global_step:
        checkpoint.load_weights(folder.checkpoints / f"{CHECKPOINT}{best}", trainer.model)
    trainer.model.eval()


def _summary(trainer: EarlyExitTrainer, settings: TrainSettings, folder: RunFolder, seconds: float) -> TrainSummary:
    state = trainer.state
    best = state.best_global_step or state.global_step
    scored = [entry for entry in state.log_history if FINAL in entry and entry["step"] <= best][-1]
    layers = range(1, trainer.multi_exit.num_layers + 1)
    return TrainSummary(
        out=folder.out,
        scheme=settings.scheme,
        metric=trainer.metric,
        layer_scores=tuple(scored[f"eval_layer_{layer}"] for layer in layers),
        best_step=best,
        steps=state.global_step,
        epochs=round(state.epoch or 0.0, 4),
        seconds=round(seconds, 3),
        train_rows=trainer.train_dataset.labelled or len(trainer.train_dataset),
        dev_rows=len(trainer.eval_dataset),
        scheme_weights=tuple(trainer.scheme.weights().tolist()),
        learning_rate=float(settings.learning_rate or 0.0),
        dtype=settings.dtype,
    )


def _elbert_json(
    trainer: EarlyExitTrainer, max_length: int, record: dict[str, Any], summary: TrainSummary
) -> dict[str, Any]:
    """Return the content of `elbert.json`: what the model needs to be used, and how it came about."""
    outcome = {key: value for key, value in summary.to_dict().items() if key not in ("out", "scheme")}
    return {
        "scheme": {**trainer.scheme.to_dict(), "citation": trainer.scheme.citation},
        "max_length": max_length,
        "policies": {
            DEFAULT_POLICY: make_policy(DEFAULT_POLICY, criterion=trainer.task.criterion).to_dict(),
            **{name: policy.to_dict() for name, policy in trainer.scheme.policies().items()},
        },
        "default_policy": DEFAULT_POLICY,
        "calibration": {},
        "training": {
            "model": record["model"]["name"],
            "data": record["data"],
            **{name: record[name] for name in ("teacher", "unlabelled") if name in record},
            "settings": record["settings"],
            **outcome,
            "device": trainer.args.device.type,
        },
    }


def _write(
    fresh: Path, trainer: EarlyExitTrainer, content: dict[str, Any], folder: RunFolder, words: WordModel | None
) -> None:
    card = model_card(trainer.multi_exit.backbone, content)
    tensors = {name: policy.tensors() for name, policy in trainer.scheme.policies().items()}
    trainer.multi_exit.save_pretrained(fresh, trainer.tokenizer, content, card, tensors)
    write_words(fresh, words)
    shutil.copyfile(folder.log, fresh / LOG)
