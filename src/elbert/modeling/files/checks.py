"""What has to be right about a model folder's files, whichever way the folder is read."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from elbert.errors import ModelError

EXIT_HEADS = "exit_heads.safetensors"


def check_vocabulary(folder: Path, entries: int, vocab_size: int) -> None:
    """Raise where the tokenizer can give a token that the model does not embed.

    Args:
        folder: the model's, for the error.
        entries: of the tokenizer.
        vocab_size: rows of the word embedding.

    Raises:
        ModelError: it can.
    """
    if entries > vocab_size:
        raise ModelError(
            f"the tokenizer in {folder} has {entries} entries but the model embeds {vocab_size}: "
            "they do not belong together"
        )


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
        raise ModelError(f"{path} cannot be read: {one_line(error)}") from error
    for name, shape in shapes.items():
        found = list(tensors[name].shape) if name in tensors else "nothing"
        if found != list(shape):
            raise ModelError(f"{path}: {name} should have shape {list(shape)}, found {found}")
    return {name: tensors[name].float().clone() for name in shapes}


def one_line(error: Exception) -> str:
    """Return what another library's error says as one line."""
    words = " ".join(str(error).split())
    return textwrap.shorten(words, 300) if words else type(error).__name__
