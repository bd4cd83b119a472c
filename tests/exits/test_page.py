"""The policy that docs/architecture.md shows is taken from the page, registered and run as it stands there."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elbert import Classifier
from elbert.exits import ExitPolicy, make, registry, replay

PAGE = Path(__file__).parents[2] / "docs/architecture.md"


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[ExitPolicy]:
    registry.names()
    monkeypatch.setattr(registry, "_policies", dict(registry._policies))
    section = PAGE.read_text(encoding="utf-8").partition("## An exit policy, in one file")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    (tmp_path / "apart_of_the_page.py").write_text(code[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("apart_of_the_page")
    return registry.get("apart")


def test_the_policy_of_the_page_replays_and_lets_texts_leave_in_a_classifier(
    apart: type[ExitPolicy], tiny_model: Callable[..., Any], tiny_tokenizer: Any, tiny_texts: list[str]
) -> None:
    rows = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9], [0.5, 0.5]]
    assert replay(make("apart", margin=0.5), np.array([rows], np.float32)).tolist() == [4]
    assert replay(make("apart", margin=0.5), torch.tensor([rows])).tolist() == [4]
    model = tiny_model(
        "albert", num_labels=2, id2label={0: "bad", 1: "good"}, problem_type="single_label_classification"
    )
    classifier = Classifier(model, tiny_tokenizer, {"max_length": 24}, name="tiny")
    outputs = classifier.record(tiny_texts)
    margins = (outputs.probs[..., 0] - outputs.probs[..., 1]).abs()
    policy = make("apart", margin=float(margins[:, :2].min(1).values.median()))
    expected = replay(policy, outputs).tolist()
    assert min(expected) == 2 < max(expected)
    assert [each.exit_layer for each in classifier.stream(tiny_texts, policy=policy, batch_size=3)] == expected
    assert "margin" in classifier.trace(tiny_texts[0], policy=policy).reasons[0]
    assert ExitPolicy.from_dict(policy.to_dict()) == policy
