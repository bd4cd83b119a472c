"""What transformers reads beside the weights of a model folder: its configuration and its tokenizer, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer

from elbert.errors import ModelError, UsageError
from elbert.metadata import read_json, read_metadata
from elbert.modeling.assemble import problem_type_of
from elbert.modeling.families import check_family, family_of
from elbert.modeling.files.checks import RESTORE, check_classes, check_vocabulary, one_line, pair_token_types
from elbert.modeling.files.foreign import check_files, check_unquantised, vocabulary_class
from elbert.modeling.files.plain_tokenizer import PlainTokenizer, check_fast, name_inputs
from elbert.modeling.files.sources import TOKENIZER_FILES
from elbert.modeling.quiet import quiet_transformers

SETTINGS = "tokenizer_config.json"
_TOKENIZER_OBJECTS = ("tokenizer.json", SETTINGS, "special_tokens_map.json", "added_tokens.json", "vocab.json")


def read_config(folder: Path) -> Any:
    """Return transformers' configuration of a model folder; raises ModelError where it cannot be used."""
    path = folder / "config.json"
    check_files(folder)
    content = read_json(path)
    check_family(content.get("model_type"), where=str(folder))
    check_unquantised(path, content)
    check_classes(path, content)
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        raise ModelError(f"{path} is no usable configuration: {one_line(error)}: {RESTORE}") from error
    if not config.id2label:
        raise ModelError(f"{path}: id2label names no class: give it one name per output of the model")
    try:
        family_of(config)
        problem_type_of(config)
    except (ModelError, UsageError) as error:
        raise ModelError(f"{path}: {error}") from None
    return config


def load_tokenizer(folder: Path) -> PlainTokenizer:
    """Return the tokenizer in a model folder, by way of transformers' own.

    Args:
        folder: a model, trained or exported.

    Raises:
        ModelError: it cannot be read.
    """
    config = read_config(folder)
    return made_ready(folder, config, *read_with_types(folder, config, read_metadata(folder)))


def tokenizer_from(files: Mapping[str, bytes]) -> Any:
    """Return transformers' own tokenizer from the content of a model folder's files, by name."""
    with TemporaryDirectory() as folder, quiet_transformers():
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def read_with_types(folder: Path, config: Any, content: Mapping[str, Any]) -> tuple[Any, bool]:
    """Return transformers' tokenizer, and whether it is to give the two texts of a pair their token types."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"{folder} has no tokenizer: it holds none of {', '.join(TOKENIZER_FILES)}")
    name = vocabulary_class(folder, read_json(folder / "config.json"))
    reader = AutoTokenizer if name is None else getattr(transformers, name)
    try:
        with quiet_transformers():
            tokenizer = reader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the Rust tokenizer raises bare Exception
        for path in (folder / each for each in _TOKENIZER_OBJECTS):
            if path.is_file():
                read_json(path)  # raises, and names the file, where it is damaged
        missing = "" if (folder / SETTINGS).is_file() else f", and {SETTINGS}, which names its class, is missing"
        line = f"the tokenizer in {folder} cannot be read: {one_line(error)}{missing}: {RESTORE}"
        raise ModelError(line) from error
    check_fast(tokenizer, folder)
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ModelError(f"the tokenizer in {folder} knows no word, only special tokens: restore its vocabulary")
    check_vocabulary(folder, tokenizer.backend_tokenizer, config.vocab_size)
    named = "model_input_names" in tokenizer.init_kwargs
    rows = family_of(config).type_rows(config)
    token_types = pair_token_types(rows, tokenizer.model_input_names, folder, content, named)
    name_inputs(tokenizer, token_types=token_types)
    return tokenizer, token_types


def made_ready(folder: Path, config: Any, tokenizer: Any, token_types: bool) -> PlainTokenizer:
    """Return transformers' tokenizer made ready for the model in `folder`."""
    return PlainTokenizer.of(tokenizer, entries=config.vocab_size, token_types=token_types, where=str(folder))
