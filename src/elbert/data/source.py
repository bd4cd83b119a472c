"""Where texts came from: a number that tells two data sets apart, and a name that says no more than it has to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any


def fingerprint(texts: Sequence[Any], labels: Any) -> str:
    """Return the SHA-256 of texts and labels in their order, 64 hexadecimal digits.

    Args:
        texts: N strings or pairs.
        labels: as a `TextDataset` holds them, or None.
    """
    return hashlib.sha256(json.dumps([list(texts), labels]).encode()).hexdigest()


def short_name(name: str) -> str:
    """Return a source's name without the path to it, which is nobody's business but its owner's."""
    path = PurePath(name)
    if name.startswith("hub:") or not path.name:
        return name
    # "train.csv" alone says nothing: its folder is what people call the data set.
    return f"{path.parent.name}/{path.name}" if path.suffix and path.parent.name else path.name
