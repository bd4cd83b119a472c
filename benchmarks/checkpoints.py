"""What a start is worth: random weights, the bundled `mini`, any other encoder; several corpora, several seeds.

    python benchmarks/checkpoints.py --data CORPORA --start random mini MINILM_FOLDER --out runs/checkpoints

Every start is fine-tuned on every corpus with the default scheme, once per seed. `random` is `mini`'s own shape and
tokenizer without what it learnt. Scores are of the test texts, at full depth and with the ELBERT policy or the constant
depth that scored best, on texts kept aside from training, among those at least 2, 3 and 5 times shallower than full
depth; below them stands the mean score of every layer. `--teacher MODEL` trains every start a second time, taught by a
finished classifier of the one corpus named, and `--rest` a third time, with the rows that a limit leaves out as texts
that the teacher alone labels. `--whole` takes all rows (or --rows) and the defaults of `elbert train` instead. Models
already in --out are not trained again. Prints a table of mean ± standard deviation over the seeds, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModel

from corpora import HELD_OUT, Corpus, left_out, limited
from elbert import Classifier, TrainSettings, load_data, train
from elbert.data import TextDataset, split
from elbert.exits import make
from elbert.modeling.files.load import load_model
from elbert.scoring.curves import OperatingPoint, operating_points, scores_by_layer
from elbert.training import start_model

CORPORA = (
    Corpus("sst2", epochs=1, max_length=64, train_rows=20_000),
    Corpus("trec", epochs=3, max_length=64, split="test"),
    Corpus("ag_news", epochs=1, max_length=64, split="test", train_rows=8000, test_rows=2000),
    Corpus("rte", epochs=1, max_length=96),
    Corpus("cola", epochs=2, max_length=64),
    Corpus("clinc150", epochs=4, max_length=64, split="test"),
)
METRICS = {"cola": "matthews"}
SPEEDUPS = (2, 3, 5)
POLICIES = ("elbert", "fixed")
RANDOM = "random"


def random_start(out: Path) -> str:
    """Write `mini`'s shape and tokenizer with random weights, once, and return the folder."""
    folder = out / "random-start"
    if not folder.exists():
        model, tokenizer, _ = load_model("mini", num_labels=2)
        torch.manual_seed(0)
        AutoModel.from_config(model.config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


@dataclass(frozen=True)
class Lesson:
    """Who teaches beside the labels.

    Attributes:
        teacher: folder of a finished classifier of the corpus.
        rest: it speaks on the training rows that a limit leaves out, too.
    """

    teacher: Path
    rest: bool = False

    @property
    def name(self) -> str:
        """What stands behind the start's name."""
        return f"by {self.teacher.name}" + (" and rest" if self.rest else "")


@dataclass(frozen=True)
class Ground:
    """A corpus as one seed divides it.

    Attributes:
        corpus: what is learnt.
        data: folder with a folder per corpus.
        seed: of the division and of every training on it.
    """

    corpus: Corpus
    data: Path
    seed: int

    @cached_property
    def parts(self) -> tuple[TextDataset, TextDataset]:
        """What is learnt from, and what is kept aside."""
        whole = limited(load_data(self.data / self.corpus.name, split="train"), self.corpus.train_rows)
        return split(whole, HELD_OUT, self.seed)

    @property
    def rest(self) -> TextDataset:
        """The training texts that a limit on rows leaves out."""
        return left_out(load_data(self.data / self.corpus.name, split="train"), self.corpus.train_rows)

    @property
    def metric(self) -> str | None:
        """What scores are; None for the problem's own."""
        return METRICS.get(self.corpus.name)

    @property
    def settings(self) -> TrainSettings:
        """How a start is fine-tuned with exits."""
        return TrainSettings(epochs=self.corpus.epochs, max_length=self.corpus.max_length, seed=self.seed)

    def trained(self, start: str, folder: Path, settings: TrainSettings, lesson: Lesson | None = None) -> Classifier:
        """Train `start` into `folder` if need be, taking up what was left unfinished, and return it."""
        if not folder.exists():
            learn, held_out = self.parts
            network, tokenizer = start_model(start, learn, settings)
            resume = folder.with_name(f"{folder.name}.partial").exists()
            teacher = None if lesson is None else str(lesson.teacher)
            rest = self.rest if lesson is not None and lesson.rest else None
            run = (network, tokenizer, learn, held_out, settings, folder, resume)
            train(*run, model_name=start, teacher=teacher, unlabelled=rest)
        return Classifier.from_pretrained(folder)

    def test(self, classifier: Classifier) -> TextDataset:
        """Return the texts to report on, labelled as the classifier's."""
        whole = load_data(self.data / self.corpus.name, split=self.corpus.split, labels=classifier.labels)
        return limited(whole, self.corpus.test_rows)

    def at_depths(
        self, classifier: Classifier, depths: Sequence[float], policies: Sequence[str]
    ) -> tuple[list[float], list[OperatingPoint]]:
        """Return the test score of every layer, and for each depth the test's point of a policy no deeper than that.

        Of the families' grids it is the policy that scored best on the texts kept aside.
        """
        held_out, test = self.parts[1], self.test(classifier)
        chosen_on, reported_on = classifier.record(held_out.texts), classifier.record(test.texts)
        sizes = classifier.num_layers, classifier.labels.num_labels
        grid = [policy for name in policies for policy in make(name).grid(*sizes)]
        points = operating_points(chosen_on, held_out.labels, grid, self.metric)
        chosen = []
        for depth in depths:
            shallow = [point for point in points if point.mean_exit_layer <= depth]
            best = max(shallow, key=lambda point: (point.score, -point.mean_exit_layer))
            chosen += operating_points(reported_on, test.labels, [best.policy], self.metric)
        return list(scores_by_layer(reported_on, test.labels, self.metric)), chosen


def measure(ground: Ground, start: str, folder: Path, lesson: Lesson | None = None) -> dict[str, Any]:
    """Train if need be; return the test score of every layer, at full depth and at each speedup."""
    classifier = ground.trained(start, folder, ground.settings, lesson)
    layers = classifier.num_layers
    scores, points = ground.at_depths(classifier, [layers / speedup for speedup in SPEEDUPS], POLICIES)
    result: dict[str, Any] = {"full": scores[-1], "by_layer": scores}
    for speedup, point in zip(SPEEDUPS, points, strict=True):
        result[f"{speedup}x"] = point.score
        result[f"{speedup}x_layer_speedup"] = layers / point.mean_exit_layer
    return result


def one_start(corpus: Corpus, start: str, lesson: Lesson | None, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a start comes to on a corpus, with every seed, taught beside the labels or not."""
    source = random_start(options.out) if start == RANDOM else start
    name = Path(start).name + (f" {lesson.name}" if lesson else "")
    runs = []
    for seed in options.seeds:
        folder = options.out / f"{corpus.name}-{name.replace(' ', '-')}-{seed}"
        runs.append(measure(Ground(corpus, options.data, seed), source, folder, lesson))
    return {"corpus": corpus.name, "start": name, "trained": asdict(corpus), "runs": runs}


def whole(corpus: Corpus) -> Corpus:
    """Return a corpus with all its rows, used as `elbert train` does when nothing is said."""
    defaults = TrainSettings()
    return replace(corpus, epochs=defaults.epochs, max_length=defaults.max_length, train_rows=None, test_rows=None)


def by_layer(runs: list[dict[str, Any]]) -> str:
    """Return every layer's mean score over the runs as text."""
    return " ".join(f"{statistics.mean(scores):.3f}" for scores in zip(*(r["by_layer"] for r in runs), strict=True))


def spread(values: list[float]) -> str:
    """Return mean ± standard deviation as text."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def main() -> None:
    names = [corpus.name for corpus in CORPORA]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder per corpus")
    parser.add_argument("--start", nargs="+", default=[RANDOM, "mini"], help="random, a bundled name, or a folder")
    parser.add_argument("--only", nargs="*", choices=names, help="some corpora only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, help="train on at most so many rows of each corpus")
    parser.add_argument("--teacher", type=Path, help="folder of a finished classifier of the one corpus in --only")
    parser.add_argument("--rest", action="store_true", help="it teaches the training rows left out by a limit, too")
    parser.add_argument("--whole", action="store_true", help="all rows, trained with the defaults of elbert train")
    parser.add_argument("--out", type=Path, default=Path("runs/checkpoints"), help="where the models go")
    options = parser.parse_args()
    if options.teacher is not None and len(options.only or ()) != 1:
        parser.error("--teacher knows the classes of one corpus; name it with --only")
    if options.rest and options.teacher is None:
        parser.error("--rest are texts that a --teacher labels; name one")
    lessons: list[Lesson | None] = [None]
    if options.teacher is not None:
        lessons += [Lesson(options.teacher.resolve(), rest) for rest in (False, True)[: 1 + options.rest]]
    options.out.mkdir(parents=True, exist_ok=True)
    columns = ["full", *(f"{speedup}x" for speedup in SPEEDUPS)]
    print(f"{'corpus':<10}{'start':<28}" + "".join(f"{column:>17}" for column in columns))
    rows: list[dict[str, Any]] = []
    for corpus in CORPORA:
        if options.only and corpus.name not in options.only:
            continue
        used = whole(corpus) if options.whole else corpus
        used = replace(used, train_rows=min(filter(None, (used.train_rows, options.rows)), default=None))
        for start, lesson in product(options.start, lessons):
            row = one_start(used, start, lesson, options)
            rows.append(row)
            print(
                f"{corpus.name:<10}{row['start']:<28}"
                + "".join(f"{spread([run[column] for run in row['runs']]):>17}" for column in columns)
                + f"\n{'':<10}by layer: {by_layer(row['runs'])}",
                flush=True,
            )
    machine = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seeds": options.seeds,
    }
    print(json.dumps({"benchmark": "checkpoints", **machine, "rows": rows}))


if __name__ == "__main__":
    main()
