"""Opening a model to run it: the one place that decides how a folder is read.

A folder of the usual form is read without transformers, whose import alone takes seconds (`plain.py`); every other one
by transformers (`load.py`), which reads more forms and says what is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from elbert.modeling.configs import RANDOM_CONFIGS
from elbert.modeling.files.exported import ExportedModel
from elbert.modeling.files.plain import PlainModel, UnusualError, read_plain, read_tokenizer
from elbert.modeling.files.plain_tokenizer import PlainTokenizer
from elbert.modeling.files.policies import Tensors, read_tensors
from elbert.modeling.files.sources import find_model
from elbert.modeling.files.words import read_words
from elbert.words import WordModel

if TYPE_CHECKING:
    from elbert.modeling.model import MultiExitModel


class OpenModel(NamedTuple):
    """A trained model, read to run it; in fp32.

    Attributes:
        model: its weights.
        tokenizer: made ready for them.
        elbert: content of `elbert.json`.
        tensors: weights of its learned policies.
        words: layer 0, where it has one.
    """

    model: PlainModel | ExportedModel | MultiExitModel
    tokenizer: PlainTokenizer
    elbert: dict[str, Any]
    tensors: Tensors
    words: WordModel | None = None


def open_model(name: str | Path) -> OpenModel:
    """Read a trained model to run it.

    Args:
        name: a folder, a bundled checkpoint, a hub id, or what `elbert export` wrote.

    Raises:
        UsageError: there is no such model.
        ModelError: the folder's content cannot be used.
    """
    model: PlainModel | ExportedModel | MultiExitModel
    if str(name) in RANDOM_CONFIGS and not Path(name).is_dir():
        from elbert.modeling.files.load import load_model  # imports transformers

        model, tokenizer, content = load_model(name)
        return OpenModel(model, model.reader(tokenizer), content, {})
    folder = find_model(name)
    try:
        model, tokenizer, content = read_plain(folder)
    except UnusualError:
        from elbert.modeling.files.load import load_to_run  # imports transformers

        model, tokenizer, content = load_to_run(folder)
    tensors = read_tensors(folder) if content.get("policies") else {}
    return OpenModel(model, tokenizer, content, tensors, read_words(folder, model.weights().num_labels, content))


def open_tokenizer(folder: Path) -> PlainTokenizer:
    """Read the tokenizer of a model folder, made ready for the model.

    Raises:
        ModelError: the folder's content cannot be used.
    """
    try:
        return read_tokenizer(folder)
    except UnusualError:
        from elbert.modeling.files.beside import load_tokenizer  # imports transformers

        return load_tokenizer(folder)
