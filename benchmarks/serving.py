"""`elbert serve` under load, beside servers people run, for half an hour, and with deadlines.

    python benchmarks/serving.py --data CORPORA/sst2 --scratch runs/serving
    python benchmarks/serving.py --data CORPORA/ag_news --model runs/topics --rivals pipeline:float32,openvino:int8
    python benchmarks/serving.py --data CORPORA/sst2 --scratch runs/serving --soak 1800
    python benchmarks/serving.py --data CORPORA/sst2 --scratch runs/serving --deadlines

Every server runs in a process of its own with the same threads and is sent the same texts, one a request, by an open
Poisson process over the loopback; latencies count from the intended send time. The race reports the most requests a
second at which the 99th percentile stays within --limit, ours beside each round by round, and the percentile of
everybody at --equal of what the best rival can do. A rival is SYSTEM:DTYPE of `elbert bench`, with `/1` one text at a
time instead of batches of what waits, with `/litserve` behind LitServe (`--litserve DIR`, where `pip install --target
DIR --no-deps litserve pyzmq` put it).

--soak runs at 80 % of what the server can do, with bursts to 300 %, and compares every answer with what the library
says at its level. --deadlines runs at 150 % with `max_latency_ms`, and tells how long answers and refusals took, how
many were refused or late, and how often hurried answers are right. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from elbert import load_data
from elbert.classifier import Classifier
from elbert.evaluation.bench.machine import machine, versions
from elbert.modeling.files.sources import find_folder
from elbert.serving.ladder import Ladder
from open_loop import HOST, Load, poisson, request_of, send

RIVALS = "pipeline:float32/1,pipeline:float32,openvino:float32,openvino:bfloat16,openvino:int8"

# What systems of the bench are called here.
_SYSTEMS = {"pipeline": "transformers"}

# A search for the most requests a second: how fast it grows, how often, and how often the gap is halved then.
_GROWTH, _STEPS, _HALVINGS = 1.6, 12, 4

# A soak: seconds from one burst to the next, seconds of a burst, its height.
_BURST_EVERY, _BURST, _HEIGHT = 60.0, 5.0, 3.0

# How many times its deadline an answer may take before it counts as late.
SLACK = 1.2

# Texts that a rival's int8 graph is made with, of the training part.
CALIBRATING = 300

# Seconds a server may take until it answers.
_START = 300.0


class Texts:
    """What is sent, and what is right.

    Args:
        options: the command's.
    """

    def __init__(self, options: Any) -> None:
        self.classifier = Classifier.from_pretrained(options.model, dtype=options.dtype, backend=options.backend)
        data = load_data(options.data, split=options.split, labels=self.classifier.labels)
        self.texts = list(map(str, data.texts))[: options.count]
        self.gold = np.array(data.labels)[: options.count]

    def calibrating(self, options: Any) -> list[str]:
        """Return texts that are not sent, for rivals that have to see some before they can be quantised."""
        given = load_data(options.data, split="train").texts
        return list(map(str, given[:: max(1, len(given) // CALIBRATING)]))[:CALIBRATING]

    def requests(self, **parameters: Any) -> list[bytes]:
        """Return one request of each text."""
        more = {"parameters": parameters} if parameters else {}
        return [request_of("/predict", {"inputs": text, **more}) for text in self.texts]

    def score(self, load: Load) -> float:
        """Return the share of the answers that are right."""
        names = list(self.classifier.labels.names)
        found = [(answer, which) for answer, which in zip(load.answers(), load.which, strict=True) if answer]
        said = [
            (names.index(answer[0]["label"]) if isinstance(answer, list) else answer["label"], which)
            for answer, which in found
            if isinstance(answer, list) or "label" in answer
        ]
        return float(np.mean([label == self.gold[which] for label, which in said])) if said else float("nan")


@contextmanager
def server(command: Sequence[str], port: int, options: Any, path: str = "") -> Iterator[int]:
    """Run a server until the block ends, and give its process id; it answers when the block begins."""
    threads = str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "0"}
    if path:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), path)))
    with subprocess.Popen(command, env=environment) as process:
        try:
            _wait(process, port)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def resident(process: int) -> int:
    """Return the bytes of a process that lie in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        said = connection.getresponse()
        return said.status, said.read().decode()
    finally:
        connection.close()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + _START
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"a server ended with status {process.returncode} before it answered")
        try:
            if get(port, "/health")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"a server did not answer within {_START:g} seconds")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def ours(options: Any, port: int, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "elbert", "serve", str(options.model), "--port", str(port)),
        *("--backend", options.backend, "--dtype", options.dtype),
        *("--max-concurrent-requests", "4096", *more),
    ]


def rival(name: str, options: Any, port: int, texts: Texts) -> tuple[list[str], str]:
    """Return how a rival is started, and what it needs on the path."""
    spec, _, how = name.partition("/")
    system, _, dtype = spec.partition(":")
    system = _SYSTEMS.get(system, system)
    scratch = Path(options.scratch) / spec.replace(":", "-")
    scratch.mkdir(parents=True, exist_ok=True)
    here = Path(__file__).parent
    command = [
        *(sys.executable, str(here / "rivals.py"), system, "--dtype", dtype),
        *("--folder", str(find_folder(options.model)), "--scratch", str(scratch), "--port", str(port)),
        *("--threads", str(options.threads), "--max-length", str(texts.classifier.max_length)),
    ]
    if system != "transformers" and not any(scratch.iterdir()):
        held = scratch.with_suffix(".json")
        held.write_text(json.dumps(texts.calibrating(options)), encoding="utf-8")
        subprocess.run([*command, "--build", "--texts", str(held)], check=True)
    if how == "litserve":
        return [command[0], str(here / "rival_litserve.py"), *command[2:]], options.litserve
    return [*command, *(["--batch", how] if how else [])], ""


def trial(port: int, requests: Sequence[bytes], rate: float, options: Any) -> Load:
    return send(poisson([(options.seconds, rate)], len(requests), options.seed), requests, port)


def capacity(port: int, requests: Sequence[bytes], options: Any) -> float:
    """Return the most requests a second at which the 99th percentile keeps the limit and nobody is turned away."""

    def holds(rate: float) -> bool:
        load = trial(port, requests, rate, options)
        return load.percentile(99) <= options.limit and bool((load.status == 200).all())

    trial(port, requests, options.rate / 4, options)  # whatever is laid out at the first requests
    low, high, rate = 0.0, 0.0, options.rate
    for _ in range(_STEPS):
        if holds(rate):
            low, rate = rate, rate * _GROWTH if not high else rate
        else:
            high, rate = rate, rate / _GROWTH
        if low and high:
            break
    for _ in range(_HALVINGS if low and high else 0):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def race(texts: Texts, options: Any) -> dict[str, Any]:
    """Return what everybody can do, and how long they take at equal load, round by round in turns."""
    plain = texts.requests()
    entrants: dict[str, list[bytes]] = {"elbert": plain, "elbert at full depth": texts.requests(policy="full")}
    entrants |= {name: plain for name in options.rivals.split(",") if name}

    @contextmanager
    def started(name: str) -> Iterator[int]:
        port = free_port()
        command, path = (ours(options, port), "") if name.startswith("elbert") else rival(name, options, port, texts)
        with server(command, port, options, path):
            yield port

    able: dict[str, list[float]] = {name: [] for name in entrants}
    for _ in range(options.rounds):
        for name, requests in entrants.items():
            with started(name) as port:
                able[name].append(capacity(port, requests, options))
            print(f"{name:<28}{able[name][-1]:>10.1f} requests/s", flush=True)
    rows = {name: {"server": name, "requests_per_second": able[name]} for name in entrants}
    print(f"\n{'':<28}{'requests/s':>10}   elbert / it, median and range")
    for name, row in rows.items():
        row["times"] = [mine / max(its, 1e-9) for mine, its in zip(able["elbert"], able[name], strict=True)]
        low, middle, high = min(row["times"]), statistics.median(row["times"]), max(row["times"])
        print(f"{name:<28}{statistics.median(able[name]):>10.1f}   {middle:.2f} ({low:.2f} to {high:.2f})")
    rivals = [statistics.median(able[name]) for name in entrants if not name.startswith("elbert")]
    equal = options.equal * max(rivals or [statistics.median(able["elbert"])])
    print(f"\nat {equal:.1f} requests/s{'p50 ms':>17}{'p99 ms':>10}{'score':>8}")
    for _ in range(options.rounds):
        for name, requests in entrants.items():
            with started(name) as port:
                trial(port, requests, equal / 2, options)
                load = trial(port, requests, equal, options)
            found = {"p50_ms": load.percentile(50), "p99_ms": load.percentile(99), "score": texts.score(load)}
            for key, value in found.items():
                rows[name].setdefault(key, []).append(value)
            print(f"{name:<28}{found['p50_ms']:>10.1f}{found['p99_ms']:>10.1f}{found['score']:>8.3f}", flush=True)
    return {"limit_ms": options.limit, "equal_load": equal, "rows": list(rows.values())}


def soak(texts: Texts, options: Any) -> dict[str, Any]:
    """Run for a long time with bursts, and return what was wrong, which has to be nothing."""
    port, requests = free_port(), texts.requests()
    ladder = Ladder.of(texts.classifier)
    right = {name: texts.classifier.predict(texts.texts, policy=name) for name in ladder.names}
    found: dict[str, Any] = {"seconds": options.soak, "rss": [], "status": {}, "levels": {}, "p99_ms": []}
    wrong = lost = 0
    with server(ours(options, port, "--fastest-level", ladder.names[-1]), port, options) as process:
        able = options.capacity or capacity(port, requests, options)
        calm = 0.8 * able
        begun, number = time.monotonic(), 0
        while time.monotonic() - begun < options.soak:
            stretch = [(_BURST_EVERY / 2, calm), (_BURST, _HEIGHT * able), (_BURST_EVERY / 2 - _BURST, calm)]
            load = send(poisson(stretch, len(requests), options.seed + number), requests, port, 1024)
            number += 1
            for status, which, answer in zip(load.status, load.which, load.answers(), strict=True):
                found["status"][str(status)] = found["status"].get(str(status), 0) + 1
                lost += status == 0
                if status == 200:
                    level = answer[0]["policy"]
                    found["levels"][level] = found["levels"].get(level, 0) + 1
                    expected = right[level][which]
                    same = answer[0]["label"] == expected.label and answer[0]["exit_layer"] == expected.exit_layer
                    wrong += not (same and abs(answer[0]["score"] - expected.score) < 1e-4)
            found["rss"].append(resident(process))
            found["p99_ms"].append(load.percentile(99))
            healthy = get(port, "/health")[0]
            assert healthy == 200, f"health is {healthy}"
            last = [answer[0]["policy"] for answer in load.answers()[-50:] if isinstance(answer, list)]
            found["calm_again"] = found.get("calm_again", True) and last[-1:] == [ladder.names[ladder.usual]]
            print(
                f"{time.monotonic() - begun:>7.0f} s{calm:>8.0f} requests/s, p99 {found['p99_ms'][-1]:>8.1f} ms, "
                f"{found['rss'][-1] / 1e6:>7.1f} MB, {found['status']}, wrong {wrong}, levels {found['levels']}",
                flush=True,
            )
    rss = found["rss"]
    quarter = max(len(rss) // 4, 1)
    grown = float(np.median(rss[-quarter:]) / np.median(rss[quarter : 2 * quarter] or rss[:1]) - 1)
    errors = sum(count for status, count in found["status"].items() if int(status) >= 500)
    print(f"wrong {wrong}, lost {lost}, 5xx {errors}, memory {grown:+.1%}, usual level again: {found['calm_again']}")
    return {**found, "requests_per_second": calm, "wrong": wrong, "lost": int(lost), "errors": errors, "grown": grown}


def deadlines(texts: Texts, options: Any) -> dict[str, Any]:
    """Run at half more than the server can do, with deadlines, and return who was answered when."""
    port = free_port()
    with server(ours(options, port), port, options):
        able = options.capacity or capacity(port, texts.requests(), options)
        requests = texts.requests(max_latency_ms=options.max_latency)
        load = send(poisson([(options.seconds * 4, 1.5 * able)], len(requests), options.seed), requests, port, 1024)
    answers = load.answers()
    causes = [answer[0]["cause"] if isinstance(answer, list) else "" for answer in answers]
    hurried = np.array([cause == "hurried" for cause in causes])
    refused = load.status == 429
    answered, waits = load.status == 200, 1000 * (load.done - load.due)
    row = {
        "requests_per_second": 1.5 * able,
        "max_latency_ms": options.max_latency,
        "answered_p99_ms": _percentile(waits[answered]),
        "late": float((waits[answered] > SLACK * options.max_latency).mean()) if answered.any() else float("nan"),
        "refused": float(refused.mean()),
        "refused_p50_ms": float(np.median(waits[refused])) if refused.any() else float("nan"),
        "refused_p99_ms": _percentile(waits[refused]),
        "hurried": float(hurried.mean()),
        "score_hurried": _score_of(texts, load, hurried),
        "score_others": _score_of(texts, load, answered & ~hurried),
        "status": load.shares(),
    }
    for name, value in row.items():
        print(f"{name:<24}{value}")
    return row


def _percentile(waits: Any) -> float:
    return float(np.percentile(waits, 99)) if len(waits) else float("nan")


def _score_of(texts: Texts, load: Load, chosen: Any) -> float:
    names = list(texts.classifier.labels.names)
    places = np.flatnonzero(chosen)
    labels = [names.index(json.loads(load.bodies[place])[0]["label"]) for place in places]
    return float((np.array(labels) == texts.gold[load.which[places]]).mean()) if len(places) else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini-sentiment")
    parser.add_argument("--data", required=True, help="labelled texts, one class each")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--count", type=int, default=1000, help="texts of these, sent again and again")
    parser.add_argument("--backend", default="auto", help="of elbert")
    parser.add_argument("--dtype", default="auto", help="of elbert")
    parser.add_argument("--rivals", default=RIVALS, help="SYSTEM:DTYPE[/1|/litserve], with commas")
    parser.add_argument("--litserve", default="", help="where LitServe was installed to")
    parser.add_argument("--scratch", default="runs/serving", help="where the rivals' graphs are kept")
    parser.add_argument("--threads", type=int, default=1, help="of every server")
    parser.add_argument("--seconds", type=float, default=8.0, help="of one load")
    parser.add_argument("--limit", type=float, default=100.0, help="milliseconds that the 99th percentile may take")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second that the search begins with")
    parser.add_argument("--rounds", type=int, default=1, help="of the race, every server in its turn")
    parser.add_argument("--capacity", type=float, help="requests a second that elbert can do; measured unless given")
    parser.add_argument("--equal", type=float, default=0.8, help="of what the best rival can do, for equal load")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="run for so long with bursts instead")
    parser.add_argument("--deadlines", action="store_true", help="run with deadlines instead")
    parser.add_argument("--max-latency", type=float, default=50.0, help="milliseconds, of --deadlines")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts = Texts(options)
    what = "soak" if options.soak else "deadlines" if options.deadlines else "race"
    found = {"soak": soak, "deadlines": deadlines, "race": race}[what](texts, options)
    print(json.dumps({"benchmark": "serving", "what": what, **vars(options), **machine(), **versions(), **found}))


if __name__ == "__main__":
    main()
