"""`elbert.json` as it is read, checked once, and written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from elbert.errors import ModelError, UsageError
from elbert.metadata import DataRecord, Metadata, read_metadata


def test_what_is_written_is_read_back() -> None:
    known = Metadata(heads="full", max_length=64, policies={"mine": {"name": "full"}}, default_policy="mine")
    assert Metadata.from_dict(json.loads(json.dumps(known.to_dict()))) == known
    assert Metadata.from_dict({}) == Metadata()


def test_keys_of_a_newer_version_are_kept_as_they_are() -> None:
    content = {"format": 1, "heads": "shared", "weather": {"sun": True}, "max_length": 12}
    again = Metadata.from_dict(content).to_dict()
    assert again["weather"] == {"sun": True}
    assert again["max_length"] == 12


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"format": 2}, "upgrade elbert"),
        ({"format": True}, "the file is damaged"),
        ({"format": 1, "heads": "shard"}, "did you mean 'shared'"),
        ({"format": 1, "max_length": 2}, "max_length is 2; allowed: a whole number of 3 or more"),
        ({"format": 1, "problem_type": "multi_label"}, "problem_type is 'multi_label'; allowed: one of single_label"),
        ({"format": 1, "policies": []}, "policies is"),
        ({"format": 1, "words": 1}, "words is 1; allowed: an object"),
    ],
)
def test_a_field_of_the_wrong_kind_is_told_by_its_name(content: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        Metadata.from_dict(content)
    (tmp_path / "elbert.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=words):
        read_metadata(tmp_path)


@pytest.mark.parametrize(
    "training", [None, "x", {"data": "x"}, {"data": {"train": 5}}, {"data": {"train": {"rows": "9"}}}]
)
def test_a_record_of_the_training_of_another_shape_says_nothing(training: Any) -> None:
    assert Metadata(training=training).met("train") == DataRecord()


def test_the_data_a_model_has_met_is_noted_by_part() -> None:
    training = {"data": {"train": {"name": "t.csv", "rows": 9, "digest": "ab", "more": 1}}}
    assert Metadata(training=training).met("train") == DataRecord("t.csv", 9, "ab")
    assert Metadata(training=training).met("evaluation") == DataRecord()
