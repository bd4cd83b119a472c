from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elbert.errors import UsageError
from elbert.evaluation.bench import Bench, Job, Plan, Row, Spec, race
from elbert.evaluation.bench.job import Answers, Timed
from elbert.evaluation.bench.rows import compared, row_of
from elbert.evaluation.bench.run import _agreement, _Runner, _take_depth, steps
from elbert.evaluation.bench.worker import Worker
from elbert.exits import ExitPolicy
from elbert.reports.race import notes_of, picture_of

MakeJob = Callable[..., Job]
EXITS = Spec("elbert", "torch", "float32", {"name": "fixed", "layer": 1})
FULL = Spec("elbert-full", "torch", "float32", {"name": "full"})
FIXED = Spec("elbert-fixed", "torch", "float32")
BROKEN = Spec("elbert", "onnxruntime", "bfloat16", {"name": "full"})  # onnxruntime doesn't compute in it
PLAN = Plan((4,), rounds=2, latency_texts=3)


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(make_job: MakeJob, told: list[str]) -> Bench:
    """One small race in real processes."""
    return race(make_job(), [EXITS, FULL, FIXED, BROKEN], PLAN, layers=4, score=lambda _: 0.5, on_step=told.append)


def row(result: Bench, system: str, batch: int, backend: str = "torch") -> Row:
    (found,) = [each for each in result.rows if (each.system, each.batch, each.backend) == (system, batch, backend)]
    return found


def test_every_system_has_a_row_at_every_batch_size(result: Bench) -> None:
    assert [(each.system, each.batch) for each in result.rows] == [
        (name, batch) for batch in (1, 4) for name in ("elbert", "elbert-full", "elbert-fixed", "elbert")
    ]


def test_rows_hold_the_median_of_all_rounds_and_what_was_counted_apart(result: Bench) -> None:
    found = row(result, "elbert", 4)
    assert found.n == 24
    assert len(found.seconds) == 2
    assert found.texts_per_second == pytest.approx(24 / (sum(found.seconds) / 2))
    assert (found.score, found.p50_ms) == (0.5, None)
    assert found.first_run_s > 0
    assert found.load_s > found.first_run_s
    assert 50 < found.peak_memory_mb < 2000


def test_one_by_one_gives_latencies_of_the_first_texts(result: Bench) -> None:
    found = row(result, "elbert", 1)
    assert found.n == 3
    assert 0 < found.p50_ms <= found.p95_ms <= found.p99_ms


def test_exits_are_compared_with_full_depth_of_the_same_backend(result: Bench) -> None:
    found, full = row(result, "elbert", 4), row(result, "elbert-full", 4)
    assert (found.mean_exit_layer, found.layer_speedup) == (1.0, 4.0)
    assert found.speedup == pytest.approx(found.texts_per_second / full.texts_per_second)
    assert found.engine_efficiency == pytest.approx(found.speedup / 4)
    assert (full.speedup, full.engine_efficiency) == (1.0, 1.0)
    assert (found.token_layer_speedup, full.token_layer_speedup) == (4.0, 1.0)


def test_the_fixed_baseline_takes_the_mean_exit_layer(result: Bench) -> None:
    assert row(result, "elbert-fixed", 4).policy == {"name": "fixed", "layer": 1}


@pytest.mark.parametrize(
    ("exits", "layer"), [([0, 0, 0, 1], 1), ([2, 3, 3, 3], 3)], ids=["layer 0 takes most", "layers take all"]
)
def test_the_fixed_baseline_runs_a_layer_at_least_and_drops_the_tokens_that_the_exits_drop(
    exits: list[int], layer: int
) -> None:
    policy = {"name": "entropy", "threshold": 0.1, "words": 0.9, "tokens": {"1": 0.5, "score": "attention"}}
    ran = _Runner(replace(EXITS, policy=policy), first={4: Timed(1.0, Answers([0] * 4, exits))})
    fixed = _Runner(FIXED)
    _take_depth(fixed, [ran, fixed], PLAN)
    assert fixed.spec.policy == {"name": "fixed", "layer": layer, "tokens": policy["tokens"]}
    assert ExitPolicy.from_dict(fixed.spec.policy).words is None, "a constant depth for all texts"


def test_what_cannot_run_is_a_row_with_a_reason(result: Bench) -> None:
    found = row(result, "elbert", 4, "onnxruntime")
    assert found.texts_per_second is None
    assert "bfloat16" in (found.reason or "")
    assert notes_of(result.rows)[-1].startswith("elbert onnxruntime bfloat16, batch 1, 4: ")


def test_every_step_is_told(result: Bench, told: list[str]) -> None:
    assert len(told) == steps([EXITS, FULL, FIXED, BROKEN], PLAN)
    assert next(line for line in told if line.endswith("round 2")).startswith("elbert,")  # reversed: broken one first


def test_the_result_says_what_it_was_measured_on(result: Bench) -> None:
    document = result.to_dict()
    assert (document["rounds"], document["threads"]) == (2, 1)
    assert document["machine"]["cpu"]
    assert {"amx", "avx512_bf16"} <= set(document["machine"])
    assert {"python", "torch", "transformers"} <= set(document["versions"])


def test_a_picture_has_a_panel_per_batch_size(result: Bench) -> None:
    pytest.importorskip("matplotlib")
    assert picture_of(result.rows, "a race").startswith(b"\x89PNG")


def test_a_process_that_dies_costs_one_row_and_says_its_last_words(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "import os, sys\nsys.stderr.write('out of luck')\nsys.stderr.flush()\nos._exit(7)\n"
    (tmp_path / "fatal.py").write_text(words)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = race(make_job(plugins=("fatal",)), [FULL], Plan((4,), 1, 0), layers=4, score=lambda _: None)
    assert found.rows[0].reason is not None
    assert "exit code 7: " in found.rows[0].reason
    assert "out of luck" in found.rows[0].reason


# Makes ours fail with 8 in flight, from its `after`th run of that size on.
_FAILING = """
from pathlib import Path

from elbert.classifier import Classifier
from elbert.evaluation.bench import worker

stream, runs = Classifier.stream, Path(__file__).with_suffix(".runs")


def failing(self, texts, *, batch_size, **options):
    if batch_size == 8:
        with runs.open("a") as file:
            file.write("x")
        if runs.stat().st_size > {after}:
            raise MemoryError("no room for eight")
    return stream(self, texts, batch_size=batch_size, **options)


def unknown():
    raise OSError("nobody counts memory here")


Classifier.stream, worker.process_peak_mb = failing, unknown
"""


@pytest.mark.parametrize("after", [0, 2])  # at its warm-up, and in its second round
def test_a_failure_at_one_batch_size_costs_that_row_only(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    name = f"failing_after_{after}"
    (tmp_path / f"{name}.py").write_text(_FAILING.format(after=after))
    monkeypatch.syspath_prepend(str(tmp_path))
    plan = Plan((4, 8), rounds=2, latency_texts=3)
    small, middle, large = race(make_job(plugins=(name,)), [FULL], plan, layers=4, score=lambda _: None).rows
    assert large.reason == "MemoryError: no room for eight"
    assert large.texts_per_second is None
    assert (small.reason, middle.reason) == (None, None)
    assert (len(small.seconds), len(middle.seconds)) == (2, 2)
    assert middle.peak_memory_mb is None  # which could not be asked for
    assert notes_of([small, middle, large])[-1].startswith("elbert-full torch float32, batch 8: Memory")


def test_a_constant_depth_without_the_exits_it_belongs_to_is_not_run(make_job: MakeJob) -> None:
    wrong = Spec("elbert", "torch", "float32", {"name": "nonsense"})
    exits, fixed = race(make_job(), [wrong, FIXED], Plan((4,), 1, 0), layers=4, score=lambda _: None).rows
    assert "nonsense" in (exits.reason or "")
    assert "mean exit layer of elbert" in (fixed.reason or "")
    assert (fixed.policy, fixed.texts_per_second) == (None, None)


def test_an_interrupt_during_the_warm_up_leaves_no_process_behind(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Worker] = []

    def interrupted(worker: Worker, batch: int, count: int) -> Timed:
        begun.append(worker)
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        race(make_job(), [FULL], Plan((4,), 1, 0), layers=4, score=lambda _: None)
    assert [worker._process.is_alive() for worker in begun] == [False]


@pytest.mark.parametrize(
    ("problem_type", "labels", "share"),
    [
        ("regression", [0.5, 1.5], None),
        ("regression", [[0.5, 1.0], [1.5, 2.0]], None),
        ("regression", [(0.5, 1.0), (1.5, 2.0)], None),
        ("multi_label_classification", [[0.0, 1.0], [1.0, 1.0]], 1.0),
        ("single_label_classification", [0, 1], 1.0),
    ],
)
def test_answers_are_compared_where_they_are_labels_and_not_values(
    problem_type: str, labels: list[Any], share: float | None
) -> None:
    assert _agreement(Answers(labels), Answers(labels), problem_type) == share


def test_the_depth_of_a_row_is_that_of_all_its_rounds_like_its_seconds() -> None:
    rounds = [Timed(seconds, Answers([0, 1], layers)) for seconds, layers in ((1.0, [1, 3]), (2.0, [1, 1]))]
    found = row_of(EXITS, 8, rounds, layers=6, lengths=np.array([10, 30, 99]))
    assert (found.mean_exit_layer, found.layer_speedup) == (1.5, 4.0)
    assert found.token_layer_speedup == pytest.approx(6 * (40 + 40) / (100 + 40))


def test_token_layers_of_a_row_are_of_the_tokens_that_its_policy_keeps() -> None:
    spec = replace(EXITS, policy={"name": "entropy", "tokens": {"1": 0.5, "score": "attention"}})
    found = row_of(spec, 8, [Timed(1.0, Answers([0, 1], [3, 1]))], layers=4, lengths=np.array([10, 20]))
    assert found.token_layer_speedup == pytest.approx(4 * 30 / (10 + 5 + 5 + 20))


def test_where_all_texts_are_of_one_length_tokens_save_what_layers_do() -> None:
    found = row_of(EXITS, 8, [Timed(1.0, Answers([0, 1], [1, 3]))], layers=4, lengths=np.array([7, 7]))
    assert found.token_layer_speedup == found.layer_speedup == 2.0


@pytest.mark.parametrize(("batch", "count"), [(1, 5), (4, 24)])
def test_drawn_exits_are_the_same_in_every_round(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, batch: int, count: int
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    drawn = {"name": "drawn", "layer_speedup": 2.0, "layers": 4}
    worker = Worker(make_job(plugins=("drawn",)), Spec("elbert", "torch", "float32", drawn))
    try:
        worker.run(4, 11)  # what another round has drawn is no matter
        first, second = (worker.run(batch, count).answers.exit_layers for _ in range(2))
    finally:
        worker.stop()
    assert first == second
    assert len(set(first)) > 1


def test_a_round_of_some_seconds_begins_its_texts_again(make_job: MakeJob) -> None:
    plan = Plan((4,), rounds=2, latency_texts=0, seconds=1.0)
    (found,) = race(make_job(), [FULL], plan, layers=4, score=lambda _: None).rows
    assert found.n > 24, "twenty-four short texts take far less than a second"
    assert found.n == round(24 / found.first_run_s)
    assert found.mean_exit_layer == 4


def test_a_competitor_may_bring_its_own_model(make_job: MakeJob) -> None:
    job, other = make_job(), make_job("multi_label_classification").folder
    own = Spec("transformers-batches", "torch", "float32", folder=other)
    first, second = race(job, [replace(own, folder=None), own], Plan((4,), 1, 0), layers=4, score=lambda _: None).rows
    assert (first.reason, second.reason) == (None, None)
    assert job.of(own).folder == other
    assert job.of(own).scratch.parent == job.scratch, "graphs of two models don't overwrite one another"


def test_ratios_are_to_transformers_in_float32() -> None:
    def made(system: str, seconds: float) -> Row:
        spec = Spec(system, "torch", "float32")
        return row_of(spec, 8, [Timed(seconds, Answers([0, 1]))], layers=4, lengths=np.array([5, 5]), score=None)

    rows = compared([made("torch-compile", 1.0), made("transformers", 2.0)])
    assert [each.times_reference for each in rows] == [2.0, 1.0]


@pytest.mark.parametrize("plan", [Plan((8,), 0), Plan((), 1, 0)])
def test_nothing_to_measure_is_refused(make_job: MakeJob, plan: Plan) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        race(make_job(), [FULL], plan, layers=4, score=lambda _: None)
