"""Other ways to batch texts that leave early: what each of them waits for."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from elbert import Classifier
from elbert.engine.scheduler import Scheduler
from elbert.errors import UsageError
from elbert.evaluation.bench import Job, Spec, line_up
from elbert.evaluation.bench.job import Answers
from elbert.evaluation.bench.systems import BATCHINGS, SYSTEMS, settings_of
from elbert.exits import make, replay
from elbert.exits.gates import SkipGates

MakeJob = Callable[..., Job]


@pytest.fixture
def policy(make_job: MakeJob) -> dict[str, Any]:
    """Exits by which texts leave at different layers."""
    job = make_job()
    outputs = Classifier.from_pretrained(job.folder).record(job.texts)
    chosen = make("max_prob", threshold=float(outputs.probs[:, :3].amax((1, 2)).median()))
    assert len(replay(chosen, outputs).unique()) > 1
    return chosen.to_dict()


def answers(job: Job, system: str, policy: dict[str, Any], batch: int) -> Answers:
    """Run a system here, without its process."""
    module: Any = importlib.import_module(SYSTEMS[system].module)
    found: Answers = module.load(job, Spec(system, "torch", "float32", policy))(job.texts, batch)
    return found


def test_split_at_every_layer_answers_as_ours_and_never_mixes_depths(
    make_job: MakeJob, policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = Scheduler._run

    def watched(self: Scheduler, rows: Any, depth: int) -> Any:
        seen.append(len(np.unique(rows.depth)))
        return plain(self, rows, depth)

    monkeypatch.setattr(Scheduler, "_run", watched)
    ours = answers(make_job(), "elbert", policy, 5)
    assert max(seen) > 1  # the layers are shared, so ours mixes
    seen.clear()
    assert answers(make_job(), "elbert-split", policy, 5) == ours
    assert max(seen) == 1


def test_a_batch_that_waits_answers_at_the_layer_of_its_slowest(make_job: MakeJob, policy: dict[str, Any]) -> None:
    job = make_job()
    ours = np.array(answers(job, "elbert", policy, 6).exit_layers)
    waits = np.array(answers(job, "elbert-waits", policy, 6).exit_layers)
    assert (waits >= ours).all()
    assert waits.mean() > ours.mean()
    order = sorted(range(len(job.texts)), key=lambda row: -len(job.texts[row].split()))
    assert answers(job, "elbert-waits", policy, len(job.texts)).exit_layers == [int(ours.max())] * len(order)
    assert answers(job, "elbert-waits", policy, 1) == answers(job, "elbert", policy, 1)


def test_texts_sorted_by_their_exit_layer_wait_less(make_job: MakeJob, policy: dict[str, Any]) -> None:
    job = make_job()
    ours, waits, ordered = (
        np.array(answers(job, name, policy, 6).exit_layers) for name in ("elbert", "elbert-waits", "elbert-sorted")
    )
    assert (ordered >= ours).all()
    assert ours.mean() <= ordered.mean() < waits.mean()
    assert (ordered > ours).sum() <= 5 * 3  # only batches that hold two exit layers wait at all


def test_who_waits_drops_the_tokens_that_the_exits_drop(make_job: MakeJob, policy: dict[str, Any]) -> None:
    job, dropping = make_job(), {**policy, "tokens": {"1": 0.3}}
    ours = answers(job, "elbert", dropping, 1)
    assert ours != answers(job, "elbert", policy, 1)
    assert answers(job, "elbert-waits", dropping, 1) == answers(job, "elbert-sorted", dropping, 1) == ours


@pytest.mark.parametrize("system", ["elbert-waits", "elbert-sorted"])
def test_who_waits_can_not_skip_layers(make_job: MakeJob, policy: dict[str, Any], system: str) -> None:
    job = make_job()
    classifier = Classifier.from_pretrained(job.folder)
    gates = SkipGates(0.0).with_weights(np.zeros((2, classifier.engine.weights.hidden_size + 1)))  # skip all they can
    gated = dataclasses.replace(job, folder=job.scratch / system)
    classifier.keep("gated", make("full", gates=gates))
    classifier.save_pretrained(gated.folder)
    skipping = {**policy, "gates": {"threshold": 0.0}}
    with pytest.raises(UsageError, match=f"^{system} lets a batch leave at one layer, and gates take its rows"):
        answers(gated, system, skipping, 6)
    assert set(answers(gated, "elbert-split", skipping, 6).exit_layers) == {1, 2}


def test_they_run_the_exits_of_ours_in_its_precisions() -> None:
    policy = {"name": "entropy", "threshold": 0.2}
    specs = line_up(policy, against=BATCHINGS, backends=["torch"], dtypes=["float32", "int8"])
    assert [(each.system, each.dtype) for each in specs if each.policy == policy and each.system != "elbert"] == [
        (name, dtype) for name in BATCHINGS for dtype in ("float32", "int8")
    ]
    assert all("7 bits" not in settings_of(each) for each in specs)
