from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elbert.cli import main
from elbert.cli.serve import names_of
from elbert.errors import UsageError


def test_models_are_called_by_the_last_part_of_their_name_or_as_told() -> None:
    words = ["runs/mine", "mood=org/model", "org/other", "mini-sentiment"]
    assert names_of(words) == {
        "mine": "runs/mine",
        "mood": "org/model",
        "other": "org/other",
        "mini-sentiment": "mini-sentiment",
    }
    with pytest.raises(UsageError, match="two models are called 'mine'"):
        names_of(["runs/mine", "other/mine"])


@pytest.mark.parametrize("name", ["a/b", "", "-a", "a b"])
def test_a_name_that_is_none_is_told_as_such(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=f"'{name}' is no name for a model; allowed: letters, digits"):
        names_of([f"{name}=mini-sentiment"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/rate=0.1").mkdir(parents=True)
    assert names_of(["runs/rate=0.1"]) == {"rate=0.1": "runs/rate=0.1"}


@pytest.mark.parametrize("variable", ["API_KEY", "MODEL_ID", "PORT", "KEY_LAYERS_PER_TEXT"])
@pytest.mark.parametrize("value", ["", " "])
def test_a_variable_that_is_empty_is_not_taken_for_none(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert variable in refused("serve", "--hostname", "no.such.host.invalid")


def test_a_flag_stands_for_its_variable_even_where_that_is_empty(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "")
    assert "there is no model" in refused("serve", "no-such-model", "--api-key", "a-key", "--port", "0")


def test_replicas_are_rays(refused: Callable[..., str]) -> None:
    pytest.importorskip("fastapi")
    assert "--replicas was given without --ray" in refused("serve", "no-such-model", "--replicas", "3")


def test_a_missing_extra_and_a_limit_out_of_range_are_one_line(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    assert "--max-batch-requests is 0; allowed: 1 or more" in refused("serve", "--max-batch-requests", "0")
    assert "--body-timeout is nan; allowed: 1 or more" in refused("serve", "--body-timeout", "nan")
    assert "--port is 70000; allowed: 0 to 65535" in refused("serve", "--port", "70000")
    assert "--feedback-share is 2.0; allowed: 0 to 1" in refused("serve", "--feedback-share", "2")
    assert "there is no model" in refused("serve", "no-such-model", "--port", "0")
    for name in [name for name in sys.modules if name.startswith("elbert.serving")]:
        monkeypatch.delitem(sys.modules, name)
    hidden: Any = None
    monkeypatch.setitem(sys.modules, "fastapi", hidden)
    assert "pip install 'elbert[serve]'" in refused("serve", status=1)


def test_with_ray_the_same_models_and_limits_are_deployed_on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    from elbert.scaleout import ray_serve

    asked: list[Any] = []
    monkeypatch.setattr(ray_serve, "serve_on_ray", lambda *given, **more: asked.append((*given, more)))
    words = ["serve", "mood=runs/mine", "--ray", "10.0.0.1:6379", "--replicas", "7", "--max-layers", "3"]
    assert main(words) == 0
    [(loaders, settings, more)] = asked
    assert list(loaders) == ["mood"]
    assert settings.max_layers == 3
    assert more == {"address": "10.0.0.1:6379", "replicas": 7}
