"""The corpora of the frontier: which rows are learnt from, held out and reported on, and how answers are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from corpora import limited
from elbert import TextDataset, load_data
from elbert.data import split
from elbert.data.splits import same_text
from elbert.evaluation.bench.job import Job
from elbert.modeling.files.open import open_tokenizer
from elbert.modeling.files.sources import find_folder
from elbert.scoring.metrics import score
from elbert.training import TrainSettings, default_model
from elbert.training.prepare import DEV_FRACTION, DEV_SEED
from elbert.training.truncation import choose_length

Array = NDArray[Any]

# Tokens that MiniLM can read, and what is made of it.
POSITIONS = 512

PLUGINS = ("frontier_linear", "frontier_cascade")


@dataclass(frozen=True)
class Corpus:
    """One corpus.

    Attributes:
        name: of its folder.
        title: as people call it.
        split: what is reported on.
        metric: of `score`; None takes the problem's own.
        note: what a reader of its table has to know.
    """

    name: str
    title: str
    split: str = "test"
    metric: str | None = None
    note: str = ""


CORPORA = (
    Corpus("trec", "TREC"),
    Corpus("cola", "CoLA", "dev", "matthews"),
    Corpus("clinc150", "CLINC150"),
    Corpus("rte", "RTE", "dev"),
    Corpus("rotten_tomatoes", "Rotten Tomatoes"),
    Corpus(
        "sst2",
        "SST-2",
        "dev",
        note="Its training rows are phrases and its dev texts whole sentences, so what is guaranteed for texts like "
        "those is no guarantee for these.",
    ),
    Corpus("goemotions", "GoEmotions"),
    Corpus("ag_news", "AG News"),
    Corpus("imdb", "IMDB"),
)


@dataclass(frozen=True)
class Ground:
    """A corpus and where its records lie.

    Attributes:
        corpus: which.
        data: folder with a folder per corpus.
        out: folder of its records and models.
        train_rows: training rows used at most; None uses all.
        test_rows: rows reported on at most; None takes all.
    """

    corpus: Corpus
    data: Path
    out: Path
    train_rows: int | None = None
    test_rows: int | None = None

    @cached_property
    def train(self) -> TextDataset:
        """All training rows; `elbert train` holds a tenth of them out by itself."""
        return limited(load_data(self.data / self.corpus.name, split="train"), self.train_rows)

    @cached_property
    def parts(self) -> tuple[TextDataset, TextDataset]:
        """What `elbert train` learns from, and the tenth that it holds out: nothing else is chosen on."""
        return split(self.train, DEV_FRACTION, DEV_SEED)

    @cached_property
    def held_out(self) -> Array:
        """Which training rows are held out, [N] bool."""
        held = {same_text(text) for text in self.parts[1].texts}  # rows of one text stay together
        return np.array([same_text(text) in held for text in self.train.texts])

    @cached_property
    def test(self) -> TextDataset:
        """What is reported on."""
        whole = load_data(self.data / self.corpus.name, split=self.corpus.split, labels=self.train.label_space)
        return limited(whole, self.test_rows)

    @property
    def problem_type(self) -> Any:
        """How logits are read."""
        return self.train.label_space.problem_type if self.train.label_space else ""

    @property
    def classes(self) -> int:
        """C."""
        return len(self.train.label_space.names) if self.train.label_space else 0

    def score(self, answers: Sequence[Any] | Array, labels: Any) -> float:
        """Return the corpus's metric of answers."""
        return score(self.problem_type, answers, labels, self.corpus.metric)[1]

    def scores(self, answers: Sequence[Any] | Array) -> dict[str, Any]:
        """Return `score`, `f1_macro` and `rarest_recall` of the answers to the texts reported on.

        The rarest class is that of the fewest training rows; of several the recalls are meaned.
        """
        labels = np.asarray(self.test.labels)
        classes = np.eye(self.classes, dtype=bool)
        wanted, said = (each >= 0.5 if each.ndim == 2 else classes[each] for each in (labels, np.asarray(answers)))
        rows = np.asarray(self.train.labels)
        counts = rows.sum(0) if rows.ndim == 2 else np.bincount(rows, minlength=self.classes)
        rarest = np.flatnonzero(counts == counts.min())
        found, there = (wanted & said)[:, rarest].sum(0), wanted[:, rarest].sum(0)
        return {
            "score": self.score(answers, self.test.labels),
            "f1_macro": score(self.problem_type, answers, labels, "f1_macro")[1],
            "rarest_recall": float((found[there > 0] / there[there > 0]).mean()) if (there > 0).any() else None,
        }

    @cached_property
    def max_length(self) -> int:
        """What every encoder reads of a text, that of `elbert train` with no flag."""
        tokenizer = open_tokenizer(find_folder(default_model()))
        return choose_length(TrainSettings().max_length, self.parts[0], tokenizer, POSITIONS)

    def job(self, folder: Path, texts: Sequence[Any], threads: int | None = None) -> Job:
        """Return the job of a race on these texts; graphs stay beside the records."""
        scratch = self.out / "graphs"
        scratch.mkdir(parents=True, exist_ok=True)
        counted = threads or torch.get_num_threads()
        return Job(folder, scratch, texts, self.problem_type, self.max_length, counted, PLUGINS)
