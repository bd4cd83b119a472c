"""Settings: their checks, their automatic values, their JSON."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from elbert.errors import UsageError
from elbert.runs import precision
from elbert.training import TrainSettings


def test_json_and_back():
    wanted = TrainSettings(scheme="elbert_balanced", scheme_options={"pull": 2.0}, early_stopping=2, learning_rate=1e-4)
    assert TrainSettings.from_dict(wanted.to_dict()) == wanted
    assert TrainSettings.from_dict({}) == TrainSettings()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batchsize": 8}, "unknown training setting 'batchsize'; did you mean 'batch_size'"),
        ({"epochs": "three"}, "epochs is 'three'; allowed: int"),
        ({"epochs": True}, "epochs is True"),
        ({"learning_rate": "high"}, "learning_rate is 'high'; allowed: float or null"),
        ({"scheme": "elbrt"}, "did you mean 'elbert'"),
        ({"scheme_options": {"pul": 1}, "scheme": "elbert_balanced"}, "no option 'pul'; did you mean 'pull'"),
        ({"batch_size": 0}, "batch_size is 0; allowed: at least 1"),
        ({"batch_size": 10**20}, "allowed: at least 1 and at most 2147483647"),
        ({"epochs": 10**20}, "at most 2147483647"),
        ({"seed": 2**32}, "allowed: 0 to 4294967295"),
        ({"max_length": 2}, "max_length is 2; allowed: at least 3"),
        ({"early_stopping": 0}, "early_stopping is 0; allowed: at least 1"),
        ({"dropout": 1.5}, "dropout is 1.5; allowed: 0 to 1"),
        ({"seed": -1}, "seed is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; allowed: more than 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"dtype": "fp16"}, "unknown dtype 'fp16'"),
        ({"metric_for_best": "finale"}, "did you mean 'final'"),
    ],
)
def test_a_wrong_value_is_one_clear_line(values, said):
    with pytest.raises(UsageError, match=said):
        TrainSettings.from_dict(values)


@pytest.mark.parametrize(("hidden_size", "rate"), [(128, 3e-4), (511, 3e-4), (512, 3e-5), (1024, 3e-5)])
def test_the_automatic_learning_rate_goes_by_width(tiny_config, hidden_size, rate):
    assert TrainSettings().resolved(tiny_config(hidden_size=hidden_size)).learning_rate == rate
    assert TrainSettings(learning_rate=1e-3).resolved(tiny_config(hidden_size=hidden_size)).learning_rate == 1e-3


@pytest.mark.parametrize(("family", "dropout"), [("albert", 0.0), ("bert", None), ("distilbert", None)])
def test_albert_trains_without_dropout_as_in_the_paper(tiny_config, family, dropout):
    assert TrainSettings().resolved(tiny_config(family)).dropout == dropout
    assert TrainSettings(dropout=0.2).resolved(tiny_config(family)).dropout == 0.2


@pytest.mark.parametrize(("able", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_auto_takes_bfloat16_where_the_machine_computes_it(tiny_config, monkeypatch, able, dtype):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: able)
    assert TrainSettings().resolved(tiny_config()).dtype == dtype
    assert TrainSettings(dtype="float32").resolved(tiny_config()).dtype == "float32"


@pytest.mark.parametrize(
    ("capabilities", "able"),
    [({}, False), ({"avx512_bf16": True}, True), ({"avx512_bf16": False, "amx_bf16": True}, True)],
)
def test_a_cpu_computes_bfloat16_with_avx512_bf16_or_amx(monkeypatch, capabilities, able):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert precision.computes_bfloat16() is able


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainSettings().epochs = 4
