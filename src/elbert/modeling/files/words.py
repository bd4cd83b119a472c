"""Layer 0 in a model folder: `words.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from elbert.disk import write_whole
from elbert.errors import ModelError
from elbert.words import WordModel

WORDS = "words.safetensors"


def read_words(folder: Path, num_labels: int, elbert: Mapping[str, Any]) -> WordModel | None:
    """Return the word model that lies in a model folder, or None.

    Args:
        folder: of the model.
        num_labels: C of the model beside it.
        elbert: content of its `elbert.json`.

    Raises:
        ModelError: the file is damaged, of a model with other classes, or missing where the exits add what it says.
    """
    path = folder / WORDS
    if not path.is_file():
        training = elbert.get("training")
        if isinstance(training, Mapping) and training.get("encoder_scores"):  # the scores without it: it was added
            raise ModelError(f"{path} is missing, and the model's exits add what it says: restore it, or train again")
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
