"""The example in docs/engine.md, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "engine.md"


def test_the_schedulers_example_gives_the_answers_of_predict(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(PAGE), "exec"), names)
    answers = zip(names["texts"], names["classifier"].predict(names["texts"]), strict=True)
    expected = [f"{text} {answer.label}, after layer {answer.exit_layer}" for text, answer in answers]
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(expected)
