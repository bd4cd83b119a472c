"""Values: what one cell of a label column says, whatever kind of file or Python object it came from.

Every question is answered by how a value is written, never by its type: `2` in a CSV file, in JSON and in a data frame
is the same label.
"""

from __future__ import annotations

import math
import re
from datetime import date, time
from decimal import Decimal
from typing import Any

from elbert.data.table import shorten
from elbert.errors import DataError

LABEL_PREFIX = "__label__"  # how fastText marks a label
SEPARATOR = ";"  # between the labels of one text in a CSV or TSV cell
WHOLE_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
_ANY_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# `5E0` and `12E5` are codes: what writes numbers puts a point or a sign there (5.0E0, 5e+00).
_CODE = re.compile(r"[+-]?\d+[eE]\d+", re.ASCII)
_WHOLE_AS_DECIMAL = re.compile(r"([+-]?\d+)\.0*", re.ASCII)
_MIDNIGHT = " 00:00:00"  # what data frames and Parquet make of a column of days, and CSV leaves out
_ABSENT_TYPES = ("NAType", "NaTType")  # pandas' own words for nothing


class WrittenFloat(float):
    """A number that remembers how it was written: `1.10` is another section than `1.1`."""

    written: str

    def __new__(cls, written: str) -> WrittenFloat:
        """Read a number as JSON spells it."""
        self = super().__new__(cls, written)
        self.written = written
        return self

    def __str__(self) -> str:
        return self.written

    __repr__ = __str__


def plain(value: Any, where: object) -> Any:
    """Return a NumPy scalar, array or tensor as Python's own number or list, and UTF-8 bytes as a string.

    Raises:
        DataError: bytes that are not UTF-8.
    """
    if getattr(getattr(value, "dtype", None), "kind", None) == "M":  # dates, as NumPy keeps them
        value = value.astype("datetime64[us]")  # in finer units it would come out as a number
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item, where) for item in value]
    if not isinstance(value, (bytes, bytearray, memoryview)):
        return value
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{where}: the label is not UTF-8; write it as UTF-8") from None


def spell(value: Any) -> str:
    """Return how a value is written, without blanks around it; a day that came as midnight is written as a day."""
    return str(value).removesuffix(_MIDNIGHT).strip() if isinstance(value, date) else str(value).strip()


def is_number(value: Any) -> bool:
    """Say whether a value is a finite number or spells one; True and False are words, and `5E0` is a code."""
    return spells_number(value) and not _CODE.fullmatch(spell(value))


def spells_number(value: Any) -> bool:
    """Say whether a finite number can be read from a value, codes such as `5E0` included."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        return False
    try:
        return _ANY_NUMBER.fullmatch(spell(value)) is not None and math.isfinite(float(value))
    except (OverflowError, ValueError):  # a whole number of hundreds of digits; thousands
        return False


def whole(name: str) -> str:
    """Return a whole number without its decimal part (`1.0` is `1`, as columns with gaps come out of pandas)."""
    match = _WHOLE_AS_DECIMAL.fullmatch(name)
    return match[1] if match else name


def label_name(value: Any, where: object) -> str:
    """Return the name of the class a single value stands for: what is written there.

    Raises:
        DataError: the value is missing (None, NaN, empty), or is a list or another kind of thing.
    """
    check_present(value, where)
    if not isinstance(value, (str, bool, int, float, Decimal, date, time)):
        raise DataError(
            f"{where}: label {shorten(value)} is of type {type(value).__name__}; allowed: one string, number or date"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where}: label {value} is not a finite number; correct it, or drop the row")
    try:
        return spell(value)
    except ValueError:  # Python writes no whole number of more than some 4,000 digits
        raise DataError(f"{where}: the label is a number of thousands of digits; write it as a string") from None


def split_set(value: Any, where: object) -> list[Any]:
    """Return the labels of one text in a multi-label set; an empty string or list is the empty set.

    Raises:
        DataError: the set is missing (None or NaN).
    """
    if isinstance(value, str):
        return [item for item in value.split(SEPARATOR) if item.strip()]
    if isinstance(value, (list, tuple)):
        return list(value)
    check_present(value, where)
    return [value]


def read_number(value: Any, where: object) -> float:
    """Return a regression target.

    Raises:
        DataError: the value is missing or is no finite number.
    """
    check_present(value, where)
    if not spells_number(value):
        raise DataError(f"{where}: score {shorten(value)} is not a finite number; give every row one")
    return float(value)


def is_null(value: Any) -> bool:
    """Say whether a value is nothing at all: None, NaN, pandas' NA or NaT."""
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ in _ABSENT_TYPES


def is_missing(value: Any) -> bool:
    """Say whether a label is not there: nothing at all, or a string that is blank or spells NaN."""
    return value.strip().casefold() in ("", "nan") if isinstance(value, str) else is_null(value)


def check_present(value: Any, where: object) -> None:
    """Refuse a label that is not there.

    Raises:
        DataError: `is_missing`.
    """
    if is_missing(value):
        raise DataError(f"{where}: the label is missing ({shorten(value)}); give one, or drop the row")
