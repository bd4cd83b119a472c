"""`elbert.json`: what elbert keeps beside a plain checkpoint. Knows the file, not the meaning of its policies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from elbert.errors import ElbertError, ModelError, UsageError, did_you_mean
from elbert.results import ProblemType

FILE_NAME = "elbert.json"
FORMAT = 1

# What a reader relies on where the file has it: field, check, what is allowed.
_FIELDS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("max_length", lambda value: type(value) is int and value >= 3, "a whole number of 3 or more"),
    ("problem_type", lambda value: value in get_args(ProblemType), f"one of {', '.join(get_args(ProblemType))}"),
    ("policies", lambda value: isinstance(value, dict), "an object of exit policies by name"),
    ("default_policy", lambda value: isinstance(value, str), "the name of an exit policy"),
    ("calibration", lambda value: isinstance(value, dict) or value == [], "an object of evidence by policy name"),
    ("export", lambda value: isinstance(value, dict), "an object, as elbert export writes it"),
)


HeadKind = Literal["shared", "linear", "full"]


def check_heads(kind: str) -> HeadKind:
    """Return `kind` if there is such a kind of exit heads.

    Raises:
        UsageError: there is none.
    """
    for known in get_args(HeadKind):
        if kind == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"unknown kind of exit heads {kind!r}{did_you_mean(str(kind), get_args(HeadKind))}")


def metadata(content: Mapping[str, Any] | None, heads: str) -> dict[str, Any]:
    """Return `content` as it is to be saved, with this library's format number and the model's kind of heads."""
    return {**(content or {}), "format": FORMAT, "heads": heads}


def write_metadata(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `elbert.json` into `folder`; it takes the place of an older one only when it is whole."""
    write_whole(folder / FILE_NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file that takes the place of an older one only when it is whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return the content of `folder/elbert.json`; a folder without one is a plain model with shared heads.

    Raises:
        ModelError: the file is no JSON object, of a newer format, names an unknown kind of heads, or holds a field of
            the wrong kind.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return metadata(None, "shared")
    content = read_json(path)
    number = content.get("format")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ModelError(f"{path} has format {number!r}; this elbert reads format {FORMAT}: the file is damaged")
    if number > FORMAT:
        raise ModelError(f"{path} has format {number}, this elbert reads up to {FORMAT}: upgrade elbert")
    for field, fits, allowed in _FIELDS:
        value = content.get(field)
        if value is not None and not fits(value):
            raise ModelError(f"{path}: {field} is {value!r}; allowed: {allowed}: restore it or save the model again")
    try:
        check_heads(content.setdefault("heads", "shared"))
    except ElbertError as error:
        raise ModelError(f"{path}: {error}") from None
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`.

    Raises:
        ModelError: the file cannot be read, or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # broken UTF-8 and broken JSON are both ValueErrors
        raise ModelError(f"{path} cannot be read as JSON ({error}): restore it or save the model again") from None
    if not isinstance(content, dict):
        raise ModelError(
            f"{path} holds a JSON {type(content).__name__}, not an object: restore it or save the model again"
        )
    return content
