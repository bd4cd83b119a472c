"""Loading a model by name: a folder, a bundled checkpoint, a hub id, or a built-in configuration with random weights.

Reads safetensors and JSON only, never a pickle, and never runs code from a model's repository. Where transformers would
warn and go on with random weights, this raises.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AlbertForSequenceClassification,
    AutoModelForSequenceClassification,
)

from elbert.data.table import quote_names
from elbert.errors import ModelError, UsageError
from elbert.metadata import HeadKind, check_heads, metadata, read_metadata
from elbert.modeling.assemble import problem_type_of
from elbert.modeling.classes import Classes, as_the_data_spells, make_classes
from elbert.modeling.configs import RANDOM_CONFIGS, random_config, vocab_limit
from elbert.modeling.families import family_of
from elbert.modeling.files.beside import made_ready, read_config, read_with_types
from elbert.modeling.files.checks import RESTORE, broken_file, one_line, read_exit_heads
from elbert.modeling.files.exported import EXPORT, ExportedModel, read_exported
from elbert.modeling.files.foreign import check_stored, no_head, no_weights, wrapped
from elbert.modeling.files.plain import PlainModel
from elbert.modeling.files.plain_tokenizer import PlainTokenizer
from elbert.modeling.files.sources import find_model
from elbert.modeling.model import MultiExitModel
from elbert.modeling.quiet import quiet_transformers
from elbert.modeling.tokenizer import train_tokenizer
from elbert.results import ProblemType
from elbert.tasks import SINGLE_LABEL, task_of

_logger = logging.getLogger(__name__)

Loaded = tuple[MultiExitModel, Any, dict[str, Any]]


def load_model(
    name_or_path: str | Path,
    *,
    num_labels: int | None = None,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    heads: HeadKind | None = None,
    texts: Iterable[str] | None = None,
) -> Loaded:
    """Load a model, its tokenizer and its `elbert.json`; in fp32 and evaluation mode.

    With none of `num_labels`, `labels` and `problem_type` the checkpoint must be a trained classifier, whole. With any
    of them it is made ready for training on these classes: its head is kept if it was trained for the very same ones,
    and otherwise replaced by a fresh one.

    Args:
        name_or_path: a folder, a bundled checkpoint, a hub id, or one of `configs.RANDOM_CONFIGS`.
        num_labels: count of classes, where they have no names.
        labels: names of the classes, in order; empty for regression.
        problem_type: `single_label_classification`, `multi_label_classification` or `regression`.
        heads: kind of exit heads. None leaves a trained model with the kind it was saved with, and is `shared` for one
            that is to be trained; another kind than it was saved with starts as copies of the last head.
        texts: what the tokenizer of a random-weight model is trained on; without, it falls back to single characters.

    Returns:
        (model, transformers' tokenizer, content of `elbert.json`, which always holds `format` and `heads`).

    Raises:
        UsageError: there is no such model, or the arguments contradict each other.
        ModelError: the folder's content cannot be used.
    """
    kind, task = None if heads is None else check_heads(heads), make_classes(num_labels, labels, problem_type)
    if str(name_or_path) in RANDOM_CONFIGS and not Path(name_or_path).is_dir():
        return _random(str(name_or_path), task, kind or "shared", texts)
    return _from_folder(find_model(name_or_path), task, kind)


def load_to_run(
    folder: Path,
) -> tuple[MultiExitModel | ExportedModel, PlainTokenizer, dict[str, Any]]:
    """Load a folder as `load_model` does, or what `elbert export` wrote, to run it; `plain.py` is the quick way.

    Args:
        folder: it exists.

    Raises:
        ModelError: the folder's content cannot be used.
    """
    config, content = read_config(folder), read_metadata(folder)
    tokenizer, token_types = read_with_types(folder, config, content)
    if EXPORT in content:
        model: MultiExitModel | ExportedModel = read_exported(folder, config, content)
    else:
        model = _trained(folder, config, content, token_types)
    return model, made_ready(folder, config, tokenizer, token_types), content


def modules_of(plain: PlainModel) -> MultiExitModel:
    """Return a model that was read as matrices as modules, read once more from the files it holds.

    Raises:
        ModelError: somebody has written over them in place.
    """
    config_class = CONFIG_MAPPING[plain.config["model_type"]]
    model_class = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[config_class]
    try:
        with quiet_transformers():
            config, tensors = config_class.from_dict(plain.config), plain.files.tensors()
            backbone = model_class.from_pretrained(None, config=config, state_dict=tensors, dtype=torch.float32)
        model = MultiExitModel(backbone, plain.heads, pair_token_types=plain.pair_token_types)
        if model.exit_heads is not None:
            model.exit_heads.load_state_dict(plain.files.exit_heads())
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise ModelError(f"the model's files were written over since it was loaded ({one_line(error)})") from error
    return model.eval()


def _random(name: str, task: Classes | None, heads: HeadKind, texts: Iterable[str] | None) -> Loaded:
    tokenizer = train_tokenizer(texts or (), vocab_limit(name))
    fields = {} if task is None else task.config_fields()
    config = random_config(name, vocab_size=len(tokenizer), **fields)
    model = MultiExitModel(AlbertForSequenceClassification(config), heads, fresh_head=True)
    return model.eval(), tokenizer, metadata(None, heads)


def _from_folder(folder: Path, task: Classes | None, heads: HeadKind | None) -> Loaded:
    config = read_config(folder)
    content = read_metadata(folder)
    kept = task is None or _keeps_head(folder, config, task)
    if EXPORT in content:
        raise UsageError(f"{folder} is an exported model and can't be trained; use the model it was exported from")
    tokenizer, token_types = read_with_types(folder, config, content)
    if kept and heads in (None, content["heads"]):
        return _trained(folder, config, content, token_types), tokenizer, content
    kind = heads or "shared"
    if kept and content["heads"] != "shared":
        _logger.info(
            "the heads of early exits are new: those of %s are %s, asked for are %s", folder, content["heads"], kind
        )
    backbone = _read_backbone(folder, config, fresh_head=not kept)
    model = MultiExitModel(backbone, kind, pair_token_types=token_types, fresh_head=not kept)
    return model.eval(), tokenizer, metadata(None, kind)  # what was calibrated is no longer this model's


def _trained(folder: Path, config: Any, content: Mapping[str, Any], token_types: bool) -> MultiExitModel:
    """Return a trained classifier as it was saved."""
    backbone = _read_backbone(folder, config, fresh_head=False)
    model = MultiExitModel(backbone, content["heads"], pair_token_types=token_types)
    _read_exit_heads(folder, model)
    return model.eval()


def _keeps_head(folder: Path, config: Any, task: Classes) -> bool:
    """Let the configuration say what the task does; return whether the checkpoint's head was trained for its classes.

    The head's own order stays, under the names that the data has.
    """
    trained = any(str(name).endswith("ForSequenceClassification") for name in config.architectures or ())
    own = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    names: tuple[str, ...] | None
    if not task_of(task.problem_type).has_classes:
        names = own if len(own) == 1 else None  # one value is one value, whatever it is called
    else:
        names = as_the_data_spells(own, task.names)
    kept = trained and names is not None and problem_type_of(config) in _read_alike(config, task.problem_type)
    for field, value in (replace(task, names=names) if kept and names is not None else task).config_fields().items():
        setattr(config, field, value)
    if trained and not kept:
        _logger.info(
            "the head is new: the classes of %s are %s, the data's %s",
            folder,
            quote_names(own),
            quote_names(task.names),
        )
    elif kept and names != own:
        _logger.info(
            "the head is kept: the classes %s of %s are the data's %s",
            quote_names(own),
            folder,
            quote_names(names or ()),
        )
    return kept


def _read_alike(config: Any, problem_type: ProblemType) -> tuple[ProblemType, ...]:
    """Return the problem types a checkpoint's head may have for this task; many a multi-label one never says so."""
    return (problem_type, SINGLE_LABEL.problem_type) if config.problem_type is None else (problem_type,)


def _read_backbone(folder: Path, config: Any, *, fresh_head: bool) -> Any:
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise ModelError(no_weights(folder, config.architectures))
    try:
        check_stored(folder)
        with quiet_transformers():
            backbone, report = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"the weights in {broken_file(folder)} cannot be read: {one_line(error)}: {RESTORE}"
        ) from error
    _check_report(folder, backbone, report, fresh_head=fresh_head)
    for name, tensor in backbone.named_parameters():
        if not bool(torch.isfinite(tensor).all()):  # torch's fused attention can turn NaN into a quiet wrong answer
            raise ModelError(f"{folder}: tensor {name} holds NaN or infinity: restore the checkpoint or train it again")
    if fresh_head:
        out = family_of(config).head(backbone)[2]
        torch.nn.init.normal_(out.weight, std=config.initializer_range)
        torch.nn.init.zeros_(out.bias)
    return backbone


def _check_report(folder: Path, backbone: Any, report: dict[str, Any], *, fresh_head: bool) -> None:
    """Raise for every tensor that did not come out of the checkpoint, unless it belongs to a head yet to be trained."""
    family = family_of(backbone.config)
    names = [name for name in (family.dense, family.head_norm, family.out) if name is not None]
    head = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    allowed = head if fresh_head else set()
    missing = sorted(set(report["missing_keys"]) - allowed)
    wrong = sorted(entry for entry in report["mismatched_keys"] if entry[0] not in allowed)
    if wrong:
        name, given, wanted = wrong[0]
        found = f"tensor {name} has shape {list(given)}, config.json asks for {list(wanted)}{_more(wrong)}"
        mend = f"give id2label there {given[0]} names" if all(entry[0] in head for entry in wrong) else RESTORE
        raise ModelError(f"{folder}: {found}: {mend}")
    if missing and set(missing) <= head:
        raise ModelError(no_head(folder, missing[0]))
    if missing:
        if line := wrapped(folder, report["unexpected_keys"], missing):
            raise ModelError(line)
        raise ModelError(f"{folder}: tensor {missing[0]} is missing from the checkpoint{_more(missing)}")


def _read_exit_heads(folder: Path, model: MultiExitModel) -> None:
    if model.exit_heads is not None:
        shapes = {name: tuple(tensor.shape) for name, tensor in model.exit_heads.state_dict().items()}
        model.exit_heads.load_state_dict(read_exit_heads(folder, model.heads, shapes))


def _more(entries: Sequence[Any]) -> str:
    return f" (and {len(entries) - 1} more)" if len(entries) > 1 else ""
