"""A big file through `elbert predict` by one worker and by several, of one core each: processes, or Ray's actors.

    python benchmarks/workers.py --model MODEL --data DATA --split test --count 300000 --workers 2 --ray local

Whole commands in turns, from their start to the end of the last part, so that loading the model and starting Ray count
too. All have to write the same answers to the last byte but for scores' last digits, of which only labels and layers
are compared. Prints a table, then one JSON line; an answer that differs ends it with status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from elbert.evaluation.bench.machine import machine, versions
from many_texts import add_input, predict_command, write_input


def run(options: argparse.Namespace, source: Path, out: Path, workers: int) -> float:
    """Run the command and return its seconds."""
    shutil.rmtree(out, ignore_errors=True)
    command = [*predict_command(options, source, out, workers), *(["--ray", options.ray] if options.ray else [])]
    started = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - started


def answers(folder: Path) -> list[tuple[Any, int]]:
    """Return label and exit layer of every text, in order."""
    rows = (line for path in sorted(folder.glob("part-*.jsonl")) for line in path.open(encoding="utf-8"))
    return [(row["label"], row["exit_layer"]) for row in map(json.loads, rows)]


def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    source = options.out / "input.jsonl"
    write_input(options, source)
    seconds: dict[int, list[float]] = {1: [], options.workers: []}
    for number in range(options.rounds):
        for workers in sorted(seconds, reverse=bool(number % 2)):
            seconds[workers].append(run(options, source, options.out / str(workers), workers))
    same = answers(options.out / "1") == answers(options.out / str(options.workers))
    for workers, each in seconds.items():
        print(f"{workers} of {options.ray or 'processes':<12}{options.count / statistics.median(each):>10,.0f} texts/s")
    ratios = [one / many for one, many in zip(seconds[1], seconds[options.workers], strict=True)]
    print(
        f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f}), same answers: {same}"
    )
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    facts = {"machine": machine(), "versions": versions()}
    facts |= {"seconds": seconds, "ratios": ratios, "same_answers": same}
    print(json.dumps({"benchmark": "workers", **settings, **facts}))
    raise SystemExit(0 if same else 1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_input(parser)
    parser.add_argument("--count", type=int, default=300_000, help="rows")
    parser.add_argument("--part-rows", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2, help="of one core each, beside one alone")
    parser.add_argument("--ray", metavar="ADDRESS", help="let them be Ray's actors: local, auto, or an address")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/workers"), help="where the files are put; replaced")
    return parser.parse_args()


if __name__ == "__main__":
    main()
