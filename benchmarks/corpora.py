"""Real corpora of every kind, end to end: train, choose a policy on texts kept aside, score and time on test texts.

    python benchmarks/corpora.py --data CORPORA --out runs/corpora

CORPORA holds a folder per corpus (sst2, trec, clinc150, rte, stsb, goemotions, ag_news, imdb). All models are trained
first, then all are timed, so that nothing else computes while the clock runs. A model that is already in --out is not
trained again. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from elbert import Classifier, TextDataset, TrainSettings, load_data, train
from elbert.data import split
from elbert.evaluation.evaluate import evaluate
from elbert.exits import make
from elbert.scoring.curves import fastest_within, operating_points, scores_by_layer
from elbert.training import default_model, start_model


@dataclass(frozen=True)
class Corpus:
    """How one corpus is used; row limits keep the whole command within an hour on two cores."""

    name: str
    epochs: int
    max_length: int
    split: str = "dev"
    train_rows: int | None = None
    test_rows: int | None = None


CORPORA = (
    Corpus("sst2", epochs=1, max_length=64, train_rows=20_000),
    Corpus("trec", epochs=2, max_length=64, split="test"),
    Corpus("clinc150", epochs=3, max_length=64, split="test", train_rows=7500),
    Corpus("rte", epochs=2, max_length=128),
    Corpus("stsb", epochs=3, max_length=128),
    Corpus("goemotions", epochs=2, max_length=64, split="test", train_rows=12_000, test_rows=2000),
    Corpus("ag_news", epochs=1, max_length=96, split="test", train_rows=8000, test_rows=2000),
    Corpus("imdb", epochs=2, max_length=128, split="test", train_rows=400, test_rows=500),
)
HELD_OUT = 0.1
SEED = 0
# What the exits may give up, on the texts kept aside: of accuracy, F1 or correlation.
MAX_DROP = 0.01


def limited(dataset: TextDataset, rows: int | None) -> TextDataset:
    """Return at most `rows` texts, drawn with a fixed seed, every class in its share."""
    if rows is None or rows >= len(dataset):
        return dataset
    return split(dataset, rows / len(dataset), SEED)[1]


def left_out(dataset: TextDataset, rows: int | None) -> TextDataset:
    """Return the texts that `limited` leaves out; there must be some."""
    if rows is None or rows >= len(dataset):
        raise SystemExit(f"{dataset.name}: no row is left out; give --rows below {len(dataset):,}")
    return split(dataset, rows / len(dataset), SEED)[0]


def parts(corpus: Corpus, data: Path) -> tuple[TextDataset, TextDataset]:
    """Return what is learnt from and what is kept aside; the same every time."""
    whole = limited(load_data(data / corpus.name, split="train"), corpus.train_rows)
    return split(whole, HELD_OUT, SEED)


def train_one(corpus: Corpus, data: Path, model: str, out: Path) -> None:
    """Fine-tune on one corpus with the default scheme."""
    learn, held_out = parts(corpus, data)
    settings = TrainSettings(epochs=corpus.epochs, max_length=corpus.max_length, seed=SEED)
    network, tokenizer = start_model(model, learn, settings)
    resume = out.with_name(f"{out.name}.partial").exists()
    summary = train(network, tokenizer, learn, held_out, settings, out, resume, model_name=model)
    print(f"{corpus.name}: {summary.steps} steps, {summary.seconds:.0f} s", flush=True)


def measure(corpus: Corpus, data: Path, folder: Path, batch_size: int) -> dict[str, Any]:
    """Choose the fastest ELBERT policy within MAX_DROP on texts kept aside; score and time it on the test texts."""
    classifier = Classifier.from_pretrained(folder)
    held_out = parts(corpus, data)[1]
    recording = classifier.record(held_out.texts, batch_size=batch_size)
    policies = [*make("elbert").grid(classifier.num_layers, classifier.labels.num_labels), make("full")]
    points = operating_points(recording, held_out.labels, policies)
    full_depth = scores_by_layer(recording, held_out.labels)[-1]
    point = fastest_within(points, full_depth, MAX_DROP, margin=0.0)
    test = limited(load_data(data / corpus.name, split=corpus.split, labels=classifier.labels), corpus.test_rows)
    result = evaluate(classifier, test, point.policy if point else make("full"), batch_size=batch_size)
    rows = len(held_out) * round((1 - HELD_OUT) / HELD_OUT)
    return {"corpus": corpus.name, "train_rows": rows, "epochs": corpus.epochs, **result.to_dict()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder per corpus")
    parser.add_argument("--out", type=Path, default=Path("runs/corpora"), help="where the models go")
    parser.add_argument("--model", default=None, help="what to fine-tune [default: what `elbert train` takes]")
    parser.add_argument("--only", nargs="*", choices=[corpus.name for corpus in CORPORA], help="some corpora only")
    parser.add_argument("--batch-size", type=int, default=32, help="texts in flight")
    parser.add_argument("--train-only", action="store_true", help="make the models, measure nothing")
    options = parser.parse_args()
    chosen = [corpus for corpus in CORPORA if not options.only or corpus.name in options.only]
    model = options.model or default_model()
    for corpus in chosen:
        if not (options.out / corpus.name).exists():
            train_one(corpus, options.data, model, options.out / corpus.name)
    if options.train_only:
        return
    rows = [measure(corpus, options.data, options.out / corpus.name, options.batch_size) for corpus in chosen]
    print(
        f"{'corpus':<12}{'texts':>7} {'metric':<10}{'full':>7}{'exits':>7}{'layer':>8}{'clock':>8}{'effic.':>8}  policy"
    )
    for row in rows:
        policy = " ".join(f"{key}={value}" for key, value in row["policy"].items() if key != "name")
        print(
            f"{row['corpus']:<12}{row['n']:>7} {row['metric']:<10}{row['full_depth_score']:>7.3f}{row['score']:>7.3f}"
            f"{row['layer_speedup']:>7.2f}x{row['speedup']:>7.2f}x{row['engine_efficiency']:>8.2f}  {policy}"
        )
    machine = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "model": model,
    }
    print(json.dumps({**machine, "rows": rows}))


if __name__ == "__main__":
    main()
