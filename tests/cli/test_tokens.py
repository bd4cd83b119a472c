"""`--tokens`, where an exit policy is named: what it does, and how it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from elbert import Classifier
from elbert.errors import UsageError
from elbert.exits import make

Run = Callable[..., tuple[int, str, str]]


def test_tokens_shorten_rows_beside_the_models_exits_or_without_any(
    run: Run, model_folder: Path, reviews: Path
) -> None:
    line = json.loads(run("evaluate", model_folder, reviews, "--json", "--repeats", 1, "--tokens", "1=0.5")[1])
    assert line["policy"]["name"] == "elbert"
    assert line["policy"]["tokens"] == {"1": 0.5, "score": "attention"}
    full = ("--policy", "full", "--tokens", "1=0.5", "--tokens", "3=2")
    line = json.loads(run("evaluate", model_folder, reviews, "--json", "--repeats", 1, *full)[1])
    assert line["policy"] == {"name": "full", "tokens": {"1": 0.5, "3": 2, "score": "attention"}}
    assert line["mean_exit_layer"] == 4
    assert 0.4 < line["token_layers"] < 0.75


def test_predict_explain_and_a_page_take_the_same_schedule(run: Run, model_folder: Path, reviews: Path) -> None:
    flags = ("--policy", "full", "--tokens", "1=2")
    answers = [json.loads(row) for row in run("predict", model_folder, "--input", reviews, *flags)[1].splitlines()]
    policy = make("full", tokens={1: 2})
    classifier = Classifier.from_pretrained(model_folder)
    text = "a very good film"
    assert answers[2]["score"] == classifier.predict(text, policy=policy).score
    assert answers[2]["score"] != classifier.predict(text, policy=make("full")).score
    told = json.loads(run("explain", model_folder, text, "--json", *flags)[1])
    assert max(told["probs"][-1]) == round(answers[2]["score"], 6)
    page = reviews.with_name("page.html")
    assert run("evaluate", model_folder, reviews, "--repeats", 1, "--report", page, *flags)[0] == 0
    assert page.is_file()


def test_full_depth_alone_stays_full_depth_with_tokens(run: Run, tmp_path: Path, model_folder: Path) -> None:
    classifier = Classifier.from_pretrained(model_folder, policy="full")
    classifier.keep("whole", make("full"))
    classifier.save_pretrained(tmp_path / "m")
    (tmp_path / "t.csv").write_text("text,label\na good film,pos\na bad film,neg\n")
    words = ("evaluate", tmp_path / "m", tmp_path / "t.csv", "--json", "--repeats", 1)
    assert json.loads(run(*words, "--tokens", "2=0.5")[1])["policy"]["name"] == "full"


def test_wrong_values_end_in_one_line(refused: Callable[..., str], model_folder: Path, reviews: Path) -> None:
    words = ("evaluate", model_folder, reviews)
    assert "--tokens '0.5' is not NAME=VALUE, for example --tokens 3=0.5" in refused(*words, "--tokens", "0.5")
    assert "layer 1 keeps 1.5; allowed: a share" in refused(*words, "--tokens", "1=1.5")
    assert "layer 9 is named, and the model has 4; allowed: 1 to 3" in refused(*words, "--tokens", "9=0.5")
    assert "tokens was given twice" in refused(*words, "--tokens", "1=0.5", "--set", "tokens=null")
    assert "--full-depth runs every layer" in refused(
        "predict", model_folder, "a film", "--full-depth", "--tokens", "1=0.5"
    )


def test_a_saved_policy_keeps_its_schedule_and_export_refuses_it(
    run: Run, refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    classifier = Classifier.from_pretrained(model_folder)
    classifier.keep("short", make("entropy", threshold=0.3, tokens={"2": 0.5}))
    classifier.save_pretrained(tmp_path / "m")
    again = Classifier.from_pretrained(tmp_path / "m")
    assert again.policy == again.policies["short"] == make("entropy", threshold=0.3, tokens={2: 0.5})
    line = refused("export", tmp_path / "m", "--out", tmp_path / "x", "--format", "onnx")
    assert "policy 'short' drops tokens, and exported graphs run whole rows" in line
    content = json.loads((tmp_path / "m" / "elbert.json").read_text())
    content["policies"]["short"]["tokens"] = {"7": 0.5}
    (tmp_path / "m" / "elbert.json").write_text(json.dumps(content))
    assert "elbert.json: tokens: layer 7 is named" in refused("predict", tmp_path / "m", "a film", status=1)


def test_a_learned_score_is_kept_with_its_policy_and_serves_other_schedules(
    run: Run, refused: Callable[..., str], model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    flags = ("--policy", "full", "--tokens", "1=0.5", "--tokens", "score=learned")
    assert "has no learned score of tokens" in refused("predict", model_folder, "a good film", *flags)
    with pytest.raises(UsageError, match="'certainty' learns, and so would its score of tokens"):
        make("certainty", tokens={1: 0.5, "score": "learned"})
    classifier = Classifier.from_pretrained(model_folder)
    schedule = classifier.fit_tokens(["a very good film", "a very bad film", "so so, a film"], {"2": 0.5})
    policy = make("entropy", threshold=0.3, tokens=schedule)
    classifier.keep("short", policy)
    classifier.save_pretrained(tmp_path / "m")
    again = Classifier.from_pretrained(tmp_path / "m")
    assert again.policy == policy
    assert again.fitted == {}  # the rule itself learnt nothing
    assert np.array_equal(again.policy.tokens.weights, schedule.weights)
    texts = ["a very good film", "bad", "a film so so good"]
    assert again.predict(texts) == classifier.predict(texts)
    line = json.loads(run("evaluate", tmp_path / "m", reviews, "--json", "--repeats", 1, *flags)[1])
    assert line["policy"] == {"name": "full", "tokens": {"1": 0.5, "score": "learned"}}
    (tmp_path / "m" / "policies.safetensors").unlink()
    assert "has no learned score of tokens" in refused("predict", tmp_path / "m", "a film", status=1)
