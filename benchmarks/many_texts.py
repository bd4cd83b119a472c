"""A big file through `elbert predict`: its rate beside the engine's own, its memory over time, and what kills do to it.

    python benchmarks/many_texts.py --model MODEL --data DATA --split test --count 5000000 --kills 10 --out runs/many

The texts of DATA are written as JSON lines, again and again, until there are `--count` rows, each with its number. The
file is classified once without a break; then into another folder by a command that is killed (-9, with all its
processes) at random moments and given again, until it ends. Both folders have to hold the same bytes. The engine's own
rate is `Classifier.stream` over the same texts in one process. Prints a table, then one JSON line; a difference between
the folders ends it with status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from elbert import Classifier, load_data
from elbert.evaluation.bench.machine import machine, versions

# Seconds between two looks at the memory.
_EVERY = 0.25


def texts_of(options: argparse.Namespace) -> Iterator[str]:
    """Yield the texts, again and again."""
    return islice(cycle(map(str, load_data(options.data, split=options.split).texts)), options.count)


def write_input(options: argparse.Namespace, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts_of(options)):
            file.write(json.dumps({"row": number, "text": text}, ensure_ascii=False) + "\n")


def resident_mb(group: int) -> float:
    """Return the memory of all processes of a group, shared pages counted once a process."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
            if os.getpgid(int(folder.name)) == group:
                pages += int((folder / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def predict_command(options: argparse.Namespace, source: Path, out: Path, workers: int) -> list[str]:
    """Return the command that answers a file in parts."""
    command = [sys.executable, "-W", "ignore", "-m", "elbert", "predict", options.model, "--input", str(source)]
    command += ["--output", str(out), "--part-rows", str(options.part_rows), "--workers", str(workers)]
    return [*command, "--dtype", options.dtype]


class Kill(NamedTuple):
    """When a run is killed: some seconds after it has made so many parts, however fast the machine is by then."""

    parts: int
    seconds: float


def run(options: argparse.Namespace, source: Path, out: Path, kill: Kill | None) -> tuple[bool, float, list[float]]:
    """Run the command; return whether it ended by itself, its seconds and its memory."""
    command = predict_command(options, source, out, options.workers)
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    started, memory, due = time.perf_counter(), [], None
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    while process.poll() is None:
        now = time.perf_counter()
        if due is None and kill is not None and len(list(out.glob("part-*.jsonl"))) >= kill.parts:
            due = now + kill.seconds
        if due is not None and now >= due:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False, now - started, memory
        memory.append(resident_mb(process.pid))
        time.sleep(_EVERY)
    if process.returncode:
        raise SystemExit(f"many_texts.py: elbert predict ended with status {process.returncode}")
    return True, time.perf_counter() - started, memory


def digests(folder: Path) -> dict[str, str]:
    """Return a digest of every file of a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def engine_rate(options: argparse.Namespace) -> float:
    """Return texts/s of `Classifier.stream` in this process, over a share of the texts."""
    torch.set_num_threads(options.threads)
    classifier = Classifier.from_pretrained(options.model, dtype=options.dtype)
    texts = list(islice(texts_of(options), min(options.count, options.engine_texts)))
    for _ in classifier.stream(texts[:512]):
        pass
    started = time.perf_counter()
    for _ in classifier.stream(texts):
        pass
    return len(texts) / (time.perf_counter() - started)


def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    source, whole, broken = options.out / "input.jsonl", options.out / "whole", options.out / "broken"
    for folder in (whole, broken):
        shutil.rmtree(folder, ignore_errors=True)
    write_input(options, source)
    rate = engine_rate(options)
    _, seconds, memory = run(options, source, whole, None)
    parts = len(list(whole.glob("part-*.jsonl")))
    chance, kills, lost = random.Random(options.seed), 0, 0.0
    moments = sorted(chance.randrange(parts) for _ in range(options.kills))
    for kill in [*(Kill(made, chance.uniform(0, seconds / parts)) for made in moments), None]:
        ended, spent, _ = run(options, source, broken, kill)
        kills, lost = kills + (not ended), lost + spent
    quarter = max(len(memory) // 4, 1)
    row: dict[str, Any] = {
        "texts": options.count,
        "engine_texts_per_second": rate,
        "texts_per_second": options.count / seconds,
        "of_the_engine": options.count / seconds / rate,
        "peak_mb_of_each_quarter": [max(memory[place * quarter : (place + 1) * quarter]) for place in range(4)],
        "kills": kills,
        "seconds_unbroken": seconds,
        "seconds_broken": lost,
        "same_bytes": digests(whole) == digests(broken),
        "files": len(digests(whole)),
    }
    for name, value in row.items():
        print(f"{name:<26}{value if not isinstance(value, float) else round(value, 3)}")
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    print(json.dumps({"benchmark": "many-texts", **settings, "machine": machine(), "versions": versions(), **row}))
    raise SystemExit(0 if row["same_bytes"] else 1)


def add_input(parser: argparse.ArgumentParser) -> None:
    """Add which model answers which texts, in which precision."""
    parser.add_argument("--model", default="mini-sentiment", help="a folder, hub id or bundled name")
    parser.add_argument("--data", required=True, help="what the texts are taken from")
    parser.add_argument("--split", default="test")
    parser.add_argument("--dtype", default="auto", help="float32, bfloat16, int8, …")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_input(parser)
    parser.add_argument("--count", type=int, default=1_000_000, help="rows")
    parser.add_argument(
        "--engine-texts", type=int, default=50_000, help="rows that the engine's own rate is taken from"
    )
    parser.add_argument("--part-rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of every process")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--out", type=Path, default=Path("runs/many"), help="where the files are put; replaced")
    return parser.parse_args()


if __name__ == "__main__":
    main()
