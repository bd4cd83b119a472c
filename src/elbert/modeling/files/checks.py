"""What has to be right about a model folder's files, whichever way the folder is read."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from elbert.data.table import shorten
from elbert.errors import ModelError
from elbert.metadata import FILE_NAME

EXIT_HEADS = "exit_heads.safetensors"
RESTORE = "restore the file, or save the model again"

# Words of a vocabulary that the model may lack a row for, before it is taken for another model's; or 1 % of the rows.
_FEW = 2


def check_classes(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse names of classes, or a count of them, that are none; transformers' errors would not say which field.

    Args:
        path: of the `config.json`, for the error.
        content: its fields.

    Raises:
        ModelError: names the field and what is allowed.
    """
    names, count = content.get("id2label"), content.get("num_labels")
    if names is not None and not (isinstance(names, dict) and all(_is_whole(key) for key in names)):
        raise ModelError(f'{path}: id2label is {shorten(names)}; allowed: an object of names by class, "0" to "C - 1"')
    if count is not None and (type(count) is not int or count < 1):
        raise ModelError(f"{path}: num_labels is {shorten(count)}; allowed: a whole number of 1 or more")


def _is_whole(key: str) -> bool:
    return key.removeprefix("-").isdecimal() and key.isascii()


def broken_file(folder: Path) -> Path:
    """Return the first file of weights in a folder that does not open, or the folder where all do."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError):
            return path
    return folder


def check_vocabulary(where: object, tokenizer: Tokenizer, rows: int) -> dict[int, str]:
    """Return the entries of a tokenizer that the model does not embed; an ordinary one has none.

    A blank last line of `vocab.txt`, or a token that was added and never trained, does no harm where no text holds it,
    so a few such entries are let through, to be looked for in the texts.

    Args:
        where: the model's folder or name, for the error.
        tokenizer: the model's.
        rows: of the word embedding.

    Returns:
        Their spellings by id.

    Raises:
        ModelError: they are so many that this is another model's tokenizer, or one stands in every text.
    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    strays = {number: token for token, number in vocabulary.items() if number >= rows}
    if not strays:
        return {}
    added = tokenizer.get_added_tokens_decoder()
    words = [token for number, token in strays.items() if number not in added and token.strip()]
    if len(words) > max(_FEW, rows // 100):
        raise ModelError(
            f"the tokenizer in {where} has {len(vocabulary)} entries but the model embeds {rows}: "
            "they do not belong together"
        )
    for number in tokenizer.encode("", "").ids:
        if number in strays:
            raise ModelError(
                f"the tokenizer in {where} puts {strays[number]!r} (id {number}) into every text, but the model embeds "
                f"{rows} tokens (vocab_size in config.json): they do not belong together"
            )
    return strays


def pair_token_types(rows: int, inputs: Sequence[str], folder: Path, content: Mapping[str, Any], named: bool) -> bool:
    """Return whether the two texts of a pair are told apart by token types 0 and 1.

    A model with two token types was pretrained with them. Its tokenizer may keep them to itself all the same: since
    transformers 5 those of ALBERT do unless a file names them, while version 4 gave them to every model.

    Args:
        rows: of the token type embedding; 0 where there is none.
        inputs: what the tokenizer gives a model, as it says itself.
        folder: the model's.
        content: of its `elbert.json`.
        named: whether its tokenizer's file names these inputs.
    """
    if rows < 2:
        return False
    recorded = content.get("pair_token_types")
    if recorded is not None:
        return bool(recorded)
    if named or (folder / FILE_NAME).exists():  # before it was recorded, elbert took the tokenizer's own word
        return "token_type_ids" in inputs
    return True


def read_exit_heads(folder: Path, kind: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the tensors of the exit heads saved beside a model, in float32.

    Args:
        folder: the model's.
        kind: of the heads, as in `elbert.json`.
        shapes: what they have to be, see `heads.exit_shapes`.

    Raises:
        ModelError: they are missing, cannot be read, or belong to another model.
    """
    path = folder / EXIT_HEADS
    if not path.is_file():
        raise ModelError(f"{folder}: elbert.json says heads: {kind!r}, but {EXIT_HEADS} is missing")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {one_line(error)}: {RESTORE}") from error
    for name, shape in shapes.items():
        found = list(tensors[name].shape) if name in tensors else "nothing"
        if found != list(shape):
            raise ModelError(f"{path}: {name} should have shape {list(shape)}, found {found}")
    return {name: tensors[name].float().clone() for name in shapes}


def one_line(error: Exception) -> str:
    """Return what another library's error says as one line."""
    words = " ".join(str(error).split())
    return textwrap.shorten(words, 300) if words else type(error).__name__
