"""Ray's actors, on a cluster of this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from elbert.classifier import Classifier
from elbert.cli import main
from elbert.errors import UsageError
from elbert.scaleout.parts import Answers, Block, How

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'elbert[ray]'")

from elbert.scaleout.ray_actors import by_actors, connect, predict_dataset  # noqa: E402

TEXTS = [f"a {'good' if number % 3 else 'bad'} film {number}" for number in range(60)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the actors can't import tests
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


class Mortal:
    """Answers with each text's length; its process is killed once, in the middle of a block."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def stream(self, texts: Any, *, batch_size: int) -> Any:
        del batch_size
        for place, text in enumerate(texts):
            if place == 3 and text.endswith(" 13") and not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield len(text)


class Lengths:
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, columns: Any, cells: Any, prediction: Any) -> None:
        raise NotImplementedError


class Counting(How):
    def answer(self, classifier: Any, block: Block) -> Answers:
        return Answers(" ".join(map(str, classifier.stream(block.texts, batch_size=1))), len(block.texts))


def blocks(size: int) -> Iterator[tuple[int, Block]]:
    for number, start in enumerate(range(0, len(TEXTS), size)):
        yield number, Block(("text",), TEXTS[start : start + size], [{}] * size)


@pytest.mark.parametrize("address", ["local", "auto", "ray://10.0.0.1:10001", None])
def test_the_address_that_was_asked_for_is_the_one_connected_to(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None alone lets Ray look at RAY_ADDRESS; "local" must not end up in whatever cluster that names."""
    asked: list[str | None] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda address=None, **_: asked.append(address))
    connect(address)
    assert asked == [address]


def test_a_killed_worker_loses_and_doubles_nothing(cluster: None, tmp_path: Path) -> None:
    load: Callable[..., Any] = partial(Mortal, tmp_path / "killed")
    answered = list(by_actors(blocks(10), Counting(Lengths, 1), load, workers=2))
    assert (tmp_path / "killed").exists()
    assert sorted(number for number, _, _ in answered) == list(range(6))
    for number, block, answers in answered:
        assert answers.text == " ".join(str(len(text)) for text in block.texts), number


def test_more_workers_than_the_cluster_has_cores_is_one_line(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="5 workers of 1 CPU each are more than the 2 of this cluster"):
        next(by_actors(blocks(10), Counting(Lengths, 1), partial(Mortal, tmp_path), workers=5))  # type: ignore[arg-type]


def test_predict_by_actors_writes_the_parts_of_one_process(cluster: None, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    words = ["predict", str(folder), "--input", str(path), "--part-rows", "20", "--output"]
    assert main([*words, str(tmp_path / "one")]) == 0
    assert main([*words, str(tmp_path / "rays"), "--ray", "auto", "--workers", "2"]) == 0

    def answers(name: str) -> list[tuple[str, int]]:
        lines = [line for path in sorted((tmp_path / name).glob("part-*")) for line in path.read_text().splitlines()]
        return [(answer["label"], answer["exit_layer"]) for answer in map(json.loads, lines)]

    assert len(answers("one")) == len(TEXTS)
    assert answers("rays") == answers("one")


def test_a_data_set_gets_the_answers_as_columns(cluster: None, folder: Path) -> None:
    data = ray.data.from_items([{"id": number, "review": text} for number, text in enumerate(TEXTS)])
    rows = predict_dataset(data, str(folder), text_column="review", policy="fixed").take_all()
    wanted = Classifier.from_pretrained(folder, policy="fixed").predict(TEXTS)
    found = {row["id"]: (row["label"], row["exit_layer"]) for row in rows}
    assert found == {number: (each.label, each.exit_layer) for number, each in enumerate(wanted)}  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no column 'text'; allowed: id, review"):
        predict_dataset(data, str(folder))
    with pytest.raises(UsageError, match="a column 'label' already"):
        predict_dataset(data.add_column("label", lambda batch: batch["id"]), str(folder), text_column="review")
