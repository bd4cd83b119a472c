"""The plain road: reading a trained model as matrices, without transformers, whose import alone takes seconds.

Reads what is whole and of the usual form. Whatever is not, from an old checkpoint's tensor names to a damaged file, it
leaves to `load.py`, which reads more forms and says what is wrong: nothing is accepted here that is refused there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from elbert.errors import ModelError
from elbert.metadata import HeadKind, read_json, read_metadata
from elbert.modeling.assemble import encoder_weights
from elbert.modeling.families import check_family, family_of
from elbert.modeling.files.checks import EXIT_HEADS, pair_token_types, read_exit_heads
from elbert.modeling.files.exported import EXPORT, ExportedModel, read_exported
from elbert.modeling.files.foreign import check_files
from elbert.modeling.files.held import HeldFiles
from elbert.modeling.files.plain_tokenizer import PlainTokenizer, inputs_of, read_plain_tokenizer
from elbert.modeling.heads import exit_shapes
from elbert.modeling.weights import EncoderWeights
from elbert.tasks import fits

if TYPE_CHECKING:
    from elbert.modeling.model import MultiExitModel

_TEXTS = ("hidden_act", "activation", "hidden_activation", "classifier_activation")
_NUMBERS = ("layer_norm_eps", "norm_eps")


@dataclass(frozen=True, eq=False)
class PlainModel:
    """A trained model as the engine runs it: matrices, no modules.

    Attributes:
        config: content of its `config.json`.
        heads: kind of its exit heads.
        files: its weights' files, held open.
        encoder: the weights as matrices; their shapes only once the engine has laid them out anew.
        pair_token_types: whether the two texts of a pair are told apart by token types 0 and 1.
    """

    config: dict[str, Any]
    heads: HeadKind
    files: HeldFiles
    encoder: EncoderWeights
    pair_token_types: bool

    def weights(self) -> EncoderWeights:
        """Return the matrices."""
        return self.encoder

    def modules(self) -> MultiExitModel:
        """Return the model as modules, from the files that it was read from even where they are replaced by now."""
        from elbert.modeling.files.load import modules_of  # imports transformers

        return modules_of(self)


# A model to run, its tokenizer, and the content of `elbert.json`.
Opened = tuple["PlainModel | ExportedModel", PlainTokenizer, dict[str, Any]]


class UnusualError(Exception):
    """What was found is not of the usual form."""


def read_plain(folder: Path) -> Opened:
    """Read a model folder of the usual form.

    Returns:
        (model, tokenizer, content of `elbert.json`).

    Raises:
        UnusualError: it is of another form.
        ModelError: its content cannot be used, whoever reads it.
    """
    raw, config, content, tokenizer, token_types = _read_beside(folder)
    if EXPORT in content:
        return read_exported(folder, config, content), tokenizer, content
    family, heads = family_of(config), content["heads"]
    shapes = family.shapes(config)
    homes = _homes(folder, list(shapes))
    files = HeldFiles((*homes, *([] if heads == "shared" else [folder / EXIT_HEADS])))
    weights = encoder_weights(family, config, _read_tensors(homes, shapes), _exits(folder, config, heads), heads)
    return PlainModel(raw, heads, files, weights, token_types), tokenizer, content


def read_tokenizer(folder: Path) -> PlainTokenizer:
    """Read the tokenizer of a model folder of the usual form, made ready for the model.

    Raises:
        UnusualError: it is of another form.
        ModelError: its content cannot be used, whoever reads it.
    """
    return _read_beside(folder)[3]


def _read_beside(folder: Path) -> tuple[dict[str, Any], Any, dict[str, Any], PlainTokenizer, bool]:
    """Return what lies beside the weights: config.json as it is and as read, elbert.json, tokenizer, token types."""
    raw, config = _read_config(folder)
    content = read_metadata(folder)
    tokenizer = read_plain_tokenizer(folder, _tokenizer_from)
    if tokenizer is None:
        raise UnusualError
    rows = family_of(config).type_rows(config)
    inputs = inputs_of(token_types=tokenizer.token_types)
    token_types = pair_token_types(rows, inputs, folder, content, tokenizer.named)
    ready = PlainTokenizer.of(tokenizer, entries=config.vocab_size, token_types=token_types, where=str(folder))
    return raw, config, content, ready, token_types


def _tokenizer_from(files: Mapping[str, bytes]) -> Any:
    from elbert.modeling.files.beside import tokenizer_from  # imports transformers

    return tokenizer_from(files)


def _exits(folder: Path, config: Any, kind: HeadKind) -> dict[str, Tensor] | None:
    if kind == "shared":
        return None
    shapes = exit_shapes(kind, family_of(config), config)
    return read_exit_heads(folder, kind, shapes)


def _read_config(folder: Path) -> tuple[dict[str, Any], Any]:
    """Return config.json, and of it what the family's matrices depend on, named as a transformers configuration."""
    check_files(folder)
    content = read_json(folder / "config.json")
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
        config.problem_type is None or fits(config.problem_type, len(config.id2label)),
        config.hidden_size % config.num_attention_heads == 0,
        "quantization_config" not in content,
    )
    try:
        family_of(config)
    except ModelError as error:  # the other road knows the file to name
        raise UnusualError from error
    return content, config


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


def _read_tensors(homes: dict[Path, list[str]], shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the checkpoint's tensors by name, in fp32 and in memory of their own."""
    tensors: dict[str, Tensor] = {}
    try:
        for path, names in homes.items():
            with safe_open(path, framework="pt") as file:
                for name in names:
                    found = file.get_tensor(name)
                    _check(tuple(found.shape) == shapes[name], found.is_floating_point())
                    tensors[name] = found.to(torch.float32, copy=True)
    except (SafetensorError, OSError, ModelError) as error:  # broken, or a tensor is missing
        raise UnusualError from error
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
        raise UnusualError
