"""How many cores a load takes, and what gives out next: from one short race on one core, checked by simulation.

    python benchmarks/capacity.py --data CORPORA/sst2 --docs docs
    python benchmarks/capacity.py --data CORPORA/ag_news --model runs/topics --dtype int8
    python benchmarks/capacity.py --data CORPORA/sst2 --dtype bfloat16 --device cuda

`elbert.evaluation.bench` races every calibrated level of the model on one thread, and beside them the tokenizer and the
server's JSON. The real scheduler is then run on a clock (capacity_traffic.py) whose steps take what full depth took
alone and in company: it has to find the other levels' rates by itself, and tells how long texts wait at which load.
Prints tables, then one JSON line; with --docs the tables are written into capacity.md there.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import capacity_parts
from capacity_traffic import Cost, simulate
from elbert import Classifier, load_data, replay
from elbert.disk import whole_file
from elbert.evaluation.bench import Job, Plan, Row, Spec, race
from elbert.evaluation.bench.machine import machine, versions
from elbert.modeling.files.sources import find_folder
from open_loop import request_of

DAY = 86_400
TARGETS = {"10⁴ texts/s": 1e4, "10⁶ texts/s": 1e6, "10⁹ texts a day": 1e9 / DAY}
LOADS = (0.5, 0.7, 0.8, 0.9, 0.95)

# Bits a second of the links that machines have, and what a packet of 1,448 bytes of content adds to it.
LINKS = {"1 Gbit/s": 1e9, "10 Gbit/s": 1e10}
PACKET, ADDED = 1448, 90

# Of a response, beside its content: status line and headers of `/predict`.
RESPONSE_HEAD = 330

BEGIN, END = "<!-- figures, written by benchmarks/capacity.py -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Level:
    """A calibrated level on one core, or GPU.

    Attributes:
        name: of the policy.
        depth: layers a text runs, on average.
        rate: texts a second, measured.
        spread: (slowest - fastest round) / median.
        simulated: texts a second as the scheduler's simulation has it.
        waits: by load, the milliseconds that 99 texts in 100 stay below, simulated.
        load: the greatest of the loads at which that is within the limit; None where none is.
        units: by target, cores or GPUs.
    """

    name: str
    depth: float
    rate: float
    spread: float
    simulated: float
    waits: dict[float, float]
    load: float | None
    units: dict[str, int | None]


def units(rate: float, load: float | None) -> dict[str, int | None]:
    """Return how many cores every target takes: a day's texts may wait, those of a second may not."""
    found: dict[str, int | None] = {}
    for name, target in TARGETS.items():
        share = 1.0 if "day" in name else load
        found[name] = None if share is None else math.ceil(target / (rate * share))
    return found


def measure(classifier: Classifier, folder: Path, texts: list[Any], options: Any) -> dict[tuple[str, int], Row]:
    """Race full depth, every level and the parts on one thread; rows by name and batch."""
    policies = {"full": {"name": "full"}, **{name: classifier.policies[name].to_dict() for name in levels(classifier)}}
    specs = [Spec("elbert", options.backend, options.dtype, policy) for policy in policies.values()]
    specs += [Spec(part, "", "float32") for part in capacity_parts.PARTS if options.device == "cpu"]
    names = [*policies, *(spec.system for spec in specs[len(policies) :])]
    plan = Plan((options.batch_size,), options.rounds, options.latency_texts, options.seconds)
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(
            folder, Path(scratch), texts, classifier.problem_type, classifier.max_length, threads=1,
            plugins=("capacity_parts",), device=options.device,
        )  # fmt: skip
        result = race(job, specs, plan, layers=classifier.num_layers, score=lambda _: None)
    for row in result.rows:
        if row.reason is not None:
            raise SystemExit(f"{row.system} could not be timed: {row.reason}")
    return {(names[place % len(names)], row.batch): row for place, row in enumerate(result.rows)}


def levels(classifier: Classifier) -> list[str]:
    """Return the names of the model's calibrated levels that are more than full depth."""
    found = [name for name in classifier.calibration if classifier.policies[name].name != "full"]
    if not found:
        raise SystemExit("the model has no calibrated level beside full depth: run elbert calibrate first")
    return found


def simulated(classifier: Classifier, rows: dict[tuple[str, int], Row], texts: list[Any], options: Any) -> list[Level]:
    """Return every level with what the scheduler makes of the cost of a step."""
    outputs = classifier.record(texts)
    lengths, weights, layers = outputs.lengths.tolist(), classifier.engine.weights, classifier.num_layers
    alone, together = (1 / _rate(rows["full", batch]) for batch in (1, options.batch_size))
    cost = Cost.of(alone, together, options.batch_size, float(np.mean(lengths)), layers)
    found = []
    for name in ("full", *levels(classifier)):
        exits = np.full(len(texts), layers)
        if name != "full":
            exits = replay(classifier.policies[name], outputs).numpy()
        inside = np.flatnonzero(exits > 0)  # whom layer 0 lets go never takes a place
        drawn = ([lengths[row] for row in inside], exits[inside].tolist())
        given: dict[str, Any] = {"texts": options.simulated_texts, "batch": options.batch_size}
        share = len(exits) / max(len(inside), 1)
        reached = simulate(weights, cost, *drawn, rate=None, **given).rate
        waits = {load: simulate(weights, cost, *drawn, rate=load * reached, **given).milliseconds(99) for load in LOADS}
        load = max((load for load, wait in waits.items() if wait <= options.limit), default=None)
        row = rows[name, options.batch_size]
        depth, rate = float(exits.mean()), _rate(row)
        found.append(Level(name, depth, rate, row.spread or 0.0, reached * share, waits, load, units(rate, load)))
    return found


def _rate(row: Row) -> float:
    assert row.texts_per_second is not None  # measure() lets no other through
    return row.texts_per_second


def wire(texts: list[Any], classifier: Classifier) -> dict[str, float]:
    """Return the bytes of a request and its answer on the wire, packets' heads included, and texts a second by link."""
    asked = np.array([len(request_of("/predict", json.loads(capacity_parts.body_of(text)))) for text in texts])
    names = classifier.labels.names or ("LABEL_0",)
    told = RESPONSE_HEAD + len(json.dumps(capacity_parts.answer_of(names, classifier.num_layers)))
    bytes_in, bytes_out = (float((each + np.ceil(each / PACKET) * ADDED).mean()) for each in (asked, np.array([told])))
    slower = max(bytes_in, bytes_out)  # a link carries as much either way
    return {"bytes_in": bytes_in, "bytes_out": bytes_out, **{name: bits / 8 / slower for name, bits in LINKS.items()}}


def parts(rows: dict[tuple[str, int], Row], found: list[Level], options: Any) -> list[dict[str, Any]]:
    """Return what each part beside the layers can do on a core, and its share of a text's time at every level."""
    return [
        {"part": part, "rate": _rate(row), "share": {level.name: level.rate / _rate(row) for level in found}}
        for part in capacity_parts.PARTS
        if (row := rows.get((part, options.batch_size))) is not None
    ]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown; all but the first column stand to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tables(document: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    unit, found = document["unit"], document["levels"]
    by_level = [
        [
            f"`{each['name']}`", f"{each['depth']:.2f}", f"{each['rate']:,.0f}", f"{each['simulated']:,.0f}",
            "none" if each["load"] is None else f"{each['load']:.0%}",
            *("–" if count is None else f"{count:,}" for count in each["units"].values()),
        ]
        for each in found
    ]  # fmt: skip
    waits = [[f"`{each['name']}`", *(f"{wait:,.1f}" for wait in each["waits"].values())] for each in found]
    beside = [
        [each["part"], f"{each['rate']:,.0f}", *(f"{share:.1%}" for share in each["share"].values())]
        for each in document["parts"]
    ]
    wired = document["wire"]
    beside += [[name, f"{wired[name]:,.0f}", *("" for _ in found)] for name in LINKS]
    about = (
        f"`{document['model']}` in {document['dtype']} on {document['machine']['cpu']}, one {unit}, "
        f"{document['batch_size']} in flight; {document['n']:,} texts of {document['tokens']:.1f} tokens."
    )
    names = [f"`{each['name']}`" for each in found]
    head = ["level", "layers", f"texts per {unit}-second", "simulated", "load", *TARGETS]
    return "\n\n".join(
        [
            about,
            table(head, by_level),
            f"*Load* is the greatest of {', '.join(f'{load:.0%}' for load in LOADS)} at which 99 texts in 100 are "
            f"answered within {document['limit']:g} ms in the simulation, as a share of the simulated rate; cores for "
            "a second's texts are counted at that share of the measured rate, for a day's at all of it.",
            "Milliseconds that 99 texts in 100 stay below, by load (simulated):",
            table(["level", *(f"{load:.0%}" for load in LOADS)], waits),
            f"What comes next: texts a second of one core, and its share of a text's time; of a link, at "
            f"{wired['bytes_in']:.0f} bytes in and {wired['bytes_out']:.0f} out per text:",
            table(["part", "texts/s", *names], beside),
        ]
    )


def write_page(folder: Path, document: dict[str, Any]) -> None:
    """Put the figures between the marks of capacity.md, and leave its words alone."""
    page = folder / "capacity.md"
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} lacks the marks {BEGIN!r} and {END!r} that the figures stand between")
    with whole_file(page) as stream:
        stream.write(f"{before}{BEGIN}\n\n{tables(document)}\n\n{END}{after}")


def run(options: Any) -> dict[str, Any]:
    """Measure, simulate, and return all of it as JSON."""
    classifier = Classifier.from_pretrained(
        options.model, backend=options.backend, dtype=options.dtype, device=options.device
    )
    data = load_data(options.data, split=options.split, labels=classifier.labels)
    texts = list(data.texts)[: options.count]
    rows = measure(classifier, find_folder(options.model).resolve(), texts, options)
    found = simulated(classifier, rows, texts, options)
    return {
        "benchmark": "capacity",
        "model": str(options.model),
        "data": data.name,
        "n": len(texts),
        "tokens": float(np.mean(classifier.record(texts[:256]).lengths.tolist())),
        "unit": "core" if options.device == "cpu" else "GPU",
        **{name: getattr(options, name) for name in ("dtype", "backend", "batch_size", "rounds", "limit")},
        "levels": [asdict(level) for level in found],
        "parts": parts(rows, found, options),
        "wire": wire(texts, classifier),
        "rows": [row.to_dict() for row in rows.values()],
        "machine": machine(),
        "versions": versions(),
    }


def options_of(words: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="labelled texts like those that will come")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model", default="mini-sentiment", help="calibrated")
    parser.add_argument("--count", type=int, default=512, help="texts at most")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=32, help="texts in flight, at least 2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-texts", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a timed run, about")
    parser.add_argument("--simulated-texts", type=int, default=4000)
    parser.add_argument("--limit", type=float, default=100.0, help="milliseconds that 99 texts in 100 may take")
    parser.add_argument("--docs", type=Path, help="write the figures into capacity.md in this folder")
    return parser.parse_args(words)


def main() -> None:
    options = options_of()
    document = run(options)
    print(tables(document))
    if options.docs is not None:
        write_page(options.docs, document)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
