"""Exits beside a model with fewer layers: the first k layers, fine-tuned without exits at the same cost.

    python benchmarks/first_layers.py --data CORPORA --corpora sst2 --layers 2 4 6

The model with exits is trained with the default scheme; each first-k model is the same start cut to k layers, trained
by its last layer's loss alone for M / k times as many epochs, so that all have cost the same layer passes. The exits'
policy is the ELBERT setting that scores best, on texts kept aside from training, among those at least M / k times
shallower. Scores are of the test texts, means over the seeds. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from checkpoints import CORPORA, Ground
from corpora import Corpus
from elbert.evaluation.bench.machine import machine, versions
from elbert.modeling import MultiExitModel
from elbert.modeling.files.load import load_model
from elbert.scoring.curves import scores_by_layer


def cut(start: str, layers: int, out: Path) -> str:
    """Write `start` with so many layers only, once, and return the folder."""
    folder = out / f"first-{layers}"
    if not folder.exists():
        model, tokenizer, elbert = load_model(start, num_labels=2)
        keep_layers(model, range(1, layers + 1))
        model.save_pretrained(folder, tokenizer=tokenizer, elbert=elbert)
    return str(folder)


def keep_layers(model: MultiExitModel, layers: Sequence[int]) -> None:
    """Leave a model these of its layers, 1-based and ascending; those of an ALBERT with one group are all the same."""
    config, depth = model.config, model.num_layers
    if max(layers) > depth:
        raise SystemExit(f"first_layers.py: layer {max(layers)} is to be kept; allowed: 1 to {depth}, the model's")
    groups = getattr(config, "num_hidden_groups", depth)
    if groups not in (1, depth) or hasattr(config, "layer_types"):
        kinds = f"{groups} hidden groups" if groups not in (1, depth) else "layers of several kinds"
        raise SystemExit(
            f"first_layers.py: the model has {kinds}; allowed: one that all share, or layers alike, each with weights "
            "of its own"
        )
    if groups > 1 or depth == 1:
        albert = config.model_type == "albert"
        name = "encoder.albert_layer_groups" if albert else model.family.layers.rpartition(".")[0]
        parent, _, own = f"{model.family.prefix}.{name}".rpartition(".")
        module = model.backbone.get_submodule(parent)
        setattr(module, own, nn.ModuleList(getattr(module, own)[layer - 1] for layer in layers))
        if albert:
            config.num_hidden_groups = len(layers)
    config.num_hidden_layers = len(layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder per corpus")
    parser.add_argument("--corpora", nargs="+", default=["sst2"], choices=[corpus.name for corpus in CORPORA])
    parser.add_argument("--start", default="mini", help="a folder or a bundled name")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 6])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=int, default=10_000, help="train on at most so many rows of each corpus")
    parser.add_argument("--out", type=Path, default=Path("runs/first-layers"), help="where the models go")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    print(f"{'corpus':<10}{'layers':>7}{'first k':>9}{'exits':>7}{'mean exit layer':>17}")
    for corpus in CORPORA:
        if corpus.name in options.corpora:
            for row in beside(replace(corpus, train_rows=options.rows), options):
                rows.append(row)
                print(
                    f"{row['corpus']:<10}{row['layers']:>7}{row['first_layers']:>9.3f}{row['exits']:>7.3f}"
                    f"{row['mean_exit_layer']:>17.2f}",
                    flush=True,
                )
    about = {"start": options.start, "seeds": options.seeds, "train_rows": options.rows, "machine": machine()}
    print(json.dumps({"benchmark": "first-layers", **about, "versions": versions(), "rows": rows}))


def one_seed(ground: Ground, options: argparse.Namespace) -> dict[int, tuple[float, float, float]]:
    """Return for every number of layers the score of the first k, of the exits, and the exits' mean layer."""
    settings, name = ground.settings, ground.corpus.name
    exits = ground.trained(options.start, options.out / f"{name}-exits-{ground.seed}", settings)
    depth = exits.num_layers
    scores, points = ground.at_depths(exits, options.layers, ["elbert"])
    with_exits = [(point.score, point.mean_exit_layer) for point in points] + [(scores[-1], float(depth))]
    found = {}
    for layers, here in zip((*options.layers, depth), with_exits, strict=True):
        start = options.start if layers == depth else cut(options.start, layers, options.out)
        longer = replace(settings, epochs=round(settings.epochs * depth / layers), scheme="last")
        plain = ground.trained(start, options.out / f"{name}-first-{layers}-{ground.seed}", longer)
        test = ground.test(plain)
        found[layers] = (scores_by_layer(plain.record(test.texts), test.labels, ground.metric)[-1], *here)
    return found


def beside(corpus: Corpus, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for every number of layers, full depth last: means over the seeds, and every run."""
    seeds = [one_seed(Ground(corpus, options.data, seed), options) for seed in options.seeds]
    rows = []
    for layers in seeds[0]:
        runs = [found[layers] for found in seeds]
        alone, exits, depth = map(statistics.mean, zip(*runs, strict=True))
        row = {"corpus": corpus.name, "layers": layers, "first_layers": alone, "exits": exits, "mean_exit_layer": depth}
        rows.append({**row, "runs": runs})
    return rows


if __name__ == "__main__":
    main()
