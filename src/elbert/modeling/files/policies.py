"""What was calibrated, beside a model that stays as it is: `elbert.json`, learned weights, the card's section on exits.

The weights of learned policies stand in `policies.safetensors` under NAME/TENSOR, NAME being the policy's in
`elbert.json`; a model without such policies has no such file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from elbert.disk import ANOTHER_FOLDER, whole_folder, write_errors, write_whole
from elbert.errors import ModelError, UsageError
from elbert.exits import ExitPolicy, names
from elbert.metadata import read_metadata, write_metadata
from elbert.modeling.files.words import write_words
from elbert.words import WordModel

TENSORS = "policies.safetensors"

# Weights by tensor, by policy.
Tensors = Mapping[str, Mapping[str, NDArray[np.float32]]]


def read_tensors(folder: Path) -> Tensors:
    """Return the weights of the learned policies in a model folder; none where it has no such file.

    Raises:
        ModelError: the file cannot be read.
    """
    path = folder / TENSORS
    if not path.exists():
        return {}
    try:
        flat = load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:  # the last: of a type numpy lacks
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} cannot be read ({reason}): restore it or calibrate again") from None
    tensors: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, values in flat.items():
        name, _, tensor = key.rpartition("/")
        tensors.setdefault(name, {})[tensor] = values
    return tensors


def saved_policies(policies: Mapping[str, Any], tensors: Tensors) -> dict[str, ExitPolicy]:
    """Return the policies of `elbert.json` with their weights.

    Raises:
        UsageError: one is no policy, has another rule's name, or the two don't fit together.
    """
    saved = {name: ExitPolicy.from_dict(values, tensors.get(name)) for name, values in policies.items()}
    for name, policy in saved.items():
        if name != policy.name and name in names():
            raise UsageError(f"a policy of the rule {policy.name!r} has the name of another rule, {name!r}: rename it")
        if policy.learned and not policy.tensors():
            raise UsageError(
                f"policy {name!r} ({policy.name}) has no weights in {TENSORS}: restore it, or calibrate again"
            )
    return saved


def write_tensors(folder: Path, tensors: Tensors) -> None:
    """Write the weights of learned policies into a model folder; where there are none, remove those of older ones."""
    path = folder / TENSORS
    flat = {f"{name}/{tensor}": values for name, each in tensors.items() for tensor, values in each.items()}
    if not flat:
        path.unlink(missing_ok=True)
        return
    write_whole(path, save(flat))


def write_policies(
    source: Path,
    folder: Path,
    content: Mapping[str, Any],
    tensors: Tensors,
    card: Callable[[str, Mapping[str, Any]], str],
    words: WordModel | None = None,
) -> None:
    """Write `content` into the model's own folder, or into a copy of it.

    Args:
        source: where the model lies.
        folder: where to; the same, or a folder to be, which appears when it is whole.
        content: of `elbert.json`.
        tensors: weights of the learned policies among them.
        card: returns the text of `README.md` as it is to be, from the one there is and `content`.
        words: layer 0; None leaves what lies there.

    Raises:
        ElbertError: the disk is full, or does not let us write.
    """
    with write_errors(f"the model {folder}", ANOTHER_FOLDER):
        if folder.resolve() == source.resolve():
            write_words(folder, words)
            _write(folder, content, tensors, card)
            return
        with whole_folder(folder) as fresh:
            shutil.copytree(source, fresh, dirs_exist_ok=True)
            write_words(fresh, words)
            _write(fresh, content, tensors, card)


def _write(
    folder: Path, content: Mapping[str, Any], tensors: Tensors, card: Callable[[str, Mapping[str, Any]], str]
) -> None:
    path = folder / "README.md"
    try:  # before anything is written
        text = card(path.read_text(encoding="utf-8"), content) if path.is_file() else None
    except UnicodeDecodeError:
        text = None  # a card of the user's own, which has no section of ours
    _forget_stale(folder, tensors)
    write_tensors(folder, tensors)
    write_metadata(folder, content)
    if text is not None:
        write_whole(path, text)


def _forget_stale(folder: Path, tensors: Tensors) -> None:
    """Take policies whose weights are about to change or to go out of `elbert.json`.

    The two files can't change in one step. Whatever stops us half-way, no policy is then found without its weights, or
    with weights that its threshold was not calibrated for; where it was the default, texts run to full depth.
    """
    stale = [name for name, each in read_tensors(folder).items() if not _equal(each, tensors.get(name, {}))]
    if not stale:
        return
    content = read_metadata(folder)
    for part in ("policies", "calibration"):
        content[part] = {name: each for name, each in dict(content.get(part) or {}).items() if name not in stale}
    if content.get("default_policy") in stale:
        del content["default_policy"]
    write_metadata(folder, content)


def _equal(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
