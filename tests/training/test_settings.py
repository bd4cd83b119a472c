"""Settings: their checks, their automatic values, their JSON."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from elbert.errors import UsageError
from elbert.modeling import load_model
from elbert.runs import precision
from elbert.training import TrainSettings


def test_json_and_back():
    wanted = TrainSettings(scheme="elbert_balanced", scheme_options={"pull": 2.0}, early_stopping=2, learning_rate=1e-4)
    assert TrainSettings.from_dict(wanted.to_dict()) == wanted
    assert TrainSettings.from_dict({}) == TrainSettings()
    assert not TrainSettings.from_dict({"words": False}).words


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batchsize": 8}, "unknown training setting 'batchsize'; did you mean 'batch_size'"),
        ({"epochs": "three"}, "epochs is 'three'; allowed: int"),
        ({"epochs": True}, "epochs is True"),
        ({"words": 1}, "words is 1; allowed: bool"),
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
        ({"learning_rate": float("inf")}, "learning_rate is inf; allowed: more than 0, and finite"),
        ({"weight_decay": float("inf")}, "weight_decay is inf; allowed: at least 0 and finite"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"dtype": "fp16"}, "unknown dtype 'fp16'"),
        ({"class_weight": "balance"}, "unknown class_weight 'balance'; did you mean 'balanced'"),
        ({"eval_steps": 0}, "eval_steps is 0; allowed: at least 1"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps is 0; allowed: at least 1"),
        ({"metric_for_best": "finale"}, "did you mean 'final'"),
    ],
)
def test_a_wrong_value_is_one_clear_line(values, said):
    with pytest.raises(UsageError, match=said):
        TrainSettings.from_dict(values)


@pytest.mark.parametrize("hidden_size", [32, 512])
def test_the_automatic_learning_rate_goes_by_what_the_model_says_of_itself(tiny_config, hidden_size):
    config = tiny_config(hidden_size=hidden_size)
    assert TrainSettings().resolved(config).learning_rate == 3e-5
    config.fine_tuning_learning_rate = 2e-4
    assert TrainSettings().resolved(config).learning_rate == 2e-4
    assert TrainSettings(learning_rate=1e-3).resolved(config).learning_rate == 1e-3


def test_so_does_the_rate_of_the_heads(tiny_config):
    config = tiny_config()
    assert TrainSettings().resolved(config).head_rate == 1
    config.fine_tuning_head_rate = 5
    assert TrainSettings().resolved(config).head_rate == 5
    assert TrainSettings(head_rate=2.0).resolved(config).head_rate == 2


@pytest.mark.parametrize(("rate", "times"), [(None, 100), (1e-3, 3), (1e-2, 1)])
def test_a_head_from_nothing_learns_fast_whatever_the_encoder_does(tiny_config, rate, times):
    settings = TrainSettings(learning_rate=rate)
    assert settings.resolved(tiny_config(), fresh_head=True).head_rate == pytest.approx(times)
    assert settings.resolved(tiny_config()).head_rate == 1


def test_a_checkpoint_that_says_its_rate_says_that_of_its_head(tiny_config):
    config = tiny_config()
    config.fine_tuning_learning_rate = 3e-4
    assert TrainSettings().resolved(config, fresh_head=True).head_rate == 1


@pytest.mark.parametrize("name", ["fine_tuning_learning_rate", "fine_tuning_head_rate"])
@pytest.mark.parametrize("value", ["high", -1.0])
def test_a_rate_of_the_models_that_is_no_rate_is_named(tiny_config, name, value):
    config = tiny_config()
    setattr(config, name, value)
    with pytest.raises(UsageError, match=rf"{name} in config.json is {value!r}; allowed: a number above 0"):
        TrainSettings().resolved(config)


@pytest.mark.parametrize("name", ["mini", "mini-sentiment", "random-small"])
def test_our_own_encoders_say_their_rate_and_so_does_what_is_made_of_them(name, tmp_path):
    model, tokenizer, _ = load_model(name, labels=("a", "b"), texts=["a text"])
    assert TrainSettings().resolved(model.config).learning_rate == 3e-4
    model.save_pretrained(tmp_path, tokenizer)
    assert TrainSettings().resolved(load_model(tmp_path)[0].config).learning_rate == 3e-4


@pytest.mark.parametrize(("family", "dropout"), [("albert", 0.0), ("bert", None), ("distilbert", None)])
def test_albert_trains_without_dropout_as_in_the_paper(tiny_config, family, dropout):
    assert TrainSettings().resolved(tiny_config(family)).dropout == dropout
    assert TrainSettings(dropout=0.2).resolved(tiny_config(family)).dropout == 0.2


@pytest.mark.parametrize(
    ("able", "gpu", "dtype"),
    [(True, False, "bfloat16"), (False, False, "float32"), (True, True, "bfloat16"), (False, True, "float16")],
)
def test_auto_takes_bfloat16_where_the_machine_computes_it_and_float16_on_other_gpus(
    tiny_config, monkeypatch, able, gpu, dtype
):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert TrainSettings().resolved(tiny_config()).dtype == dtype
    assert TrainSettings(dtype="float32").resolved(tiny_config()).dtype == "float32"
    assert precision.choose_dtype("auto") == dtype.replace("float16", "float32").replace("bfloat32", "bfloat16")


def test_float16_without_a_gpu_is_refused(tiny_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="dtype is float16 but there is no GPU for it"):
        TrainSettings(dtype="float16").resolved(tiny_config())


@pytest.mark.parametrize(
    ("capabilities", "able"),
    [({}, False), ({"avx512_bf16": True}, True), ({"avx512_bf16": False, "amx_bf16": True}, True)],
)
def test_a_cpu_computes_bfloat16_with_avx512_bf16_or_amx(monkeypatch, capabilities, able):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert precision.computes_bfloat16() is able


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainSettings().epochs = 4
