"""Loading a model by name: a folder, a bundled checkpoint, a hub id, or a built-in configuration with random weights.

Reads safetensors and JSON only, never a pickle, and never runs code from a model's repository. Where transformers would
warn and go on with random weights, this raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AlbertForSequenceClassification, AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from elbert.errors import ModelError, UsageError
from elbert.metadata import FILE_NAME, HeadKind, check_heads, metadata, read_json, read_metadata
from elbert.modeling.classes import Classes, make_classes
from elbert.modeling.configs import RANDOM_CONFIGS, random_config, vocab_limit
from elbert.modeling.families import check_family, family_of
from elbert.modeling.files.checks import check_vocabulary, one_line, read_exit_heads
from elbert.modeling.files.exported import EXPORT, ExportedModel, read_exported
from elbert.modeling.files.sources import TOKENIZER_FILES, find_folder
from elbert.modeling.model import MultiExitModel
from elbert.modeling.quiet import quiet_transformers
from elbert.modeling.tokenizer import train_tokenizer

_CONVERT = "AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=False).save_pretrained(folder)"

Loaded = tuple[MultiExitModel, Any, dict[str, Any]]


def load_model(
    name_or_path: str | Path,
    *,
    num_labels: int | None = None,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    heads: HeadKind = "shared",
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
        heads: kind of exit heads of a model to be trained. `shared` (the default) leaves a trained model with the kind
            it was saved with; another kind than that starts as copies of the last head.
        texts: what the tokenizer of a random-weight model is trained on; without, it falls back to single characters.

    Returns:
        (model, tokenizer, content of `elbert.json`, which always holds `format` and `heads`).

    Raises:
        UsageError: there is no such model, or the arguments contradict each other.
        ModelError: the folder's content cannot be used.
    """
    kind, task = check_heads(heads), make_classes(num_labels, labels, problem_type)
    if str(name_or_path) in RANDOM_CONFIGS and not Path(name_or_path).is_dir():
        return _random(str(name_or_path), task, kind, texts)
    return _from_folder(find_folder(name_or_path), task, kind)


def load_to_run(folder: Path) -> tuple[MultiExitModel | ExportedModel, Any, dict[str, Any]]:
    """Load a folder as `load_model` does, or what `elbert export` wrote, to run it; `lean.py` is the quick way.

    Args:
        folder: it exists.

    Returns:
        as `load_model`.

    Raises:
        ModelError: the folder's content cannot be used.
    """
    config, content = _read_config(folder), read_metadata(folder)
    if EXPORT not in content:
        return load_model(folder)
    return read_exported(folder, config, content), _read_tokenizer(folder, config), content


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in a model folder as transformers' own.

    Args:
        folder: a model, trained or exported.

    Raises:
        ModelError: it cannot be read.
    """
    return _read_tokenizer(folder, _read_config(folder))


def _random(name: str, task: Classes | None, heads: HeadKind, texts: Iterable[str] | None) -> Loaded:
    tokenizer = train_tokenizer(texts or (), vocab_limit(name))
    fields = {} if task is None else task.config_fields()
    config = random_config(name, vocab_size=len(tokenizer), **fields)
    model = MultiExitModel(AlbertForSequenceClassification(config), heads)
    return model.eval(), tokenizer, metadata(None, heads)


def _from_folder(folder: Path, task: Classes | None, heads: HeadKind) -> Loaded:
    config = _read_config(folder)
    content = read_metadata(folder)
    kept = task is None or _answers(config, task)
    if not kept and task is not None:
        for field, value in task.config_fields().items():
            setattr(config, field, value)
    if EXPORT in content:
        raise UsageError(f"{folder} is an exported model and can't be trained; use the model it was exported from")
    tokenizer = _read_tokenizer(folder, config)
    backbone = _read_backbone(folder, config, fresh_head=not kept)
    saved: HeadKind = content["heads"]
    kind = saved if task is None and heads == "shared" else heads
    model = MultiExitModel(backbone, kind)
    if not kept or kind != saved:
        return model.eval(), tokenizer, metadata(None, kind)  # what was calibrated is no longer this model's
    _read_exit_heads(folder, model)
    return model.eval(), tokenizer, content


def _read_config(folder: Path) -> Any:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} is no model folder: it has no config.json")
    check_family(read_json(path).get("model_type"), where=str(folder))
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        raise ModelError(f"{path} is no usable configuration: {one_line(error)}") from error
    family_of(config)
    return config


def _answers(config: Any, task: Classes) -> bool:
    """Say whether the checkpoint's head was trained for exactly these classes."""
    trained = any(str(name).endswith("ForSequenceClassification") for name in config.architectures or ())
    names = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    return trained and names == task.names and config.problem_type in (None, task.problem_type)


def _read_tokenizer(folder: Path, config: Any) -> Any:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"{folder} has no tokenizer: it holds none of {', '.join(TOKENIZER_FILES)}")
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the Rust tokenizer raises bare Exception
        raise ModelError(f"the tokenizer in {folder} cannot be read: {one_line(error)}") from error
    check_vocabulary(folder, len(tokenizer), config.vocab_size)
    return tokenizer


def _read_backbone(folder: Path, config: Any, *, fresh_head: bool) -> Any:
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise ModelError(_no_safetensors(folder))
    try:
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
        raise ModelError(f"the weights in {folder} cannot be read: {one_line(error)}") from error
    _check_report(folder, backbone, report, fresh_head=fresh_head)
    for name, tensor in backbone.named_parameters():
        if not bool(torch.isfinite(tensor).all()):  # torch's fused attention can turn NaN into a quiet wrong answer
            raise ModelError(f"{folder}: tensor {name} holds NaN or infinity: restore the checkpoint or train it again")
    if fresh_head:
        out = family_of(config).head(backbone)[2]
        torch.nn.init.normal_(out.weight, std=config.initializer_range)
        torch.nn.init.zeros_(out.bias)
    return backbone


def _no_safetensors(folder: Path) -> str:
    pickles = sorted(path.name for path in folder.glob("*.bin")) + sorted(path.name for path in folder.glob("*.ckpt"))
    if (folder / "graphs").is_dir() and not (folder / FILE_NAME).exists():
        return f"{folder} holds graphs/ of an exported model, but {FILE_NAME} is missing: export the model again"
    if not pickles:
        return f"{folder} has no weights: model.safetensors is missing"
    return (
        f"{folder} has its weights only as a pickle ({pickles[0]}), which can run code and is never read; "
        f"convert it once, if you trust it: {_CONVERT}"
    )


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
        raise ModelError(
            f"{folder}: tensor {name} has shape {list(given)}, config.json asks for {list(wanted)}{_more(wrong)}"
        )
    if missing and set(missing) <= head:
        raise ModelError(
            f"{folder} has no trained classification head ({missing[0]} is missing): fine-tune it first with "
            f"elbert train DATA --model {folder} --out DIR"
        )
    if missing:
        raise ModelError(f"{folder}: tensor {missing[0]} is missing from the checkpoint{_more(missing)}")


def _read_exit_heads(folder: Path, model: MultiExitModel) -> None:
    if model.exit_heads is not None:
        shapes = {name: tuple(tensor.shape) for name, tensor in model.exit_heads.state_dict().items()}
        model.exit_heads.load_state_dict(read_exit_heads(folder, model.heads, shapes))


def _more(entries: Sequence[Any]) -> str:
    return f" (and {len(entries) - 1} more)" if len(entries) > 1 else ""
