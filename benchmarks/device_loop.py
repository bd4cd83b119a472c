"""Whether to switch the CUDA loop on: does it answer as the scheduler does on this card, and is it faster?

    python benchmarks/device_loop.py
    python benchmarks/device_loop.py --model my-model --dtypes float16 --batch-sizes 32,256 --data texts.txt

Runs the same texts by the scheduler and by the loop, round about, under full depth and four exit policies. Right means
that labels and exit layers are the scheduler's, but for a share of texts that rounding explains (`TOLERATED`); faster,
that the slowest of all rounds still gains. Prints a table, what to do, and then one JSON line. Without a CUDA device it
says so and ends with exit status 1.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from elbert import Classifier
from elbert.engine import Arrival, Engine
from elbert.engine.backends.torch import TorchBackend
from elbert.engine.device.dense import fits
from elbert.engine.device.launch import launcher_for
from elbert.engine.device.loops import SWITCH, DeviceLoops
from elbert.engine.placement import DTYPES
from elbert.evaluation.bench.machine import machine, versions
from elbert.exits import ExitPolicy, make
from elbert.modeling.weights import EncoderWeights

# Share of texts whose label or exit layer may differ: padded and packed products round differently.
TOLERATED = {"float32": 0.002, "float16": 0.02, "bfloat16": 0.05}

POLICIES = (
    make("full"),
    make("elbert"),
    make("max_prob", threshold=0.9),
    make("patience", patience=3),
    make("fixed", layer=4),
)

# {index: (exit layer, label)}
Answers = dict[int, tuple[int, int]]


def engines(weights: EncoderWeights, dtype: str, device: torch.device) -> tuple[Engine, Engine]:
    """Return an engine that goes by the scheduler and one that goes by the loop."""
    scheduled, looped = (Engine(weights, dtype=DTYPES[dtype], device=device) for _ in range(2))
    if not isinstance(looped.backend, TorchBackend) or not fits(weights, looped.backend):
        raise SystemExit("device_loop.py: the loop is for models whose layers are all the same: name an ALBERT")
    scheduled.device_loops = None
    looped.device_loops = DeviceLoops(weights, looped.backend, launcher_for(device))
    return scheduled, looped


def timed(engine: Engine, texts: Sequence[Arrival], policy: ExitPolicy, batch_size: int) -> tuple[float, Answers]:
    """Return the seconds one run takes and what it answered."""
    begun = time.perf_counter()
    groups = list(engine.run(texts, policy, batch_size=batch_size))
    seconds = time.perf_counter() - begun
    return seconds, {
        index: (layer, max(range(len(row)), key=row.__getitem__))
        for group in groups
        for index, layer, row in zip(
            group.index.tolist(), group.exit_layer.tolist(), group.logits.tolist(), strict=True
        )
    }


def beside(
    pair: tuple[Engine, Engine], texts: Sequence[Arrival], policy: ExitPolicy, batch_size: int, rounds: int
) -> dict[str, Any]:
    """Run both round about, after one round that is not counted; the order is turned from round to round."""
    for engine in pair:
        timed(engine, texts, policy, batch_size)
    ratios, differing = [], 0
    for number in range(rounds):
        found = [timed(pair[place], texts, policy, batch_size) for place in ((0, 1) if number % 2 else (1, 0))]
        (slow, expected), (fast, given) = found if number % 2 else reversed(found)
        ratios.append(slow / fast)
        differing = max(differing, sum(expected[index] != given.get(index) for index in expected))
    return {
        "policy": policy.to_dict(),
        "batch": batch_size,
        "gain": statistics.median(ratios),
        "gain_range": [min(ratios), max(ratios)],
        "differing": differing / len(texts),
    }


def verdict(rows: Sequence[dict[str, Any]]) -> tuple[bool, str]:
    """Return whether to switch the loop on, and why, in one line."""
    wrong = [row for row in rows if row["differing"] > TOLERATED[row["dtype"]]]
    if wrong:
        worst = max(wrong, key=lambda row: row["differing"])
        name, share = worst["policy"]["name"], worst["differing"]
        return False, f"leave it off: {share:.1%} of the texts differ under {name} in {worst['dtype']}; it is not right"
    least = min(rows, key=lambda row: row["gain_range"][0])
    if least["gain_range"][0] <= 1:
        where = f"under {least['policy']['name']} at {least['batch']} in flight in {least['dtype']}"
        return False, f"leave it off: {least['gain_range'][0]:.2f} times as fast in the slowest round, {where}"
    return True, f"switch it on ({SWITCH}=1): {least['gain_range'][0]:.2f} times as fast in the slowest of all rounds"


def texts_of(classifier: Classifier, options: argparse.Namespace) -> list[Arrival]:
    """Return the lines of a file as tokens, or random tokens of the lengths of sentences."""
    if options.data is not None:
        lines = options.data.read_text(encoding="utf-8").splitlines()[: options.count]
        return list(classifier.arrivals(lines, {}))
    chance, known = random.Random(1), len(classifier.engine.weights.embedding.word)
    lengths = (min(classifier.max_length, 4 + int(chance.lognormvariate(2.8, 0.6))) for _ in range(options.count))
    return [Arrival(index, [chance.randrange(known) for _ in range(length)]) for index, length in enumerate(lengths)]


def main() -> None:
    options = parse()
    if not torch.cuda.is_available():
        sys.exit("device_loop.py: no CUDA device here, so the loop can't be tried: run this on a machine with one")
    classifier = Classifier.from_pretrained(options.model, device="cpu")
    texts = texts_of(classifier, options)
    rows = []
    print(f"{'dtype':<10}{'in flight':>10}  {'policy':<12}{'gain':>7}{'from':>7}{'to':>7}{'differing':>11}")
    for dtype in options.dtypes:
        pair = engines(classifier.model.weights(), dtype, torch.device("cuda"))
        for batch_size in options.batch_sizes:
            for policy in POLICIES:
                row = {"dtype": dtype, **beside(pair, texts, policy, batch_size, options.rounds)}
                rows.append(row)
                low, high = row["gain_range"]
                numbers = f"{row['gain']:>7.2f}{low:>7.2f}{high:>7.2f}{row['differing']:>11.2%}"
                print(f"{dtype:<10}{batch_size:>10}  {policy.name:<12}{numbers}", flush=True)
    switch, why = verdict(rows)
    print(why)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    about = {"benchmark": "cuda", **settings, "machine": machine(), "versions": versions()}
    print(json.dumps({**about, "switch_on": switch, "rows": rows}))


def parse() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini-sentiment", help="a folder, a hub id or a bundled checkpoint")
    parser.add_argument("--data", type=Path, help="a file of one text a line  [default: random tokens]")
    parser.add_argument("--count", type=int, default=16_384, help="texts")
    parser.add_argument("--dtypes", type=words, default=["float32", "float16", "bfloat16"])
    parser.add_argument("--batch-sizes", type=lambda text: [int(word) for word in text.split(",")], default=[32, 256])
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
