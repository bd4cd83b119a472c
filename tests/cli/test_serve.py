from __future__ import annotations

import sys
from collections.abc import Callable
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


def test_a_missing_extra_and_a_limit_out_of_range_are_one_line(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    assert "max_batch_requests is 0; allowed: 1 or more" in refused("serve", "--max-batch-requests", "0")
    assert "body_timeout is nan; allowed: 1 or more" in refused("serve", "--body-timeout", "nan")
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
