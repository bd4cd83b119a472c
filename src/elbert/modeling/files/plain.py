"""Reading a trained model as plain matrices, without transformers, whose import alone takes seconds.

Reads what is whole and of the usual form. Whatever is not, from an old checkpoint's tensor names to a damaged file, it
leaves to `load.py`, which reads more forms and says what is wrong: nothing is accepted here that is refused there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from elbert.errors import ModelError
from elbert.metadata import HeadKind, read_json, read_metadata
from elbert.modeling.assemble import encoder_weights
from elbert.modeling.configs import RANDOM_CONFIGS
from elbert.modeling.families import check_family, family_of
from elbert.modeling.files.checks import check_vocabulary, read_exit_heads
from elbert.modeling.files.exported import EXPORT, ExportedModel, read_exported
from elbert.modeling.files.plain_tokenizer import LeanTokenizer, read_lean_tokenizer
from elbert.modeling.files.sources import find_folder
from elbert.modeling.heads import exit_shapes
from elbert.modeling.weights import EncoderWeights
from elbert.results import ProblemType

if TYPE_CHECKING:
    from elbert.modeling.model import MultiExitModel

_TEXTS = ("hidden_act", "activation", "hidden_activation", "classifier_activation")
_NUMBERS = ("layer_norm_eps", "norm_eps")


@dataclass(frozen=True, eq=False)
class PlainModel:
    """A trained model as the engine runs it: matrices, no modules.

    Attributes:
        folder: where it lies.
        encoder: its matrices.
    """

    folder: Path
    encoder: EncoderWeights

    def weights(self) -> EncoderWeights:
        """Return the matrices."""
        return self.encoder

    def whole(self) -> MultiExitModel:
        """Return the model as modules, read from its folder once more."""
        from elbert.modeling.files.load import load_model  # imports transformers

        return load_model(self.folder)[0]


class _UnusualError(Exception):
    """What was found is not of the usual form."""


def open_model(name: str | Path) -> tuple[PlainModel | ExportedModel | MultiExitModel, Any, dict[str, Any]]:
    """Read a trained model to run it; in fp32.

    Args:
        name: a folder, a bundled checkpoint, a hub id, or what `elbert export` wrote.

    Returns:
        (model, tokenizer, content of `elbert.json`), by way of `load_model` where the folder is of no usual form.

    Raises:
        UsageError: there is no such model.
        ModelError: the folder's content cannot be used.
    """
    if str(name) in RANDOM_CONFIGS and not Path(name).is_dir():
        from elbert.modeling.files.load import load_model  # imports transformers

        return load_model(name)
    folder = find_folder(name)
    try:
        return _open(folder)
    except _UnusualError:
        from elbert.modeling.files.load import load_to_run  # imports transformers

        return load_to_run(folder)


def _open(folder: Path) -> tuple[PlainModel | ExportedModel, LeanTokenizer, dict[str, Any]]:
    config = _read_config(folder)
    content = read_metadata(folder)
    tokenizer = read_lean_tokenizer(folder)
    if tokenizer is None:
        raise _UnusualError
    check_vocabulary(folder, len(tokenizer), config.vocab_size)
    if EXPORT in content:
        return read_exported(folder, config, content), tokenizer, content
    family = family_of(config)
    tensors = _read_tensors(folder, family.shapes(config))
    exit_heads = _exits(folder, config, content["heads"])
    return (
        PlainModel(folder, encoder_weights(family, config, tensors, exit_heads)),
        tokenizer,
        content,
    )


def _exits(folder: Path, config: Any, kind: HeadKind) -> dict[str, Tensor] | None:
    if kind == "shared":
        return None
    shapes = exit_shapes(kind, family_of(config), config)
    return read_exit_heads(folder, kind, shapes)


def _read_config(folder: Path) -> Any:
    """Return what the family's plain matrices depend on, under the names of a transformers configuration."""
    path = folder / "config.json"
    if not path.is_file():
        raise _UnusualError
    content = read_json(path)
    family = check_family(content.get("model_type"), where=str(folder))
    fields = {name: _field(content, name, key) for name, key in family.fields.items()}
    fields |= {name: _option(content, name, absent) for name, absent in family.options.items()}
    config = SimpleNamespace(
        **fields,
        model_type=family.model_type,
        id2label=_classes(content),
        problem_type=content.get("problem_type"),
        is_decoder=content.get("is_decoder", False),
        position_embedding_type=content.get("position_embedding_type"),
    )
    _check(
        config.problem_type in (None, *get_args(ProblemType)),
        config.problem_type != "single_label_classification" or len(config.id2label) > 1,
        config.hidden_size % config.num_attention_heads == 0,
        "quantization_config" not in content,
    )
    family_of(config)
    return config


def _field(content: dict[str, Any], name: str, key: str) -> Any:
    value: Any = content.get(key)
    _check(name == key or name not in content)  # transformers reads both names
    if key in _TEXTS:
        _check(isinstance(value, str))
    elif key in _NUMBERS:
        _check(type(value) in (int, float) and value > 0)
    else:
        _check(type(value) is int and value >= (0 if key == "pad_token_id" else 1))
    return value


def _option(content: dict[str, Any], name: str, absent: Any) -> Any:
    """Return a field of a family's own: of the kind that stands where it is absent, or a list or a table."""
    value = content.get(name, absent)
    _check(value is None or absent is None or type(value) is type(absent))
    return value


def _classes(content: dict[str, Any]) -> dict[int, str]:
    """Return the classes' names; transformers leaves its own names for two classes out of the file."""
    given, count = content.get("id2label"), content.get("num_labels")
    if given is None:
        count = 2 if count is None else count
        _check(type(count) is int and count > 0)
        return {index: f"LABEL_{index}" for index in range(count)}
    _check(isinstance(given, dict) and all(isinstance(label, str) for label in given.values()))
    _check(all(key.isdecimal() and key.isascii() for key in given), count is None or count == len(given))
    return {int(index): label for index, label in given.items()}


def _read_tensors(folder: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the checkpoint's tensors by name, in fp32 and in memory of their own."""
    tensors: dict[str, Tensor] = {}
    try:
        for path, names in _homes(folder, list(shapes)).items():
            with safe_open(path, framework="pt") as file:
                for name in names:
                    found = file.get_tensor(name)
                    _check(tuple(found.shape) == shapes[name], found.is_floating_point())
                    tensors[name] = found.to(torch.float32, copy=True)
    except (SafetensorError, OSError, ModelError) as error:  # broken, or a tensor is missing
        raise _UnusualError from error
    _check(*(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()))
    return tensors


def _homes(folder: Path, names: list[str]) -> dict[Path, list[str]]:
    """Return which file holds which of these tensors."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return {single: names}
    _check(index.is_file())
    places: Any = read_json(index).get("weight_map")
    _check(isinstance(places, dict))
    homes: dict[Path, list[str]] = {}
    for name in names:
        file = places.get(name)
        _check(isinstance(file, str) and Path(file).name == file)
        homes.setdefault(folder / file, []).append(name)
    return homes


def _check(*conditions: bool) -> None:
    if not all(conditions):
        raise _UnusualError
