"""The table people pick from: accuracy against texts per second, ours beside what everybody uses.

    python benchmarks/frontier.py --data CORPORA --minilm MINILM_FOLDER --out runs/frontier
    python benchmarks/frontier.py --data CORPORA --minilm MINILM_FOLDER --out runs/frontier --time-only
    python benchmarks/frontier.py --data CORPORA --out runs/frontier --page-only --docs docs

Nine corpora (a folder each in CORPORA), all training rows. Rows of the table: TF-IDF and logistic regression, MiniLM
frozen and fine-tuned (transformers, int8 in ONNX Runtime and OpenVINO), a cascade of both, ours at full depth and at
every calibrated level with and without layer 0 in each precision of this processor, and the first layers of ours
trained at equal cost. Ours is what `elbert train` makes with no flag; policies, penalties and thresholds are chosen on
the tenth of the training rows that it holds out, never on what is reported.

Three steps, each taken up where it was left: scores (every row trained and scored; may run beside other work), times
(all rows of a corpus in one race in turns; wants a quiet machine), and the page. Records lie in OUT, one JSON file a
row; a row that has one is not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elbert import Classifier
from elbert.engine.layer_zero import seconds_of_words
from elbert.evaluation.bench import Job, Plan, race
from elbert.evaluation.bench.machine import machine, versions
from elbert.training import default_model
from frontier_ground import CORPORA, Ground
from frontier_page import write_page
from frontier_records import OURS, Line, read_lines, write_lines
from frontier_rows import Asked, dtypes_here, rows

TIMES = "times.json"

# What decides the scores: a folder of records holds one of each.
_SETTINGS = "settings.json"


def score(grounds: list[Ground], asked: Asked, names: list[str]) -> None:
    """Make every row of every corpus that has no record yet, row by row, so that what is cheap is there first."""
    for name, make_row in rows(asked).items():
        for ground in grounds:
            if name not in names or read_lines(ground, name):
                continue
            start = time.perf_counter()
            lines = make_row(ground)
            facts = {"date": date.today().isoformat(), "machine": machine(), "versions": versions()}
            facts |= {"train_rows": len(ground.train), "test_rows": len(ground.test), "corpus": ground.corpus.name}
            write_lines(ground, name, lines, {**facts, "asked": {**asdict(asked), "minilm": str(asked.minilm)}})
            best = max(line.score for line in lines)
            print(f"{ground.corpus.name:<16}{name:<9}{best:>7.3f}{time.perf_counter() - start:>9.0f} s", flush=True)


def scored(ground: Ground, asked: Asked) -> list[Line]:
    """Return all lines of a corpus."""
    return [line for name in rows(asked) for line in read_lines(ground, name)]


def time_all(grounds: list[Ground], asked: Asked, options: argparse.Namespace) -> None:
    """Race all lines of every corpus of which one was not timed yet, or could not be."""
    for ground in grounds:
        lines, path = [line for line in scored(ground, asked) if _wanted(line, asked)], ground.out / TIMES
        known = json.loads(path.read_text(encoding="utf-8"))["lines"] if path.is_file() else {}
        if not lines or {line.key for line in lines} <= {name for name, each in known.items() if not each["reason"]}:
            continue
        path.write_text(json.dumps(timed(ground, lines, options), indent=1), encoding="utf-8")
        print(f"{ground.corpus.name:<16}timed {len(lines)} lines", flush=True)


def _wanted(line: Line, asked: Asked) -> bool:
    return line.row not in OURS or line.dtype in asked.dtypes


def timed(ground: Ground, lines: list[Line], options: argparse.Namespace) -> dict[str, Any]:
    """Race the lines of one corpus on a sample of the texts reported on.

    Every line is a process of some 0.6 GB, so ours runs in one heat a precision, the rivals in all of them: what is
    compared is interleaved. Of what ran several times the medians are kept.
    """
    order = np.random.default_rng(0).permutation(len(ground.test))[: options.texts].tolist()
    texts = [ground.test.texts[place] for place in order]
    home = next((folder for line in lines if ((folder := ground.out / line.folder) / "tokenizer.json").is_file()), None)
    if home is None:
        raise SystemExit(f"frontier.py: {ground.corpus.name} has no encoder's row yet, and a race counts its tokens")
    found: dict[str, list[dict[str, Any]]] = {}
    about: dict[str, Any] = {}
    for heat in heats(lines):
        about = raced(ground, heat, ground.job(home, texts, options.threads), options, found)
    medians = {name: median_of(runs) for name, runs in found.items()}
    return {**about, "words_us": words_us(ground, lines, texts), "lines": medians}


def heats(lines: list[Line]) -> list[list[Line]]:
    """Return who runs together: all rivals, with ours of one precision after another."""
    rivals = [line for line in lines if line.row not in OURS]
    dtypes = dict.fromkeys(line.dtype for line in lines if line.row in OURS)
    return [[*rivals, *(line for line in lines if line.row in OURS and line.dtype == dtype)] for dtype in dtypes] or [
        rivals
    ]


def raced(
    ground: Ground, lines: list[Line], job: Job, options: argparse.Namespace, found: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Race some lines and add what they took to `found`; return how it was measured."""
    plan = Plan((options.batch_size,), options.rounds, options.latency_texts, options.seconds)
    layers = next((line.layers for line in lines if line.layers), 1)
    result = race(job, [line.spec(ground) for line in lines], plan, layers=layers, score=lambda _: None)
    for line, one, many in zip(lines, result.rows[: len(lines)], result.rows[len(lines) :], strict=True):
        each = {name: getattr(many, name) for name in ("texts_per_second", "spread", "n", "peak_memory_mb")}
        each |= {name: getattr(one, name) for name in ("p50_ms", "p95_ms", "p99_ms")}
        found.setdefault(line.key, []).append({**each, "reason": many.reason or one.reason})
    about = {"date": date.today().isoformat(), "machine": result.machine, "versions": result.versions}
    return about | {"threads": result.threads, "rounds": result.rounds, "batch_size": options.batch_size}


def median_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of what one line took in several heats, those left out in which it failed."""
    good = [run for run in runs if not run["reason"]] or runs[:1]
    numbers = {name: [run[name] for run in good if run[name] is not None] for name in good[0] if name != "reason"}
    medians = {name: statistics.median(values) if values else None for name, values in numbers.items()}
    return {**medians, "reason": good[0]["reason"]}


def words_us(ground: Ground, lines: list[Line], texts: list[Any]) -> float | None:
    """Return the microseconds that layer 0 of ours takes of a text; None where there is none."""
    folder = next((line.folder for line in lines if line.words), None)
    if folder is None:
        return None
    classifier = Classifier.from_pretrained(ground.out / folder, device="cpu")
    arrived = list(classifier.arrivals(texts, {}))
    return min(seconds_of_words(classifier.words, arrived) for _ in range(5)) / len(texts) * 1e6


def check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write what the records are made with, or refuse records that were made otherwise."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / _SETTINGS
    if not path.is_file():
        path.write_text(json.dumps(settings), encoding="utf-8")
    made = json.loads(path.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if made.get(name) != value:
            raise SystemExit(
                f"frontier.py: records in {out} were made with {name} {made.get(name)}, not {value}; name another --out"
            )


def main() -> None:
    options = parse()
    grounds = [
        Ground(corpus, options.data, options.out / corpus.name, options.train_rows or options.limit, options.limit)
        for corpus in CORPORA
        if not options.corpora or corpus.name in options.corpora
    ]
    model = options.model or default_model()
    check_settings(options.out, {"limit": options.limit, "train_rows": options.train_rows, "model": model})
    for ground in grounds:
        ground.out.mkdir(parents=True, exist_ok=True)
    asked = Asked(model, options.minilm, options.minilm_rate, options.depth, tuple(options.dtypes or dtypes_here()))
    steps = {"score": options.score_only, "time": options.time_only, "page": options.page_only}
    chosen = [name for name, only in steps.items() if only or not any(steps.values())]
    if "score" in chosen:
        score(grounds, asked, options.rows or list(rows(asked)))
    if "time" in chosen:
        time_all(grounds, asked, options)
    if "page" in chosen:
        write_page(
            grounds, {ground.corpus.name: scored(ground, asked) for ground in grounds}, options.docs or options.out
        )


def parse() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder per corpus")
    parser.add_argument("--out", type=Path, default=Path("runs/frontier"), help="where records and models go")
    parser.add_argument("--docs", type=Path, help="where frontier.md and its figures go  [default: OUT]")
    parser.add_argument("--model", help="the encoder of ours  [default: what `elbert train` takes]")
    parser.add_argument("--minilm", type=Path, help="folder of all-MiniLM-L6-v2; without it its rows are left out")
    parser.add_argument("--minilm-rate", type=float, default=1e-4, help="peak learning rate of its fine-tuning")
    parser.add_argument("--depth", type=int, help="layers of the first-layers rival  [default: a third of ours]")
    parser.add_argument("--corpora", type=words, help="some only: trec,cola,…")
    parser.add_argument("--rows", type=words, help="some only: tfidf,chars,frozen,ours,summed,minilm,cascade,first")
    parser.add_argument("--dtypes", type=words, help="of ours  [default: those this processor gains by]")
    parser.add_argument("--train-rows", type=int, help="training rows of a corpus at most  [default: all]")
    parser.add_argument("--limit", type=int, help="rows to learn from and to report on at most, to try things out")
    parser.add_argument("--texts", type=int, default=256, help="texts of a race")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a timed run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-texts", type=int, default=100, help="texts a round one by one")
    parser.add_argument("--batch-size", type=int, default=32, help="texts in flight")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    only = parser.add_mutually_exclusive_group()
    for name, what in (("score", "train and score"), ("time", "race what is scored"), ("page", "write the page")):
        only.add_argument(f"--{name}-only", action="store_true", help=f"{what}, nothing else")
    return parser.parse_args()


if __name__ == "__main__":
    main()
