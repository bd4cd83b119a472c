"""Labels: what the classes of a model are called, and how a value from a data set becomes what a loss wants.

`Labels` is the one mapping between names and ids. A label's name is what is written in the data, without the blanks
around it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from elbert.data.label_sets import read_list
from elbert.data.table import quote_names, shorten
from elbert.data.values import (
    SEPARATOR,
    WHOLE_NUMBER,
    is_number,
    label_name,
    plain,
    read_number,
    spell,
    split_set,
    whole,
)
from elbert.errors import DataError, UsageError
from elbert.tasks import Task, task_of

if TYPE_CHECKING:
    from elbert.results import ProblemType

Encoded = int | float | list[float]


@dataclass(frozen=True)
class Labels:
    """The label space of a data set or model.

    Attributes:
        problem_type: one of transformers' three words.
        names: class names by id; empty for regression.
    """

    problem_type: ProblemType
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that there is such a problem, and that the names fit it."""
        task_of(self.problem_type)
        if len(set(self.names)) != len(self.names):
            raise UsageError(f"label names {quote_names(self.names)} are not all different; rename one")

    @property
    def task(self) -> Task:
        """What the problem type means."""
        return task_of(self.problem_type)

    @property
    def num_labels(self) -> int:
        """Width of a model's output: the number of classes, 1 for regression."""
        return len(self.names) or 1

    @property
    def id2label(self) -> dict[int, str]:
        """What goes into a model's config; the one output of regression is called `score`."""
        return dict(enumerate(self.names or ("score",)))

    @property
    def label2id(self) -> dict[str, int]:
        """The reverse of `id2label`."""
        return {name: position for position, name in self.id2label.items()}

    @classmethod
    def from_id2label(cls, id2label: Mapping[Any, str], problem_type: ProblemType) -> Labels:
        """Read a model config's `id2label`, whose keys may be ints or strings.

        Raises:
            UsageError: the ids are not 0 to C - 1.
        """
        names = {int(position): str(name) for position, name in id2label.items()}
        if sorted(names) != list(range(len(names))):
            raise UsageError(f"id2label has ids {sorted(names)}; allowed: 0 to {len(names) - 1}, each once")
        ordered = tuple(names[position] for position in range(len(names)))
        return cls(problem_type, task_of(problem_type).kept(ordered))

    def decode(self, label: int) -> str:
        """Return the name of class `label`.

        Raises:
            UsageError: there is no such class.
        """
        names = self.id2label
        if label not in names:
            raise UsageError(f"no class {label!r}; allowed: 0 to {self.num_labels - 1}")
        return names[label]

    def encode(self, value: Any, where: object) -> Encoded:
        """Turn a value from a data set into what a loss wants.

        Args:
            value: a name, a number, or for multi-label a list of them or a string with `;` between them.
            where: the place it stands; its `str()` starts the error line.

        Returns:
            An id (single label), a list of C zeros and ones (multi-label), or the number itself (regression).

        Raises:
            DataError: the label is missing, of the wrong kind, or was never seen in training.
        """
        value = plain(value, where)
        if not self.task.has_classes:
            return read_number(value, where)
        ids = [self._id(item, where) for item in self.task.items(value, partial(split_set, where=where))]
        if len(set(ids)) != len(ids):
            raise DataError(
                f"{where}: label set {shorten(value)} names a label twice; list the labels present, not zeros and ones"
            )
        encoded: Encoded = self.task.target(ids, len(self.names))
        return encoded

    def read_as_ids(self, values: Sequence[Any]) -> list[int]:
        """Return which classes some values of a data set name by number although the classes have names of words.

        Args:
            values: that `encode` takes.
        """
        if not self.names or not self._accepts_ids:
            return []
        items = [item for value in values for item in self.task.items(value, partial(split_set, where=""))]
        return sorted({self._id(item, "") for item in items if is_number(item)})

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {spell(name): position for position, name in enumerate(self.names)}

    @cached_property
    def _other_spellings(self) -> dict[str, int | None]:
        """Other spellings of a name: `1.0` of `1`, `true` of `True`; None where it could be another one's too."""
        found: dict[str, int | None] = {}
        for name, position in self._ids.items():
            other = _other_spelling(name)
            found[other] = None if other in found else position
        return found

    @cached_property
    def _accepts_ids(self) -> bool:
        return not any(is_number(name) for name in self.names)

    def _id(self, value: Any, where: object) -> int:
        if isinstance(value, (list, tuple)):
            raise DataError(f"{where}: label {shorten(value)} is a list, {self.task.several}")
        name = label_name(value, where)
        known = self._ids.get(name, self._other_spellings.get(_other_spelling(name)))
        if known is not None:
            return known
        if self._accepts_ids and WHOLE_NUMBER.fullmatch(whole(name)):
            if 0 <= int(whole(name)) < len(self.names):
                return int(whole(name))
            raise DataError(f"{where}: label id {name} is out of range; allowed: 0 to {len(self.names) - 1}, or names")
        raise DataError(
            f"{where}: label {shorten(name)} was never seen in training; {self._hint(name)}"
            f"known: {quote_names(self.names)}"
        )

    def _hint(self, name: str) -> str:
        """Return what may have been meant by a name that is none."""
        parts = read_list(name) or [part.strip() for part in name.split(SEPARATOR) if part.strip()]
        if parts and all(part in self._ids for part in parts):
            return f"it is a set of known ones, {self.task.several}; "
        alike = [each for each in self.names if each.casefold() == name.casefold()]
        close = alike or difflib.get_close_matches(name, self.names, n=1)
        return f"did you mean {close[0]!r}? " if close else ""


def _other_spelling(name: str) -> str:
    return name.casefold() if name.casefold() in ("true", "false") else whole(name)
