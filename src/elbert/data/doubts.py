"""Doubts about the classes found in a data set: two names that may be one class, and a name that may mean no label."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from elbert.data.table import quote_names, shorten

# What pandas and R read and write in the place of nothing, and SNLI where its annotators did not agree.
_NOTHING = ("#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaT", "None", "n/a", "null", "-")


def doubts(names: Sequence[str]) -> list[str]:
    """Return what may be wrong with the names of classes found in a data set, a line each.

    Args:
        names: all different.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_seen(name), []).append(name)
    lines = [
        f"classes {quote_names(group)} hardly differ; spell them alike where they are one class"
        for group in alike.values()
        if len(group) > 1
    ]
    absent = [name for name in names if name in _NOTHING and not (name == "-" and "+" in names)]
    return lines + [f"{shorten(name)} is read as a class; where it means no label, drop its rows" for name in absent]


def _seen(name: str) -> str:
    """Return what a reader sees of a name: no case, no form of an accent, no sign without a shape."""
    shown = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    return " ".join(shown.split()).casefold() or name
