"""How a fine-tune begins: the seed, the model with a head for the data's classes, and the paper's dropout.

Trains nothing.
"""

from __future__ import annotations

import logging
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn
from transformers import set_seed

from elbert.data import Labels, TextDataset, check_trainable
from elbert.data.dataset import in_order_of
from elbert.errors import UsageError
from elbert.metadata import check_heads
from elbert.modeling import MultiExitModel, load_model
from elbert.modeling.files.sources import bundled_names
from elbert.training.head_start import start_head
from elbert.training.settings import TrainSettings, names_its_rate

# What is fine-tuned where nothing is said: the bundled encoder that scores best, and a shape for builds without it.
_DEFAULT, _RANDOM = "small", "random-small"

_logger = logging.getLogger(__name__)


def default_model() -> str:
    """Return what is fine-tuned where nothing is said."""
    return _DEFAULT if _DEFAULT in bundled_names() else _RANDOM


def start_model(name_or_path: str | Path, dataset: TextDataset, settings: TrainSettings) -> tuple[MultiExitModel, Any]:
    """Load a model to fine-tune on a data set; the same seed gives the same fresh head, which knows the labels' mean.

    Args:
        name_or_path: a folder, a bundled checkpoint, a hub id, or a random-weight configuration, whose tokenizer is
            then learned from the texts.
        dataset: says which classes the head is for, and how often they come.
        settings: the seed and the kind of exit heads.

    Returns:
        (model, tokenizer).

    Raises:
        UsageError: there is no such model.
        ModelError: it cannot be used.
        DataError: nothing can be learnt from the data set.
    """
    check_trainable(dataset)
    if dataset.label_space is None:
        raise UsageError(f"{dataset.name} has no label space")
    set_seed(settings.seed)
    texts = chain.from_iterable((text,) if isinstance(text, str) else text for text in dataset.texts)
    space = dataset.label_space
    model, tokenizer, _ = load_model(
        name_or_path,
        labels=space.names,
        problem_type=space.problem_type,
        heads=None if settings.heads is None else check_heads(settings.heads),
        texts=texts,
    )
    if settings.heads is None and _reads_too_little(model):
        model = model.with_heads("mean")
        _logger.info("exits before the last read the mean of the tokens by heads of their own; heads=shared overrules")
    ordered = in_order_of(dataset, Labels.from_id2label(model.config.id2label, model.problem_type))
    start_head(model, ordered, balanced=settings.class_weight is not None)
    return model, tokenizer


def _reads_too_little(model: MultiExitModel) -> bool:
    """Return whether [CLS] says nothing behind the first layers: each is its own, and nobody taught them to answer."""
    distinct = len(set(model.family.steps(model.backbone))) > 1
    return distinct and model.fresh_head and not names_its_rate(model.config)


def set_dropout(model: MultiExitModel, dropout: float | None, classifier_dropout: float) -> None:
    """Set dropout in the modules, and in the configuration as far as its family names it.

    Args:
        model: changed in place.
        dropout: of hidden states and attention; None leaves the checkpoint's own.
        classifier_dropout: of what the classifier reads.
    """
    head = model.family.head(model.backbone)[1]
    if dropout is not None:
        _set_rates(model, dropout, head)
    head.p = classifier_dropout
    values = {
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "dropout": dropout,
        "attention_dropout": dropout,
        "embedding_dropout": dropout,
        "mlp_dropout": dropout,
        "pooler_dropout": dropout,
        "classifier_dropout_prob": classifier_dropout,
        "classifier_dropout": classifier_dropout,
        "cls_dropout": classifier_dropout,
        "seq_classif_dropout": classifier_dropout,
    }
    for field, value in values.items():
        if value is not None and (hasattr(model.config, field) or field in model.family.options):
            setattr(model.config, field, value)


def _set_rates(model: MultiExitModel, dropout: float, head: nn.Dropout) -> None:
    """Set every rate but the head's, those included that a module keeps as a number or, at 0, as nothing at all."""
    for module in list(model.modules()):
        if isinstance(module, nn.Dropout) and module is not head:
            module.p = dropout
        if isinstance(getattr(module, "attention_dropout", None), float | int):
            setattr(module, "attention_dropout", dropout)  # noqa: B010  # torch types a module's fields as tensors
        for name, child in module.named_children():
            if name.endswith("drop") and isinstance(child, nn.Identity):
                setattr(module, name, nn.Dropout(dropout))
