"""`elbert.json`: what elbert keeps beside a plain checkpoint. Knows the file, not the meaning of its policies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from elbert.disk import write_whole
from elbert.errors import ModelError, UsageError, did_you_mean
from elbert.results import ProblemType

FILE_NAME = "elbert.json"
FORMAT = 1

HeadKind = Literal["shared", "linear", "full", "mean"]


def check_heads(kind: str) -> HeadKind:
    """Return `kind` if there is such a kind of exit heads.

    Raises:
        UsageError: there is none.
    """
    for known in get_args(HeadKind):
        if kind == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"unknown kind of exit heads {kind!r}{did_you_mean(str(kind), get_args(HeadKind))}")


@dataclass(frozen=True, slots=True)
class DataRecord:
    """A data set that a model has met.

    Attributes:
        name: where it came from.
        rows: of it.
        digest: 16 digits of its fingerprint; empty where nobody noted it.
        sketch: hashes by which its texts are known again, see `elbert.data.source`; empty in older records.
    """

    name: str = ""
    rows: int = 0
    digest: str = ""
    sketch: str = ""

    @classmethod
    def from_dict(cls, values: object) -> DataRecord:
        """Read a record; whatever is of another kind, as other tools may write it, counts as not noted."""
        given: Mapping[str, Any] = values if isinstance(values, Mapping) else {}
        kept: dict[str, Any] = {each.name: given.get(each.name) for each in fields(cls)}
        usual: dict[str, Any] = {
            name: value for name, value in kept.items() if type(value) is (int if name == "rows" else str)
        }
        return cls(**usual)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What elbert knows of a model beyond its checkpoint.

    Attributes:
        heads: kind of exit heads.
        max_length: tokens read of a text; None takes the model's most.
        problem_type: how to read the logits, where the checkpoint's own configuration does not say it, or wrongly.
        policies: exit policies as JSON, by name.
        default_policy: name of the one used where none is named; full depth where nobody chose.
        calibration: evidence by policy name.
        scheme: how the exits' losses were weighed.
        training: how the model came about.
        words: what layer 0 was fitted on, as a `DataRecord`, where it was not fitted in training.
        export: what the graphs of an exported model are.
        pair_token_types: whether the two texts of a pair are told apart by token types; None in what elbert wrote
            before it was recorded.
        pairs: whether it was trained on pairs of texts; None where that was not recorded.
        further: keys this version does not know, kept as they are.
    """

    heads: HeadKind = "shared"
    max_length: int | None = None
    problem_type: ProblemType | None = None
    policies: Mapping[str, Any] = field(default_factory=dict)
    default_policy: str = "full"
    calibration: Mapping[str, Any] = field(default_factory=dict)
    scheme: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    words: Mapping[str, Any] | None = None
    export: Mapping[str, Any] | None = None
    pair_token_types: bool | None = None
    pairs: bool | None = None
    further: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Metadata:
        """Read the content of `elbert.json`; a key that is missing or null takes its default.

        Raises:
            UsageError: a newer format, an unknown kind of heads, or a field of the wrong kind.
        """
        number = content.get("format", FORMAT)
        if type(number) is not int or number < 1:
            raise UsageError(f"format is {number!r}; this elbert reads format {FORMAT}: the file is damaged")
        if number > FORMAT:
            raise UsageError(f"format is {number}, this elbert reads up to {FORMAT}: upgrade elbert")
        given = {key: value for key, value in content.items() if value is not None and key != "format"}
        for key, (fits, allowed) in _FIELDS.items():
            if key in given and not fits(given[key]):
                raise UsageError(f"{key} is {given[key]!r}; allowed: {allowed}: restore it or save the model again")
        check_heads(content.get("heads", "shared"))
        if not given.get("calibration"):
            given.pop("calibration", None)  # an empty list, as the first version wrote it
        known = {each.name for each in fields(cls)} - {"further"}
        further = {key: value for key, value in given.items() if key not in known}
        return cls(**{key: value for key, value in given.items() if key in known}, further=further)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `elbert.json`; what is not known is left out."""
        own = {key: value for key, value in asdict(self).items() if key != "further" and value is not None}
        return {"format": FORMAT, **own, **self.further}

    def met(self, part: Literal["train", "evaluation"]) -> DataRecord:
        """Return the data set the model was trained on, or the one that chose the step whose weights were kept."""
        data = self.training.get("data") if isinstance(self.training, Mapping) else None
        return DataRecord.from_dict(data.get(part) if isinstance(data, Mapping) else None)


_OBJECT: tuple[Callable[[Any], bool], str] = (lambda value: isinstance(value, dict), "an object")
_TRUTH: tuple[Callable[[Any], bool], str] = (lambda value: isinstance(value, bool), "true or false")

# What a reader relies on where the file has it: check, and what is allowed. A record of the training is read as far as
# it is of the usual form, since it explains and changes no answer.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_length": (lambda value: type(value) is int and value >= 3, "a whole number of 3 or more"),
    "problem_type": (lambda value: value in get_args(ProblemType), f"one of {', '.join(get_args(ProblemType))}"),
    "policies": (_OBJECT[0], "an object of exit policies by name"),
    "default_policy": (lambda value: isinstance(value, str), "the name of an exit policy"),
    "calibration": (lambda value: isinstance(value, dict) or value == [], "an object of evidence by policy name"),
    "words": _OBJECT,
    "export": (_OBJECT[0], "an object, as elbert export writes it"),
    "pair_token_types": _TRUTH,
    "pairs": _TRUTH,
}


def metadata(content: Mapping[str, Any] | None, heads: str) -> dict[str, Any]:
    """Return `content` as it is to be saved, with this library's format number and the model's kind of heads."""
    return {**(content or {}), "format": FORMAT, "heads": heads}


def write_metadata(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `elbert.json` into `folder`; it takes the place of an older one only when it is whole."""
    write_whole(folder / FILE_NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


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
    try:
        if "format" not in content:
            raise UsageError(f"it has no format; this elbert reads format {FORMAT}: the file is damaged")
        Metadata.from_dict(content)
    except UsageError as error:
        raise ModelError(f"{path}: {error}") from None
    content.setdefault("heads", "shared")
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
