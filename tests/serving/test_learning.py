"""Policies that learn while they serve: each answered text teaches the one that let it go; what was learnt is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from elbert.classifier import Classifier
from elbert.errors import ElbertError, UsageError
from elbert.exits.bandit import ARMS, Bandit
from elbert.modeling.files.policies import read_tensors, write_tensors
from elbert.serving.choices import Wishes
from elbert.serving.metrics import Metrics
from elbert.serving.rows import Answer
from elbert.serving.served import ServedModel
from elbert.serving.settings import ServeSettings
from tests.serving.conftest import TEXTS, Start

# What a model that has learnt nothing is sure of: it says 0.5 or a little more, so these arms are known after one text.
LOW = [arm for arm in ARMS if arm <= 0.5]


def learner(folder: Path, **settings: Any) -> ServedModel:
    classifier = Classifier.from_pretrained(folder)
    classifier.keep("online", Bandit.fresh(4, cost=0.02))
    return ServedModel("tiny", classifier, ServeSettings(max_batch_requests=4, **settings), Metrics())


def served(model: ServedModel, *requests: tuple[list[str], Wishes]) -> list[list[Any]]:
    """Return what became of requests that all come at once, after which the model is closed."""

    async def all_of_them() -> list[list[Any]]:
        try:
            asked = [await model.ask(texts, wishes) for texts, wishes in requests]
            for each in asked:
                await asyncio.wait_for(each.ticket.done, 30)
            return [each.ticket.outcomes for each in asked]
        finally:
            await model.close()

    return asyncio.run(all_of_them())


def tried(folder: Path) -> list[float]:
    found: list[float] = read_tensors(folder / "tiny")["online"]["tried"].tolist()
    return found


def test_a_text_teaches_the_policy_that_the_next_one_gets(model_folder: Path) -> None:
    async def one_after_the_other(model: ServedModel) -> list[int]:
        layers = []
        try:
            for _ in range(2):
                asked = await model.ask(["good"], Wishes())
                await asyncio.wait_for(asked.ticket.done, 30)
                [answer] = asked.ticket.outcomes
                assert isinstance(answer, Answer)
                layers.append(answer.exit_layer)
        finally:
            await model.close()
        return layers

    # The first arm lets everything go at once; the next that was never tried is above what the model is ever sure of.
    assert asyncio.run(one_after_the_other(learner(model_folder))) == [1, 4]


def test_no_text_is_lost_where_many_come_at_once_and_those_of_other_policies_teach_nothing(
    model_folder: Path, tmp_path: Path
) -> None:
    model = learner(model_folder, policy_state=str(tmp_path))
    by_hand = {"name": "bandit", "cost": 0.5}  # a request's own, which takes the weights as they were saved
    requests = [(TEXTS, Wishes()) for _ in range(20)]
    others = [(TEXTS, Wishes("exact")), (TEXTS, Wishes(by_hand)), (TEXTS, Wishes("quick", max_layers=1))]
    found = served(model, *requests, *others)
    assert all(isinstance(each, Answer) for outcomes in found for each in outcomes)
    # To show every exit to who learns changes nothing for others.
    assert [[each.exit_layer for each in outcomes] for outcomes in (found[-3], found[-1])] == [[4] * 8, [1] * 8]
    counts = dict(zip(ARMS, tried(tmp_path), strict=True))
    assert [counts[arm] for arm in LOW] == [20.0 * len(TEXTS)] * len(LOW)


def test_a_hurried_or_capped_text_teaches_what_its_exits_tell(model_folder: Path, tmp_path: Path) -> None:
    served(learner(model_folder, policy_state=str(tmp_path)), (["good"], Wishes(max_layers=1)))
    counts = dict(zip(ARMS, tried(tmp_path), strict=True))
    assert [arm for arm, count in counts.items() if count] == LOW


def test_what_was_learnt_is_gone_on_from_and_of_another_model_refused(model_folder: Path, tmp_path: Path) -> None:
    for runs in (1, 2, 3):
        served(learner(model_folder, policy_state=str(tmp_path)), (TEXTS, Wishes()))
        assert tried(tmp_path)[0] == runs * len(TEXTS)
    served(learner(model_folder), (TEXTS, Wishes()))  # keeps nothing
    assert tried(tmp_path)[0] == 3 * len(TEXTS)
    write_tensors(tmp_path / "tiny", {"online": Bandit.fresh(12).tensors()})
    with pytest.raises(UsageError, match="learnt is of a model of 12 layers, this one has 4"):
        learner(model_folder, policy_state=str(tmp_path))
    (tmp_path / "tiny" / "policies.safetensors").write_bytes(b"broken")
    with pytest.raises(ElbertError, match="cannot be read"):
        learner(model_folder, policy_state=str(tmp_path))


def test_a_model_that_is_loaded_anew_goes_on_from_what_the_old_one_learnt(
    model_folder: Path, tmp_path: Path, start: Start
) -> None:
    def load() -> Classifier:
        classifier = Classifier.from_pretrained(model_folder)
        classifier.keep("online", Bandit.fresh(4))
        return classifier

    with start({"tiny": load}, policy_state=str(tmp_path)) as running:
        assert running.client.post("/predict", json={"inputs": TEXTS}).status_code == 200
        models = running.server.config.app.state.models
        asyncio.run_coroutine_threadsafe(models.reload(), running.loop).result(30)
        assert running.client.post("/predict", json={"inputs": TEXTS}).status_code == 200
    assert tried(tmp_path)[0] == 2 * len(TEXTS)


def test_a_full_disk_is_told_and_ends_nothing(
    model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = learner(model_folder, policy_state=str(tmp_path))
    (tmp_path / "tiny").rmdir()
    (tmp_path / "tiny").write_text("a file where the folder would be")
    assert isinstance(served(model, (["good"], Wishes()))[0][0], Answer)
    assert "was not written" in caplog.text


def test_a_folder_that_cannot_be_made_is_told_at_the_start(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ElbertError, match="of what policies learn.*name a place where files can be made"):
        learner(model_folder, policy_state=str(tmp_path / "taken"))


def test_a_folder_for_nothing_to_learn_is_told(
    model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ServeSettings(policy_state=str(tmp_path / "state"))
    ServedModel("tiny", Classifier.from_pretrained(model_folder), settings, Metrics())
    assert "model tiny has no bandit policy, so nothing is kept in" in caplog.text
    assert not (tmp_path / "state").exists()
