"""Capacity: the simulated core keeps its books, parts do their work, and the figures go between the page's marks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import capacity
import capacity_parts
from capacity_traffic import Cost, simulate
from elbert import Classifier
from elbert.evaluation.bench import Bench, Job, Spec
from elbert.evaluation.bench.job import Answers, Timed
from elbert.evaluation.bench.rows import row_of
from elbert.modeling.files.sources import find_folder

PAGE = Path(__file__).parents[2] / "docs" / "capacity.md"
TEXTS = ["a warm and witty film", "dull", "I have seldom been so bored , and yet the end is good", "fine"] * 4


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.from_pretrained("mini-sentiment", device="cpu", dtype="float32")


def test_the_cost_of_a_step_is_found_from_two_rates() -> None:
    alone, together = 12 * (2e-3 + 1e-4 * 20), 12 * (2e-3 + 1e-4 * 20 * 32) / 32
    found = Cost.of(alone, together, batch=32, tokens=20, layers=12)
    assert found.fixed == pytest.approx(2e-3)
    assert found.token == pytest.approx(1e-4)


def test_a_batch_that_is_no_faster_than_its_texts_has_no_fixed_cost() -> None:
    found = Cost.of(1.2, 2.4, batch=32, tokens=20, layers=12)
    assert (found.fixed, found.token) == pytest.approx((0.0, 0.1 / 20))


def test_a_simulated_core_does_what_its_steps_allow(classifier: Classifier) -> None:
    weights, cost = classifier.engine.weights, Cost(1e-3, 1e-4)
    step = 1e-3 + 1e-4 * 10 * 8
    given: dict[str, Any] = {"texts": 400, "batch": 8}
    deep = simulate(weights, cost, [10], [12], rate=None, **given)
    early = simulate(weights, cost, [10], [3], rate=None, **given)
    assert deep.rate == pytest.approx(8 / (12 * step), rel=0.05)
    assert early.rate == pytest.approx(4 * deep.rate, rel=0.05)


def test_texts_wait_longer_the_greater_the_load_and_hardly_where_there_is_none(classifier: Classifier) -> None:
    weights, cost = classifier.engine.weights, Cost(1e-3, 1e-4)
    most = simulate(weights, cost, [10], [6], rate=None, texts=400, batch=8).rate
    waits = [
        simulate(weights, cost, [10], [6], rate=load * most, texts=400, batch=8).milliseconds(99)
        for load in (0.001, 0.5, 0.95)
    ]
    assert waits[0] == pytest.approx(1000 * 6 * (1e-3 + 1e-4 * 10), rel=0.01)
    assert waits == sorted(waits)
    assert waits[2] > 2 * waits[0]


def test_the_parts_read_every_text_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the server's JSON needs pip install 'elbert[serve]'")
    pairs = [*TEXTS, ("a pair", "of texts")]
    job = Job(find_folder("mini-sentiment"), tmp_path, pairs, "single_label_classification", 64, 1)
    lengths = capacity_parts.load(job, Spec("tokenizer", "", "float32"))(pairs, 32).labels
    written = capacity_parts.load(job, Spec("json", "", "float32"))(pairs, 32).labels
    assert len(lengths) == len(written) == len(pairs)
    assert sorted(lengths)[0] == 3  # one word between the two marks
    assert len(set(written)) == 1
    assert json.loads(capacity_parts.body_of(pairs[-1])) == {"inputs": {"text": "a pair", "text_pair": "of texts"}}


def _raced(job: Job, specs: list[Spec], plan: Any, **about: Any) -> Bench:
    """A race whose clock is made up: full depth takes 10 ms a text alone and 2 ms in company, parts next to nothing."""
    rows = []
    for batch in plan.batches:
        for spec in specs:
            part = spec.system in capacity_parts.PARTS
            depth = 12 if spec.policy == {"name": "full"} else 4
            seconds = 1e-5 if part else (0.010 if batch == 1 else 0.002) * depth / 12
            answers = Answers([0] * len(job.texts), None if part else [depth] * len(job.texts))
            timed = [Timed(seconds * len(job.texts), answers, [seconds] * len(job.texts) if batch == 1 else None)]
            rows.append(row_of(spec, batch, timed, layers=12, lengths=np.full(len(job.texts), 9)))
    return Bench(tuple(rows), plan.rounds, job.threads)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data = tmp_path_factory.mktemp("capacity") / "dev.csv"
    data.write_text("text,label\n" + "".join(f'"{text}",positive\n' for text in TEXTS), encoding="utf-8")
    options = capacity.options_of(["--data", str(data), "--simulated-texts", "200", "--limit", "40"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capacity, "race", _raced)
        return json.loads(json.dumps(capacity.run(options)))


def test_every_level_is_counted_at_its_own_rate(document: dict[str, Any]) -> None:
    levels = {level["name"]: level for level in document["levels"]}
    assert list(levels) == ["full", "drop-0.5", "drop-1", "drop-2"]
    full, early = levels["full"], levels["drop-1"]
    assert full["rate"] == pytest.approx(500)
    assert full["simulated"] == pytest.approx(500, rel=0.15)  # what the cost of a step was found from
    assert early["rate"] == pytest.approx(1500)
    assert full["units"]["10⁹ texts a day"] == 24  # 1e9 / 86,400 / 500
    assert early["units"]["10⁶ texts/s"] == int(np.ceil(1e6 / 1500 / early["load"]))
    assert early["depth"] < full["depth"] == 12
    assert [part["part"] for part in document["parts"]] == ["tokenizer", "json"]
    assert document["parts"][0]["share"]["drop-1"] == pytest.approx(1500 * 1e-5)
    assert document["wire"]["10 Gbit/s"] == pytest.approx(10 * document["wire"]["1 Gbit/s"])


def test_a_limit_that_no_load_keeps_leaves_the_cores_of_a_second_open() -> None:
    assert capacity.units(500.0, None) == {"10⁴ texts/s": None, "10⁶ texts/s": None, "10⁹ texts a day": 24}


def test_the_figures_go_between_the_marks_and_the_words_stay(document: dict[str, Any], tmp_path: Path) -> None:
    words = PAGE.read_text(encoding="utf-8")
    (tmp_path / "capacity.md").write_text(words, encoding="utf-8")
    capacity.write_page(tmp_path, document)
    once = (tmp_path / "capacity.md").read_text(encoding="utf-8")
    capacity.write_page(tmp_path, document)
    assert (tmp_path / "capacity.md").read_text(encoding="utf-8") == once
    before, _, rest = words.partition(capacity.BEGIN)
    assert once.startswith(before)
    assert once.endswith(rest.partition(capacity.END)[2])
    rows = [line.count("|") for line in once.splitlines() if line.startswith("| `drop-1`")]
    assert rows == [9, 7]
    assert "No figures yet" not in once


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "capacity.md").write_text("# Words\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="lacks the marks"):
        capacity.write_page(tmp_path, {})
    assert (tmp_path / "capacity.md").read_text(encoding="utf-8") == "# Words\n"
