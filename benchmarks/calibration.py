"""Is the promise kept, and what does it cost? Calibrations on many random samples of texts whose truth is known.

    python benchmarks/calibration.py runs/corpora/sst2=CORPORA/sst2 runs/corpora/trec=CORPORA/trec:test

A corpus is MODEL=DATA[:SPLIT]. Its recorded texts are taken for the whole world: calibration texts are drawn from them
with replacement, so the true gap of every policy is known and every draw is as independent as the promise asks for. The
synthetic worlds put the gap of most policies a hair above the promise, where a promise is broken most easily. A promise
is broken where the policy chosen truly loses more than it says; at most 1 - confidence of the draws may do that.

    python benchmarks/calibration.py runs/thin=CORPORA/ag_news:test --thin World --sizes 10000 --max-drops 0.05 \
        --draws 200 --no-synthetic

`--thin LABEL` measures a rare class instead: so large a part of every draw as --share says is of that class, whatever
its share of the recorded texts. Beside the plain promise stands the one that protects the class; both are asked how
often the class's recall lost no more than was promised, and how much it lost. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elbert import Classifier, load_data
from elbert.calibration.losses import Losses, label_losses
from elbert.calibration.parts import Parts
from elbert.calibration.paths import path
from elbert.calibration.search import choose, learned_order
from elbert.exits import make, replay
from elbert.tasks import task_of

Pick = Callable[[Any, Any, float, float], "int | None"]


@dataclass(frozen=True)
class World:
    """Texts whose losses are all known: exit_layer [P, N] of every policy, by_exit [N, M] of every exit, labels [N]."""

    name: str
    exit_layer: Any
    by_exit: Any
    labels: Any = None
    classes: tuple[str, ...] = ()

    @property
    def gap(self) -> Any:
        """Return the true gap of every policy, [P]."""
        losses = Losses(self.by_exit, "", "paired")
        return np.array([losses.differences(layers).mean() for layers in self.exit_layer])


def recorded(name: str, model: str, source: str, split: str, cache: Path) -> World:
    """Record a corpus once, replay ELBERT's path over it, and keep both in the cache."""
    kept = cache / f"{name}.npz"
    if not kept.exists():
        classifier = Classifier.from_pretrained(model)
        dataset = load_data(source, split=split, labels=classifier.labels)
        outputs = classifier.record(dataset.texts)
        _, layers, classes = outputs.probs.shape
        policies = path(make("elbert"), layers, classes, task_of(outputs.problem_type, classes)).policies
        exit_layer = np.stack([replay(policy, outputs).numpy() for policy in policies])
        cache.mkdir(parents=True, exist_ok=True)
        by_exit = label_losses(outputs, dataset.labels, "accuracy").by_exit
        named = {"labels": np.asarray(dataset.labels), "classes": np.asarray(classifier.labels.names)}
        np.savez(kept, exit_layer=exit_layer, by_exit=by_exit, **named)
    with np.load(kept) as content:
        return World(name, *(content[key] for key in ("exit_layer", "by_exit", "labels")), tuple(content["classes"]))


def synthetic(max_drop: float, won: float, texts: int = 200_000) -> World:
    """Make a world of 12 layers and 12 policies: four that change nothing, eight that lose a hair more than `max_drop`.

    Args:
        max_drop: the promise.
        won: share of the texts that leaving early makes right; `max_drop` more are made wrong.
        texts: size of the world.
    """
    layers = np.repeat(np.arange(12, 0, -1)[:, None], texts, 1)
    by_exit = np.zeros((texts, 12))
    lost = round((max_drop + won) * texts) + 1
    by_exit[:lost, :8] = 1.0  # right at full depth, wrong at the first eight exits
    by_exit[lost : lost + round(won * texts), 8:] = 1.0  # the other way round
    return World(f"synthetic, {won:.0%} won", layers, by_exit)


def naive(exit_layer: Any, losses: Losses, max_drop: float, level: float) -> int | None:
    """Take the fastest policy whose gap on these texts is within the promise, as everybody does by eye."""
    del level
    good = [place for place, layers in enumerate(exit_layer) if losses.differences(layers).mean() <= max_drop + 1e-12]
    return min(good, key=lambda place: exit_layer[place].mean(), default=None)


def searched(bound: str, correction: str = "fixed-sequence") -> Pick:
    """Return the search that `elbert calibrate` does, with another bound or correction."""

    def pick(exit_layer: Any, losses: Losses, max_drop: float, level: float) -> int | None:
        return choose(exit_layer, losses, max_drop, level, bound=bound, correction=correction).index

    return pick


def learned(exit_layer: Any, losses: Losses, max_drop: float, level: float) -> int | None:
    """Learn the order on three tenths of the texts and test on the others."""
    texts = np.arange(exit_layer.shape[1])  # drawn at random already
    aside, rows = np.split(texts, [round(0.3 * len(texts))])
    order = learned_order(exit_layer, losses, max_drop, aside)
    return choose(exit_layer, losses, max_drop, level, order=order, rows=rows).index


METHODS: dict[str, Pick] = {
    "naive": naive,
    "paired (elbert)": searched("paired"),
    "paired, Bonferroni": searched("paired", "bonferroni"),
    "paired, order learned": learned,
    "betting": searched("betting"),
    "binomial": searched("binomial"),
    "Hoeffding-Bentkus": searched("hoeffding-bentkus"),
}


def measure(world: World, n: int, max_drop: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Calibrate on `options.draws` samples of n texts with every method."""
    generator = np.random.default_rng(options.seed)
    gap, depth, layers = world.gap, world.exit_layer.mean(1), world.by_exit.shape[1]
    picks: dict[str, list[int | None]] = {name: [] for name in options.methods}
    for _ in range(options.draws):
        rows = generator.integers(0, len(world.by_exit), n)
        sample, losses = world.exit_layer[:, rows], Losses(world.by_exit[rows], "", "paired")
        for name in options.methods:
            picks[name].append(METHODS[name](sample, losses, max_drop, 1 - options.confidence))
    possible = depth[gap <= max_drop + 1e-12].min(initial=layers)
    rows_out = []
    for name, chosen in picks.items():
        mean_exit_layer = float(np.mean([layers if place is None else depth[place] for place in chosen]))
        broken = float(np.mean([place is not None and gap[place] > max_drop + 1e-12 for place in chosen]))
        row = {"world": world.name, "n": n, "max_drop": max_drop, "method": name, "broken": broken}
        row |= {"mean_exit_layer": mean_exit_layer, "layer_speedup": layers / mean_exit_layer}
        row |= {"best_possible": layers / float(possible), "full_depth": float(np.mean([x is None for x in chosen]))}
        rows_out.append(row)
        print(
            f"{world.name:<20}{n:>6}{max_drop:>7.3f}  {name:<22}{broken:>8.1%}{row['layer_speedup']:>8.2f}x"
            f"{row['best_possible']:>8.2f}x{row['full_depth']:>8.0%}",
            flush=True,
        )
    return rows_out


def measure_thin(world: World, n: int, max_drop: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Calibrate on draws in which one class is rare, with a plain promise and with one that protects it."""
    if options.thin not in world.classes:
        raise SystemExit(f"--thin {options.thin!r} is no class of {world.name}; allowed: {', '.join(world.classes)}")
    generator, member = np.random.default_rng(options.seed), world.labels == world.classes.index(options.thin)
    losses, level = Losses(world.by_exit, "", "paired"), 1 - options.confidence
    differences = np.stack([losses.differences(layers) for layers in world.exit_layer])
    gap, full = differences[:, member].mean(1), 1 - world.by_exit[member, -1].mean()
    weights = np.where(member, options.share / member.sum(), (1 - options.share) / (~member).sum())
    depth, layers = world.exit_layer @ weights, world.by_exit.shape[1]
    picks: dict[str, list[int | None]] = {"plain": [], "protected": []}
    for _ in range(options.draws):
        rows = generator.choice(len(weights), n, p=weights)
        drawn = Losses(world.by_exit[rows], "", "paired")
        for name, classes in (("plain", ()), ("protected", ((member[rows], drawn),))):
            parts = Parts(drawn, "paired", classes)
            picks[name].append(choose(world.exit_layer[:, rows], parts, max_drop, level).index)
    rows_out = []
    for name, chosen in picks.items():
        lost = np.array([0.0 if place is None else gap[place] for place in chosen])
        mean = float(np.mean([layers if place is None else depth[place] for place in chosen]))
        row = {"world": world.name, "class": options.thin, "share": options.share, "n": n, "max_drop": max_drop}
        row |= {"promise": name, "kept": float((lost <= max_drop + 1e-12).mean()), "full_depth_recall": float(full)}
        row |= {"recall_lost": float(lost.mean()), "recall_lost_at_most": float(lost.max())}
        row |= {"layer_speedup": layers / mean, "full_depth": float(np.mean([place is None for place in chosen]))}
        rows_out.append(row)
        print(
            f"{world.name:<20}{n:>6}{max_drop:>7.3f}  {name:<22}{row['kept']:>8.1%}{full:>9.3f}"
            f"{row['recall_lost']:>9.3f}{row['recall_lost_at_most']:>9.3f}{row['layer_speedup']:>8.2f}x",
            flush=True,
        )
    return rows_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", metavar="MODEL=DATA[:SPLIT]", help="a trained model and labelled texts")
    parser.add_argument("--cache", type=Path, default=Path("runs/calibration"), help="where recordings are kept")
    parser.add_argument("--draws", type=int, default=500, help="samples of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000], help="texts of a sample")
    parser.add_argument("--max-drops", type=float, nargs="+", default=[0.005, 0.01, 0.02])
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="some only")
    parser.add_argument("--no-synthetic", action="store_true", help="leave the synthetic worlds out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--thin", metavar="LABEL", help="a class that is made rare in every draw")
    parser.add_argument("--share", type=float, default=0.01, help="of its texts in a draw")
    options = parser.parse_args()
    if options.thin:
        columns = "".join(f"{name:>9}" for name in ("recall", "lost", "most", "speedup"))
        print(f"{'texts':<20}{'n':>6}{'drop':>7}  {'promise':<22}{'kept':>8}{columns}")
    else:
        print(f"{'texts':<20}{'n':>6}{'drop':>7}  {'method':<22}{'broken':>8}{'speedup':>9}{'best':>9}{'none':>8}")
    rows: list[dict[str, Any]] = []
    for n in options.sizes:
        for max_drop in options.max_drops:
            for won in () if options.no_synthetic or options.thin else (0.0, 0.02):
                rows += measure(synthetic(max_drop, won), n, max_drop, options)
    for corpus in options.corpora:
        model, _, source = corpus.partition("=")
        source, _, split = source.partition(":")
        world = recorded(Path(model).name, model, source, split or "dev", options.cache)
        for n in options.sizes:
            for max_drop in options.max_drops:
                rows += (measure_thin if options.thin else measure)(world, n, max_drop, options)
    machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    settings = {"draws": options.draws, "confidence": options.confidence, "seed": options.seed}
    print(json.dumps({"benchmark": "calibration", **machine, **settings, "rows": rows}))


if __name__ == "__main__":
    main()
