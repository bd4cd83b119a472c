"""Layer 0 in a model folder: `words.safetensors`."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from elbert.disk import write_whole
from elbert.errors import ModelError
from elbert.words import WordModel

WORDS = "words.safetensors"


def read_words(folder: Path, num_labels: int) -> WordModel | None:
    """Return the word model that lies in a model folder, or None.

    Args:
        folder: of the model.
        num_labels: C of the model beside it.

    Raises:
        ModelError: the file is damaged, or of a model with other classes.
    """
    path = folder / WORDS
    if not path.is_file():
        return None
    try:
        words = WordModel.from_tensors(load_file(path))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read ({error}): save the model again, or remove the file") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    if words.num_labels != num_labels:
        raise ModelError(f"{path} knows {words.num_labels} classes, the model {num_labels}: fit it again, or remove it")
    return words


def write_words(folder: Path, words: WordModel | None) -> None:
    """Write the word model into a folder, taking an older one's place only when it is whole; None writes nothing.

    Args:
        folder: of the model.
        words: layer 0.
    """
    if words is not None:
        write_whole(folder / WORDS, save(words.tensors()))
