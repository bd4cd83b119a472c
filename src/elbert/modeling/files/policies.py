"""Writing what was calibrated beside a model that stays as it is: `elbert.json`, and the card's section on exits."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from elbert.metadata import write_metadata, write_whole
from elbert.modeling.files.disk import ANOTHER_FOLDER, whole_folder, write_errors


def write_policies(
    source: Path, folder: Path, content: Mapping[str, Any], card: Callable[[str, Mapping[str, Any]], str]
) -> None:
    """Write `content` into the model's own folder, or into a copy of it.

    Args:
        source: where the model lies.
        folder: where to; the same, or a folder to be, which appears when it is whole.
        content: of `elbert.json`.
        card: returns the text of `README.md` as it is to be, from the one there is and `content`.

    Raises:
        ElbertError: the disk is full, or does not let us write.
    """
    with write_errors(f"the model {folder}", ANOTHER_FOLDER):
        if folder.resolve() == source.resolve():
            _write(folder, content, card)
            return
        with whole_folder(folder) as fresh:
            shutil.copytree(source, fresh, dirs_exist_ok=True)
            _write(fresh, content, card)


def _write(folder: Path, content: Mapping[str, Any], card: Callable[[str, Mapping[str, Any]], str]) -> None:
    path = folder / "README.md"
    try:  # before anything is written
        text = card(path.read_text(encoding="utf-8"), content) if path.is_file() else None
    except UnicodeDecodeError:
        text = None  # a card of the user's own, which has no section of ours
    write_metadata(folder, content)
    if text is not None:
        write_whole(path, text)
