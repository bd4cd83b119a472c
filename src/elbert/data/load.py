"""`load_data` reads any source of rows into a `TextDataset`; `read_texts` streams their texts, without labels.

Both go through `open_table`, the columns' finder and `read_text`; one keeps what the other hands on.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from elbert.data.columns import Columns, find_columns, find_texts, read_text
from elbert.data.dataset import Text, TextDataset
from elbert.data.doubts import doubts
from elbert.data.infer import Guess, check_shapes, describe, guess_problem, marked_problem, name_classes
from elbert.data.label_sets import read_lists, refuse_vectors
from elbert.data.labels import Labels
from elbert.data.readers import open_table
from elbert.data.table import BrokenRows, EmptyTexts, Table, Where, quote_names
from elbert.data.values import check_present, is_missing, is_null, plain, split_set
from elbert.errors import DataError, DataWarning, UsageError
from elbert.tasks import MULTI_LABEL, task_of

if TYPE_CHECKING:
    from elbert.results import ProblemType

logger = logging.getLogger(__name__)


class _Rows(NamedTuple):
    """What was read of each row that could be read: its text, its label as it stands there, and its place."""

    texts: list[Text]
    values: list[Any]
    places: list[Where]

    def keep(self, rows: Sequence[int]) -> _Rows:
        chosen = [(self.texts[row], self.values[row], self.places[row]) for row in rows]
        return _Rows(*map(list, zip(*chosen, strict=True))) if chosen else _Rows([], [], [])


def load_data(
    source: Any,
    *,
    split: str = "train",
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    labels: Labels | None = None,
    require_labels: bool = True,
    problem_type: ProblemType | None = None,
    input_format: str | None = None,
    skip_broken_rows: bool = False,
) -> TextDataset:
    """Read a whole data set.

    Args:
        source: a CSV, TSV, JSONL, Parquet or text file (also .gz), a folder with train/dev/test files,
            `hub:NAME[:CONFIG[:SPLIT]]`, `-`, a DataFrame, a datasets.Dataset, a list of texts, pairs or dicts, or a
            dict of columns.
        split: which part to take where the source has several; `dev` also takes validation, else test.
        text_column: where the text is not found by name.
        text_pair_column: the same for its pair.
        label_column: the same for the label.
        labels: a trained model's labels, to encode with; without, the label space is made from the data, and a line
            says how it was read: a log line, or a warning where it could be meant otherwise.
        require_labels: whether a source without a label column, or with nothing in it, is an error.
        problem_type: overrules the guess from the label values.
        input_format: `csv`, `tsv`, `tsv-quoted`, `jsonl`, `parquet`, `txt` or `fasttext`, where a file's name does not
            say it.
        skip_broken_rows: leave out, and count in a warning, rows of another width than the header, lines that are no
            JSON object, and rows whose text or label is missing.

    Raises:
        UsageError: an unknown source, format, split, column or problem type; several columns could be the label.
        DataError: a row that cannot be read, a missing text or label, a label never seen in training; names the row.
        MissingExtraError: reading this needs a package that is not installed.

    Warns:
        DataWarning: something may be meant otherwise than it was read, rows were skipped, texts are empty, one text
            has two labels, or two classes hardly differ.
    """
    _check_problem(problem_type, labels)
    broken = BrokenRows(skip=skip_broken_rows)
    with open_table(source, split, input_format) as table:
        named = (text_column, text_pair_column, label_column)
        columns = find_columns(_not_empty(table), *named, require_labels=require_labels)
        rows = _read_rows(table, columns, broken)
    if columns.label is None or (not require_labels and all(is_missing(value) for value in rows.values)):
        broken.tell(table.name, len(rows.texts) + broken.count)
        return TextDataset(rows.texts, None, None, table.name)
    declared = table.class_names.get(columns.label, ())
    given, marked = labels.problem_type if labels is not None else problem_type, table.marks_labels
    if not declared and not marked and given in (None, MULTI_LABEL.problem_type):
        rows = rows._replace(values=list(read_lists(rows.values, rows.places)))
    check_shapes(rows.values, rows.places)
    if given:
        guess = Guess(given)
    elif marked:
        guess = marked_problem(rows.values)
    else:
        guess = guess_problem(rows.values, columns.label, rows.places, declared=bool(declared))
    rows = _settle_missing(rows, guess.problem_type, broken, marked=marked)
    broken.tell(table.name, len(rows.texts) + broken.count)
    if labels is None:
        labels = Labels(guess.problem_type, declared) if declared else None
        guessed = problem_type is None and not marked
        labels = labels or name_classes(rows.values, guess.problem_type, rows.places, guessed=guessed)
        _tell_reading(table.name, columns, labels, guess if problem_type is None else None)
        for doubt in () if declared else doubts(labels.names, len(rows.texts)):
            warnings.warn(f"{table.name}: {doubt}", DataWarning, stacklevel=2)
    encoded: Any = [labels.encode(value, place) for value, place in zip(rows.values, rows.places, strict=True)]
    if declared != labels.names:
        _tell_ids(table.name, labels, rows.values)
    _tell_contradictions(rows.texts, encoded, rows)
    return TextDataset(rows.texts, encoded, labels, table.name)


def load_texts(
    source: Any,
    *,
    split: str = "train",
    text_column: str | None = None,
    text_pair_column: str | None = None,
    input_format: str | None = None,
    skip_broken_rows: bool = False,
) -> TextDataset:
    """Read the texts of a whole data set and leave its labels alone, whatever they look like.

    Arguments and errors are those of `load_data`.
    """
    broken = BrokenRows(skip=skip_broken_rows)
    with open_table(source, split, input_format) as table:
        rows = _read_rows(table, find_texts(_not_empty(table), text_column, text_pair_column), broken)
    broken.tell(table.name, len(rows.texts) + broken.count)
    return TextDataset(rows.texts, name=table.name)


def read_texts(
    source: Any,
    *,
    split: str = "train",
    text_column: str | None = None,
    text_pair_column: str | None = None,
    input_format: str | None = None,
    skip_broken_rows: bool = False,
) -> Iterator[tuple[int, Text]]:
    """Stream the texts of a source, holding a row at a time; labels are not looked at.

    Arguments and errors are those of `load_data`; standard input is `txt` where no format is named.

    Yields:
        `(row number from 1, text or pair)`, in order.
    """
    broken, empty, number = BrokenRows(skip=skip_broken_rows), EmptyTexts(), 0
    with open_table(source, split, input_format) as table:
        if not table.columns:
            return
        columns = find_texts(table, text_column, text_pair_column)
        for row in table.rows:
            number = row.number
            try:
                text = read_text(table, row, columns)
            except DataError as error:
                broken.meet(error)
                continue
            empty.see(text, number)
            yield number, text
    broken.tell(table.name, number)
    empty.tell(table.name)


def _check_problem(problem_type: str | None, labels: Labels | None) -> None:
    if problem_type is not None:
        task_of(problem_type)  # there is such a one
    if labels is not None and problem_type not in (None, labels.problem_type):
        raise UsageError(
            f"problem_type {problem_type!r} but the model's labels are for {labels.problem_type!r}; leave it"
        )


def _not_empty(table: Table) -> Table:
    if not table.columns:
        raise DataError(f"{table.name}: no rows; give at least one")
    return table


def _read_rows(table: Table, columns: Columns, broken: BrokenRows) -> _Rows:
    """Return every row's text, label value and place; those that can't be read are skipped where that was asked for."""
    rows, empty = _Rows([], [], []), EmptyTexts()
    for row in table.rows:
        place = Where(table.name, row.number, row.line)
        try:
            text = read_text(table, row, columns)
            value = None if columns.label is None else plain(row.cells.get(columns.label), place)
        except DataError as error:
            broken.meet(error)
            continue
        empty.see(text, row.number)
        rows.texts.append(text)
        rows.values.append(value)
        rows.places.append(place)
    if not rows.texts:
        broken.tell(table.name, broken.count)
        raise DataError(f"{table.name}: no rows under the header; give at least one")
    empty.tell(table.name, level=4)
    return rows


def _settle_missing(rows: _Rows, kind: ProblemType, broken: BrokenRows, *, marked: bool) -> _Rows:
    """Give every row a label, or leave it out where that was asked for.

    Among label sets that are cells of text an absent one is the empty set in every format; where every label is
    marked, no mark is no label, as it is to fastText.
    """
    empty, listed = task_of(kind).empty, any(isinstance(value, list) for value in rows.values)
    if empty is not None and not listed and not marked:
        values = [empty if is_null(value) else value for value in rows.values]
        refuse_vectors([split_set(value, place) for value, place in zip(values, rows.places, strict=True)], rows.places)
        return rows._replace(values=values)
    kept: list[int] = []
    for row, (value, place) in enumerate(zip(rows.values, rows.places, strict=True)):
        try:
            check_present(value, place)
            kept.append(row)
        except DataError as error:
            broken.meet(error)
    if empty is not None:
        refuse_vectors(rows.values, rows.places)
    return rows if len(kept) == len(rows.texts) else rows.keep(kept)


def _tell_reading(source: str, columns: Columns, space: Labels, guess: Guess | None) -> None:
    """Say which columns are read and as what: a warning where that could be wrong."""
    texts = " and ".join(repr(column) for column in (columns.text, columns.text_pair) if column is not None)
    reason = f", because {guess.reason}" if guess is not None and guess.reason else ""
    flags = "--text-column, --label-column" + (" and --problem-type" if guess is not None else "")
    read = f"text from {texts}, label from {columns.label!r}, read as {describe(space)}{reason}"
    told = f"{source}: {read}; {flags} overrule"
    if reason:
        warnings.warn(told, DataWarning, stacklevel=3)
    else:
        logger.info("%s", told)


def _tell_ids(source: str, labels: Labels, values: Sequence[Any]) -> None:
    """Warn where numbers in the data are taken for the ids of classes that have names of words."""
    if ids := labels.read_as_ids(values):
        numbers = ", ".join(map(str, ids[:12])) + (" …" if len(ids) > 12 else "")
        meant = quote_names([labels.decode(each) for each in ids])
        warnings.warn(f"{source}: labels {numbers} are read as class numbers: {meant}", DataWarning, stacklevel=3)


def _tell_contradictions(texts: Sequence[Text], labels: Sequence[Any], rows: _Rows) -> None:
    """Warn of texts that stand there twice with different labels."""
    first: dict[Text, int] = {}
    twice: dict[Text, tuple[int, int]] = {}
    for row, text in enumerate(texts):
        before = first.setdefault(text, row)
        if labels[before] != labels[row]:
            twice.setdefault(text, (before, row))
    if twice:
        before, row = next(iter(twice.values()))
        where = f"the first in rows {rows.places[before].row} and {rows.places[row].row}"
        told = f"texts with one label here and another there: {len(twice):,}, {where}; no model can be right about both"
        warnings.warn(f"{rows.places[before].source}: {told}", DataWarning, stacklevel=3)
