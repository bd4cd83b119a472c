"""Everything before the first step: the data checked and split, the run's identity, the trainer. Trains nothing."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import PrinterCallback

from elbert.data import Labels, TextDataset, check_trainable, split
from elbert.data.dataset import are_pairs, in_order_of, in_space_of
from elbert.data.source import fingerprint, sketch
from elbert.data.splits import same_text
from elbert.errors import DataWarning, MissingExtraError, UsageError
from elbert.modeling import MultiExitModel
from elbert.runs.folder import RunFolder
from elbert.training import ranks, schemes
from elbert.training.encoding import EncodedDataset
from elbert.training.head_start import ValueUnits
from elbert.training.settings import WITHOUT_EFFECT, TrainSettings
from elbert.training.trainer import EarlyExitTrainer
from elbert.training.words import wants_layer_zero

logger = logging.getLogger(__name__)

DEV_FRACTION = 0.1
DEV_SEED = 0


def check_installed(train: TextDataset, settings: TrainSettings) -> None:
    """Refuse a training that would end for want of a library, its work lost.

    Args:
        train: to learn from.
        settings: of the run.

    Raises:
        MissingExtraError: accelerate, which transformers trains with, or scikit-learn, which fits layer 0 at the end,
            is not installed.
    """
    if find_spec("accelerate") is None:
        raise MissingExtraError("accelerate", "train")
    if wants_layer_zero(train, settings) and find_spec("sklearn") is None:
        raise MissingExtraError("scikit-learn", "train")


def check_datasets(
    model: MultiExitModel, train: TextDataset, evaluation: TextDataset | None
) -> tuple[TextDataset, TextDataset]:
    """Check the data against the model, take a dev split where none is given, and give labels the model's order."""
    check_trainable(train)
    if evaluation is None:
        train, evaluation = split(train, DEV_FRACTION, DEV_SEED)
        logger.info(
            "no --eval: %d of %d rows, drawn class by class with seed %d, are kept aside as dev split; "
            "rows of one text stay together",
            len(evaluation),
            len(train) + len(evaluation),
            DEV_SEED,
        )
        check_trainable(train)
    else:
        _tell_shared(train, evaluation)
    if are_pairs((*train.texts, *evaluation.texts)) is None:
        raise UsageError(
            f"{train.name} and {evaluation.name} mix single texts and pairs, and a model reads one kind; give one"
        )
    if train.label_space is not None:
        evaluation = in_space_of(evaluation, train.label_space)
    space = Labels.from_id2label(model.config.id2label, model.problem_type)
    for dataset in (train, evaluation):
        if dataset.label_space is None or dataset.labels is None:
            raise UsageError(f"{dataset.name} has no labels; give a data set that has")
        if (dataset.label_space.problem_type, dataset.label_space.num_labels) != (space.problem_type, space.num_labels):
            raise UsageError(
                f"{dataset.name} is {dataset.label_space.problem_type} with {dataset.label_space.num_labels} labels, "
                f"the model {space.problem_type} with {space.num_labels}; load the model for this data"
            )
    return in_order_of(train, space), in_order_of(evaluation, space)


def _tell_shared(train: TextDataset, evaluation: TextDataset) -> None:
    """Warn where texts are scored on that were learnt from: the best epoch would be the one with the best memory."""
    known = set(map(same_text, train.texts))
    shared = sum(same_text(text) in known for text in evaluation.texts)
    if shared:
        told = f"{shared:,} of the {len(evaluation):,} texts of {evaluation.name} stand in {train.name} too"
        warnings.warn(f"{told}; drop them from one, or scores will be too good", DataWarning, stacklevel=2)


def run_record(
    model: MultiExitModel, train: TextDataset, evaluation: TextDataset, settings: TrainSettings, name: str | None
) -> dict[str, Any]:
    """Return what decides the run's outcome, for `run.json`."""
    units = ValueUnits.of(train)
    shapes = [(key, list(tensor.shape)) for key, tensor in model.state_dict().items()]
    parts = {"train": train, "evaluation": evaluation}
    return {
        "format": 1,
        "model": {"name": name, "shape": _digest([shapes, model.config.id2label, model.heads])},
        "data": {
            key: {
                "name": part.name,
                "rows": len(part),
                "digest": fingerprint(part.texts, part.labels)[:16],
                "sketch": sketch(part.texts),
            }
            for key, part in parts.items()
        },
        **({} if ranks.count() == 1 else {"processes": ranks.count()}),
        "settings": {key: value for key, value in settings.to_dict().items() if key not in WITHOUT_EFFECT},
        **({} if units is None else {"units": asdict(units)}),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def make_trainer(
    model: MultiExitModel,
    tokenizer: Any,
    sets: list[EncodedDataset],
    settings: TrainSettings,
    folder: RunFolder,
    weights: Sequence[float] | None = None,
) -> EarlyExitTrainer:
    """Return a fresh trainer, without transformers' own progress output.

    Args:
        model: what to train, in place.
        tokenizer: the model's.
        sets: what to learn from and what to score on.
        settings: with nothing automatic left.
        folder: where checkpoints and log go.
        weights: [C] of every class's rows in the loss.

    Raises:
        UsageError: an experiment tracker that is unknown or not installed, or a metric that does not fit.
    """
    scheme = schemes.make(settings.scheme, model.num_layers, **settings.scheme_options)
    arguments = training_arguments(settings, folder.checkpoints, len(sets[0]))
    scheme.begin(model, steps_of(settings, len(sets[0])))
    if scheme.staged and not scheme.without_labels and 0 < sets[0].labelled < len(sets[0]):
        raise UsageError(
            f"scheme {settings.scheme!r} asks for a label of every text; leave --unlabelled out, or take another scheme"
        )
    try:
        trainer = EarlyExitTrainer(
            model,
            scheme,
            arguments,
            tokenizer=tokenizer,
            train_dataset=sets[0],
            eval_dataset=sets[1],
            metric=settings.metric,
            log_file=folder.log if ranks.is_first() else None,
            teacher_weight=settings.teacher_weight,
            temperature=settings.temperature,
            leap=settings.leap,
            length_drop=settings.length_drop,
            head_rate=settings.head_rate or 1.0,
            class_weights=weights,
        )
    except (ValueError, RuntimeError) as error:
        # With a tracker asked for, transformers looks it up here: it may not know it, or it is not installed.
        if settings.report_to == "none":
            raise
        raise UsageError(f"report_to is {settings.report_to!r}: {str(error).splitlines()[0]}") from error
    for noisy in (DEFAULT_PROGRESS_CALLBACK, PrinterCallback):
        trainer.remove_callback(noisy)
    return trainer


def steps_of(settings: TrainSettings, rows: int) -> int:
    """Return the optimiser steps of a run over so many rows; every process takes a batch of its own."""
    batches = math.ceil(rows / settings.batch_size / ranks.count())
    return settings.epochs * math.ceil(batches / settings.gradient_accumulation_steps)


def training_arguments(settings: TrainSettings, checkpoints: Path, rows: int) -> TrainingArguments:
    """Return transformers' arguments for resolved settings: evaluate and save once an epoch, quietly.

    Args:
        settings: with nothing automatic left.
        checkpoints: where checkpoints go.
        rows: rows to learn from.
    """
    steps = steps_of(settings, rows)
    return TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        per_device_eval_batch_size=2 * settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=round(steps * settings.warmup),
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        use_cpu=not torch.accelerator.is_available(),
        bf16=settings.dtype == "bfloat16",
        fp16=settings.dtype == "float16",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_steps=50,
        logging_nan_inf_filter=False,
        metric_for_best_model=settings.metric_for_best,
        greater_is_better=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        log_level="critical",
        report_to=settings.report_to,
    )
