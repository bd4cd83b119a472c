"""A cascade's folder: `cascade.json`, and the folder of every model, 1 the first. Runs no model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elbert.disk import ANOTHER_FOLDER, whole_folder, write_errors
from elbert.errors import ModelError, UsageError
from elbert.exits import ExitPolicy
from elbert.metadata import read_json
from elbert.modeling.files.sources import CASCADE, is_cascade

FORMAT = 1


@dataclass(frozen=True, slots=True)
class CascadeFolder:
    """What a cascade's folder says.

    Attributes:
        models: folders of the models, in the order they are asked.
        policy: which model answers.
        evidence: of its calibration; empty where nothing was calibrated.
    """

    models: tuple[Path, ...]
    policy: ExitPolicy
    evidence: Mapping[str, Any]


def read_cascade(folder: Path) -> CascadeFolder:
    """Read a folder that `write_cascade` wrote.

    Raises:
        UsageError: it is no cascade.
        ModelError: it is damaged, or of a newer format.
    """
    if not is_cascade(folder):
        raise UsageError(f"{folder} is no cascade: it has no {CASCADE}; elbert cascade makes one")
    content, path = read_json(folder / CASCADE), folder / CASCADE
    if content.get("format") != FORMAT:
        raise ModelError(f"{path}: format is {content.get('format')!r}; this elbert reads format {FORMAT}")
    count = content.get("models")
    models = tuple(folder / str(number) for number in range(1, count + 1)) if type(count) is int else ()
    if len(models) < 2 or not all(model.is_dir() for model in models):
        raise ModelError(f"{path} names {count!r} models, and not all of two or more are there: make it again")
    try:
        policy = ExitPolicy.from_dict(content.get("policy") or {})
    except UsageError as error:
        raise ModelError(f"{path}: {error}") from None
    evidence = content.get("calibration")
    return CascadeFolder(models, policy, evidence if isinstance(evidence, Mapping) else {})


def write_cascade(
    folder: Path, models: Sequence[Path], policy: ExitPolicy, evidence: Mapping[str, Any], card: str
) -> None:
    """Copy the models into a folder of their own; one that exists is replaced as a whole.

    Args:
        folder: to be.
        models: their folders.
        policy: which model answers.
        evidence: of its calibration.
        card: text of `README.md`.

    Raises:
        ElbertError: the disk is full, or does not let us write.
    """
    content = {"format": FORMAT, "models": len(models), "policy": policy.to_dict(), "calibration": dict(evidence)}
    with write_errors(f"the cascade {folder}", ANOTHER_FOLDER), whole_folder(folder) as fresh:
        for number, model in enumerate(models, start=1):
            shutil.copytree(model, fresh / str(number), ignore=shutil.ignore_patterns(".*"))
        (fresh / "README.md").write_text(card, encoding="utf-8")
        (fresh / CASCADE).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
