"""`elbert policies` lists every registered policy, for people and for programs."""

from __future__ import annotations

import json

import pytest

from elbert.cli import main
from elbert.exits import get, names


def test_the_list_names_rule_parameters_and_paper_of_every_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies"]) == 0
    text = capsys.readouterr().out
    for name in names():
        assert f"{name}\n  {get(name).summary}\n" in text
        assert get(name).citation in text
    assert "window = 8: stage 2" in text
    assert "temperature = none: " in text
    assert text.count("min_layer = 1: no text leaves before this layer") == 1


def test_json_holds_the_same_as_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == names()
    elbert = next(entry for entry in entries if entry["name"] == "elbert")
    assert [parameter["name"] for parameter in elbert["parameters"]] == [
        "threshold",
        "window",
        "criterion",
        "tolerance",
    ]
    assert elbert["parameters"][1]["default"] == 8
