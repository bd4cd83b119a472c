"""Where texts came from: what tells two data sets apart or finds their common texts, and a name that says little."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

# Hashes kept of a data set: 43 kB of text for 4,096.
SKETCH_SIZE = 4096


def fingerprint(texts: Sequence[Any], labels: Any) -> str:
    """Return the SHA-256 of texts and labels in their order, 64 hexadecimal digits.

    Args:
        texts: N strings or pairs.
        labels: as a `TextDataset` holds them, or None.
    """
    return hashlib.sha256(json.dumps([list(texts), labels]).encode()).hexdigest()


def sketch(texts: Iterable[Any]) -> str:
    """Return the least 64-bit hashes of the texts, at most `SKETCH_SIZE`: enough to find them again, not to read them.

    Up to that many texts it knows every one; of more it knows those whose hash is small, whoever looks for them.

    Source: the bottom-k sketch of Broder, "On the resemblance and containment of documents", 1997.

    Args:
        texts: strings or pairs, in any order.

    Returns:
        Base64 of ascending little-endian numbers.
    """
    hashes = np.unique(_hashes(texts))[:SKETCH_SIZE]
    return base64.b64encode(hashes.astype("<u8").tobytes()).decode("ascii")


def common(texts: Iterable[Any], known: str) -> tuple[int, int]:
    """Return how many texts a sketch knows, and how many of them it could have known.

    Args:
        texts: strings or pairs.
        known: from `sketch`.

    Raises:
        ValueError: it is no sketch.
    """
    kept = np.frombuffer(base64.b64decode(known, validate=True), dtype="<u8")
    hashes = _hashes(texts)
    if len(kept) >= SKETCH_SIZE:
        hashes = hashes[hashes <= kept[-1]]
    return int(np.isin(hashes, kept).sum()), len(hashes)


def _hashes(texts: Iterable[Any]) -> Any:
    digests = (hashlib.blake2b(json.dumps(text).encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8")


def short_name(name: str) -> str:
    """Return a source's name without the path to it, which is nobody's business but its owner's."""
    path = PurePath(name)
    if name.startswith("hub:") or not path.name:
        return name
    # "train.csv" alone says nothing: its folder is what people call the data set.
    return f"{path.parent.name}/{path.name}" if path.suffix and path.parent.name else path.name
