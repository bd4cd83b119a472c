"""Opening a model to run it: the one place that decides how a folder is read.

A folder of the usual form is read without transformers, whose import alone takes seconds (`plain.py`); every other one
by transformers (`load.py`), which reads more forms and says what is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from elbert.modeling.configs import RANDOM_CONFIGS
from elbert.modeling.files.exported import ExportedModel
from elbert.modeling.files.plain import PlainModel, UnusualError, read_plain, read_tokenizer
from elbert.modeling.files.plain_tokenizer import PlainTokenizer
from elbert.modeling.files.sources import find_folder

if TYPE_CHECKING:
    from elbert.modeling.model import MultiExitModel


def open_model(
    name: str | Path,
) -> tuple[PlainModel | ExportedModel | MultiExitModel, PlainTokenizer, dict[str, Any]]:
    """Read a trained model to run it; in fp32.

    Args:
        name: a folder, a bundled checkpoint, a hub id, or what `elbert export` wrote.

    Returns:
        (model, tokenizer, content of `elbert.json`).

    Raises:
        UsageError: there is no such model.
        ModelError: the folder's content cannot be used.
    """
    if str(name) in RANDOM_CONFIGS and not Path(name).is_dir():
        from elbert.modeling.files.load import load_model  # imports transformers

        model, tokenizer, content = load_model(name)
        return model, model.reader(tokenizer), content
    folder = find_folder(name)
    try:
        return read_plain(folder)
    except UnusualError:
        from elbert.modeling.files.load import load_to_run  # imports transformers

        return load_to_run(folder)


def open_tokenizer(folder: Path) -> PlainTokenizer:
    """Read the tokenizer of a model folder, made ready for the model.

    Raises:
        ModelError: the folder's content cannot be used.
    """
    try:
        return read_tokenizer(folder)
    except UnusualError:
        from elbert.modeling.files.load import load_tokenizer  # imports transformers

        return load_tokenizer(folder)
