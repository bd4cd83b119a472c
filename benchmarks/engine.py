"""How much of the layers saved becomes time saved, and how fast that is beside other ways of running the same model.

    python benchmarks/engine.py --what efficiency --data CORPORA
    python benchmarks/engine.py --what peers --data CORPORA --shapes albert-base-shape --texts short,mixed
    python benchmarks/engine.py --what stream --data CORPORA --shapes mini --million
    python benchmarks/engine.py --what length --data CORPORA --against openvino
    python benchmarks/engine.py --what product
    python benchmarks/engine.py --what peers --device cuda --dtypes float16 --shapes albert-base-shape --texts short \
        --batch-sizes 256 --speedups 4 --count 32768 --against transformers,transformers-batches,torch-compile

CORPORA is a folder with `sst2`, `ag_news` and `imdb`: short, medium and long texts (cut at 256 tokens), `mixed` is a
third of each. The models have the shapes of ALBERT, or with --shapes mpnet-base-shape,modernbert-base-shape of encoders
whose layers are distinct, and random weights, so what they answer means nothing; where a text leaves is drawn so that
the layer speedup is the one asked for, see drawn.py. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import drawn
from elbert import Classifier
from elbert.evaluation.bench import PEERS, Job, Plan, Row, Spec, line_up, race
from elbert.evaluation.bench.lengths import lengths_of
from elbert.evaluation.bench.machine import machine, versions
from elbert.evaluation.bench.systems import OURS
from elbert.evaluation.bench.worker import process_peak_mb
from elbert.modeling.files.open import open_tokenizer
from elbert.reports.plots import rendered, styled
from elbert.reports.race import notes_of, table_of
from elbert.reports.tables import plain
from grounds import CORPORA, SHAPES, SINGLE, model_folder, texts_of, texts_of_length
from products import product

LENGTHS = (16, 32, 64, 128, 256, 512)

# Name of a line -> its points.
Series = dict[str, list[tuple[float, float]]]


def policy_of(classifier: Classifier, layer_speedup: float, options: Any) -> dict[str, Any]:
    return drawn.Drawn(layer_speedup, classifier.num_layers, by_content=options.device != "cpu").to_dict()


def run_race(
    folder: Path, classifier: Classifier, texts: list[str], specs: list[Spec], plan: Plan, options: Any
) -> tuple[list[Row], dict[str, float]]:
    """Race on these texts, print the table, and return the rows with the texts' lengths."""
    lengths = lengths_of(texts, open_tokenizer(folder), classifier.max_length)
    with tempfile.TemporaryDirectory() as scratch:
        limits = (classifier.max_length, options.threads)
        job = Job(folder, Path(scratch), texts, SINGLE, *limits, plugins=("drawn",), device=options.device)
        result = race(job, specs, plan, layers=classifier.num_layers, score=lambda _: None)
    print(f"\n{folder.name}, {len(texts)} texts of {lengths['mean']:.1f} tokens (95 %: {lengths['p95']:.0f})")
    print("\n".join([plain(table_of(result.rows)), *notes_of(result.rows)]), flush=True)
    return list(result.rows), lengths


def efficiency(options: Any) -> tuple[list[dict[str, Any]], Series]:
    """Our exits beside our own full depth, at several layer speedups and batch sizes."""
    rows: list[dict[str, Any]] = []
    series: Series = {}
    for shape, kind, texts, folder, classifier in grounds(options):
        policies = [policy_of(classifier, speedup, options) for speedup in options.speedups]
        for dtype in options.dtypes:
            specs = [Spec("elbert", options.backend, dtype, policy) for policy in policies]
            specs.append(Spec("elbert-full", options.backend, dtype, {"name": "full"}))
            found, lengths = run_race(folder, classifier, texts, specs, plan_of(options), options)
            for row in found:
                rows.append({"shape": shape, "texts": kind, "lengths": lengths, **row.to_dict()})
                if row.system == "elbert" and row.engine_efficiency is not None and row.policy is not None:
                    name = f"{shape}, {kind}, {dtype}, {row.policy['layer_speedup']:g}×"
                    series.setdefault(name, []).append((row.batch, row.engine_efficiency))
                    print(f"{name}, batch {row.batch}: {by_tokens(row)}", flush=True)
    return rows, series


def by_tokens(row: Row) -> str:
    """Say what was saved where a text counts by its tokens; as by texts where all are of one length."""
    saved = row.token_layer_speedup or 1.0
    return f"{saved:.2f} times fewer layers by tokens, {(row.speedup or 0.0) / saved:.2f} of that became time"


def everybody(classifier: Classifier, options: Any) -> list[Spec]:
    """Return ours, at the first of the layer speedups, and all peers asked for."""
    policy = policy_of(classifier, options.speedups[0], options)
    whom = {"against": options.against, "backends": [options.backend], "dtypes": options.dtypes}
    return line_up(policy, **whom, device=options.device)


def peers(options: Any) -> tuple[list[dict[str, Any]], Series]:
    """Everybody on the same texts; ours at the first of the layer speedups."""
    rows: list[dict[str, Any]] = []
    series: Series = {}
    for shape, kind, texts, folder, classifier in grounds(options):
        specs = everybody(classifier, options)
        found, lengths = run_race(folder, classifier, texts, specs, plan_of(options), options)
        for row in found:
            best = beside_best_peer(row, found)
            rows.append({"shape": shape, "texts": kind, "lengths": lengths, **row.to_dict(), "times_best_peer": best})
            if best is not None:
                print(f"{row.system}, {row.dtype}, batch {row.batch}: {best:.2f} of the fastest peer's texts/s")
            if row.texts_per_second is not None:
                name = f"{shape}, {kind}: {row.system}, {row.dtype}"
                series.setdefault(name, []).append((row.batch, row.texts_per_second))
    return rows, series


def beside_best_peer(row: Row, rows: list[Row]) -> float | None:
    """Return texts per second of ours over those of the fastest peer of the same dtype and batch; None for a peer."""
    same = [each for each in rows if (each.dtype, each.batch) == (row.dtype, row.batch) and each.system in PEERS]
    rates = [each.texts_per_second for each in same if each.texts_per_second]
    return row.texts_per_second / max(rates) if row.system in OURS and row.texts_per_second and rates else None


def length(options: Any) -> tuple[list[dict[str, Any]], Series]:
    """Texts per second against tokens per text, every text of the same length."""
    rows: list[dict[str, Any]] = []
    series: Series = {}
    for shape in options.shapes:
        folder = model_folder(shape, options.cache, max(LENGTHS))
        classifier = Classifier.from_pretrained(folder, device="cpu")
        specs = everybody(classifier, options)
        for tokens in options.lengths:
            count = min(options.count, max(16, options.count * 16 // tokens))
            texts = texts_of_length(tokens, classifier.tokenizer, options.data, count)
            found, lengths = run_race(folder, classifier, texts, specs, plan_of(options), options)
            for row in found:
                rows.append({"shape": shape, "tokens": tokens, "lengths": lengths, **row.to_dict()})
                if row.texts_per_second is not None:
                    name = f"{shape}: {row.system}, {row.dtype}, batch {row.batch}"
                    series.setdefault(name, []).append((tokens, row.texts_per_second))
    return rows, series


def stream(options: Any) -> tuple[list[dict[str, Any]], Series]:
    """Texts per second and peak memory of `Classifier.stream` on inputs of growing size."""
    rows = []
    series: Series = {}
    sizes = options.sizes or [10**3, 10**4, 10**5, *([10**6] if options.million else [])]
    print(f"{'shape':<20}{'dtype':<10}{'texts':>10}{'texts/s':>10}{'peak MB':>9}")
    for shape in options.shapes:
        folder = model_folder(shape, options.cache)
        policy = policy_of(Classifier.from_pretrained(folder, device="cpu"), options.speedups[0], options)
        texts = texts_of("short", options.data, 872)
        for dtype in options.dtypes:
            for size in sizes:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # a fresh process a size
                    settings = (options.backend, dtype, options.batch_sizes[-1], options.threads, options.device)
                    seconds, peak = pool.submit(stream_once, folder, policy, texts, size, *settings).result()
                row = {"shape": shape, "backend": options.backend, "dtype": dtype, "n": size, "policy": policy}
                row |= {"batch": settings[2], "texts_per_second": size / seconds, "peak_memory_mb": peak}
                rows.append(row)
                series.setdefault(f"{shape}, {dtype}", []).append((size, peak))
                print(f"{shape:<20}{dtype:<10}{size:>10,}{size / seconds:>10,.1f}{peak:>9,.0f}", flush=True)
    return rows, series


def stream_once(
    folder: Path,
    policy: dict[str, Any],
    texts: list[str],
    size: int,
    backend: str,
    dtype: str,
    batch: int,
    threads: int,
    device: str,
) -> tuple[float, float]:
    """Stream `size` texts, keeping none, in this process; return seconds and peak memory in MB."""
    torch.set_num_threads(threads)
    classifier = Classifier.from_pretrained(folder, backend=backend, device=device, dtype=dtype, policy=policy)
    for _ in classifier.stream(texts[: 2 * batch], batch_size=batch):
        pass
    start = time.perf_counter()
    seen = sum(1 for _ in classifier.stream(islice(cycle(texts), size), batch_size=batch))
    assert seen == size
    return time.perf_counter() - start, process_peak_mb()


def grounds(options: Any) -> Iterator[tuple[str, str, list[str], Path, Classifier]]:
    """Yield every shape on every kind of texts."""
    for shape in options.shapes:
        folder = model_folder(shape, options.cache)
        classifier = Classifier.from_pretrained(folder, device="cpu")  # to learn its layers; runners load their own
        for kind in options.texts:
            yield shape, kind, texts_of(kind, options.data, options.count), folder, classifier


def plan_of(options: Any) -> Plan:
    latency = options.latency_texts if 1 in options.batch_sizes else 0
    return Plan(tuple(options.batch_sizes), options.rounds, latency)


WHAT = {"efficiency": efficiency, "peers": peers, "stream": stream, "length": length, "product": product}
AXES = {
    "efficiency": ("texts in flight", "engine efficiency"),
    "peers": ("texts in flight", "texts per second"),
    "stream": ("texts", "peak memory, MB"),
    "length": ("tokens per text", "texts per second"),
}


def draw(series: Series, what: str, path: Path) -> None:
    """Draw every line over a logarithmic axis."""
    across, up = AXES[what]
    with styled("engine", **{"font.size": 8}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for name, points in series.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", ms=3, lw=1, label=name)
        axes.set_xscale("log", base=10 if what == "stream" else 2)
        ticks = sorted({x for points in series.values() for x, _ in points})
        axes.set_xticks(ticks, [f"{x:,.0f}" for x in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(axis="y", lw=0.5)
        figure.legend(loc="outside right upper", fontsize=6)
        path.write_bytes(rendered(figure, "png"))


def main() -> None:
    options = parse()
    if options.plot is not None and options.what not in AXES:
        raise SystemExit(f"engine.py: --plot draws {', '.join(AXES)}; {options.what} is two numbers a shape")
    rows, series = WHAT[options.what](options)
    if options.plot is not None:
        draw(series, options.what, options.plot)
    settings = {key: value for key, value in vars(options).items() if key not in ("what", "cache", "data", "plot")}
    about = {"benchmark": f"engine-{options.what}", **settings, "machine": machine(), "versions": versions()}
    print(json.dumps({**about, "rows": rows}))


def parse() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    def whole(text: str) -> list[int]:
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", required=True, choices=WHAT)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with sst2, ag_news and imdb")
    parser.add_argument("--cache", type=Path, default=Path("runs/engine"), help="where the models are kept")
    parser.add_argument("--shapes", type=words, default=list(SHAPES))
    parser.add_argument("--texts", type=words, default=[*CORPORA, "mixed"], help="short,medium,long,mixed")
    parser.add_argument("--count", type=int, default=512, help="texts of each kind")
    parser.add_argument(
        "--speedups", type=lambda text: [float(word) for word in text.split(",")], default=[2.0, 3.0, 5.0]
    )
    parser.add_argument("--batch-sizes", type=whole, default=[1, 8, 32, 128], help="texts in flight; 1 is latency")
    parser.add_argument("--dtypes", type=words, default=["float32"])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, …")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--against", type=words, default=list(PEERS), help="peers, for peers and length")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-texts", type=int, default=100)
    parser.add_argument("--lengths", type=whole, default=list(LENGTHS), help="tokens, for length")
    parser.add_argument("--sizes", type=whole, help="texts, for stream  [default: 1,000 10,000 100,000]")
    parser.add_argument("--million", action="store_true", help="stream a million texts too")
    parser.add_argument("--size", type=int, default=2048, help="rows and columns of the large product")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--plot", type=Path, help="a PNG")
    return parser.parse_args()


if __name__ == "__main__":
    main()
