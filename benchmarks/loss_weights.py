"""What each loss scheme makes of one start on a long run: dev score of every layer, and its weights over the steps.

    python benchmarks/loss_weights.py --data data/sst2 --epochs 5 --out runs/loss_weights

Every scheme starts from the same weights and meets the same batches in the same order (one seed). Prints two tables and
then one JSON line, and keeps the models in --out; a scheme whose model is already there is not trained again, and one
that was broken off goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch
import transformers

from elbert.data import TextDataset, load_data, split
from elbert.training import TrainSettings, default_model, schemes, start_model, train
from elbert.training.steplog import read_log

# How many points of the weights' course go into the tables and the JSON line.
POINTS = 12


def limited(dataset: TextDataset, rows: int | None, seed: int) -> TextDataset:
    """Return at most `rows` texts, every class in its share."""
    return dataset if rows is None or rows >= len(dataset) else split(dataset, rows / len(dataset), seed)[1]


def train_one(
    scheme: str, model: str, parts: tuple[TextDataset, TextDataset | None], options: argparse.Namespace
) -> dict[str, Any]:
    """Train with one scheme, unless its model is there, and read what its log says."""
    settings = TrainSettings(
        scheme=scheme,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        max_length=options.max_length,
        seed=options.seed,
        dtype=options.dtype,
        metric=options.metric,
        metric_for_best="mean-exit",
    )
    out = options.out / scheme
    if not out.exists():
        network, tokenizer = start_model(model, parts[0], settings)
        resume = out.with_name(f"{out.name}.partial").exists()
        train(network, tokenizer, *parts, settings, out, resume, model_name=model)
    log = read_log(out / "training_log.jsonl")
    training = json.loads((out / "elbert.json").read_text())["training"]
    steps = [entry for entry in log if "weights" in entry]
    scored = [entry for entry in log if "scores" in entry]
    return {
        "scheme": scheme,
        "last_scores": scored[-1]["scores"],
        "last_mean_exit": mean(scored[-1]["scores"]),
        "best_step": training["best_step"],
        "best_scores": training["layer_scores"],
        "best_mean_exit": mean(training["layer_scores"]),
        "scores_by_epoch": [{"step": entry["step"], "scores": entry["scores"]} for entry in scored],
        "weights": [{"step": entry["step"], "weights": entry["weights"]} for entry in thinned(steps)],
        "smallest_weight": min(min(entry["weights"]) for entry in steps),
        "final_train_losses": [mean(column) for column in zip(*(e["layer_losses"] for e in steps[-50:]), strict=True)],
        "seconds": training["seconds"],
        "dtype": training["dtype"],
        "learning_rate": training["learning_rate"],
        "metric": training["metric"],
        "train_rows": training["train_rows"],
        "dev_rows": training["dev_rows"],
    }


def mean(values: Any) -> float:
    """Return the mean of some numbers."""
    listed = list(values)
    return sum(listed) / len(listed)


def thinned(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first entry, the last, and some in between at equal distances."""
    count = min(POINTS, len(entries))
    return [entries[round(place * (len(entries) - 1) / max(count - 1, 1))] for place in range(count)]


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Print the layers' scores of every scheme, then the course of the weights."""
    layers = range(1, len(rows[0]["last_scores"]) + 1)
    head = "".join(f"{layer:>7}" for layer in layers)
    print(f"{rows[0]['metric']} on {rows[0]['dev_rows']} dev texts after the last epoch, by layer; mean over layers")
    print(f"{'scheme':<18}{head}   mean")
    for row in rows:
        print(f"{row['scheme']:<18}" + "".join(f"{score:>7.3f}" for score in row["last_scores"]), end="")
        print(f"{row['last_mean_exit']:>7.4f}")
    for row in rows:
        first, *others = row["weights"]
        moving = any(point["weights"] != first["weights"] for point in others)
        print(f"\nweights of {row['scheme']} by layer{'' if moving else ', the same at every step'}\n{'step':>8}{head}")
        for point in row["weights"] if moving else [first]:
            print(f"{point['step']:>8}" + "".join(f"{weight:>7.3f}" for weight in point["weights"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="training data, as `elbert train` takes it")
    parser.add_argument("--eval", help="dev data [default: the dev part of --data where it is a folder, else a tenth]")
    parser.add_argument("--model", help="what to start from [default: what `elbert train` takes]")
    parser.add_argument("--schemes", nargs="+", default=schemes.names(), choices=schemes.names())
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--metric")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, help="train on so many texts only")
    parser.add_argument("--out", type=Path, default=Path("runs/loss_weights"))
    options = parser.parse_args()
    model = options.model or default_model()
    learn = limited(load_data(options.data, split="train"), options.rows, options.seed)
    dev_source = options.eval or (options.data if Path(options.data).is_dir() else None)
    dev = load_data(dev_source, split="dev", labels=learn.label_space) if dev_source else None
    rows = [train_one(scheme, model, (learn, dev), options) for scheme in options.schemes]
    print_tables(rows)
    document = {
        "benchmark": "loss_weights",
        "model": model,
        "data": options.data,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "max_length": options.max_length,
        "seed": options.seed,
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "rows": rows,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
