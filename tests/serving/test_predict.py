"""Answers over HTTP are those of the library, in both shapes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elbert.classifier import Classifier
from elbert.exits import make
from tests.serving.conftest import TEXTS, Start

PAIRS = [("a good film", "a bad film"), ("so so", "good")]


def same(element: dict[str, Any], prediction: Any) -> bool:
    return (
        element["label"] == prediction.label
        and element["score"] == pytest.approx(prediction.score, abs=1e-5)
        and element["exit_layer"] == prediction.exit_layer
        and element["truncated"] == prediction.truncated
    )


@pytest.mark.parametrize(
    ("parameters", "policy"), [({}, "quick"), ({"level": 0}, "exact"), ({"policy": "exact"}, "exact")]
)
def test_answers_equal_offline_predictions(
    client: Any, offline: Classifier, parameters: dict[str, Any], policy: str
) -> None:
    found = client.post("/predict", json={"inputs": TEXTS, "parameters": parameters}).json()
    expected = offline.predict(TEXTS, policy=policy)
    assert all(same(each[0], prediction) for each, prediction in zip(found, expected, strict=True))
    assert {each[0]["policy"] for each in found} == {policy}
    assert found[0][0]["layers"] == 4


def test_what_layer_0_adds_to_the_exits_is_added_here_too(start: Any, good_words: Any) -> None:
    def load() -> Classifier:
        classifier: Classifier = good_words()
        classifier.engine.words = replace(classifier.words, at_exits=2.0)
        return classifier

    offline = load()
    with start(loaders={"tiny": load}) as running:
        for policy in ({"name": "full"}, {"name": "full", "words": 0.99}):
            body = {"inputs": TEXTS, "parameters": {"policy": policy}}
            found = running.client.post("/predict", json=body).json()
            expected = offline.predict(TEXTS, policy=policy)
            assert all(same(each[0], one) for each, one in zip(found, expected, strict=True))


def test_one_string_is_answered_with_one_list_sorted_by_score(client: Any, offline: Classifier) -> None:
    found = client.post("/predict", json={"inputs": "good"}).json()
    assert [each["label"] for each in found] == sorted(["neg", "pos"], key=lambda name: name != found[0]["label"])
    assert found[0]["score"] >= found[1]["score"]
    assert same(found[0], offline.predict("good"))
    assert found[0]["cause"] == "rule"
    assert found[0]["level"] == 1


def test_a_pair_is_an_object_and_two_strings_never_are(client: Any, offline: Classifier) -> None:
    inputs = [{"text": first, "text_pair": second} for first, second in PAIRS]
    found = client.post("/predict", json={"inputs": inputs}).json()
    assert all(same(each[0], one) for each, one in zip(found, offline.predict(PAIRS), strict=True))
    two = client.post("/predict", json={"inputs": list(PAIRS[0])}).json()
    assert len(two) == 2
    assert same(two[0][0], offline.predict("a good film"))
    refused = client.post("/predict", json={"inputs": [list(PAIRS[0])]})
    assert refused.status_code == 422
    assert "two strings are never a pair" in refused.json()["error"]


def test_scores_are_what_function_to_apply_makes_of_the_logits(client: Any, offline: Classifier) -> None:
    def ask(**parameters: Any) -> list[float]:
        body = {"inputs": "so so", "parameters": {"policy": "exact", **parameters}}
        return [each["score"] for each in client.post("/predict", json=body).json()]

    logits = offline.record(["so so"]).logits[0, -1].sort(descending=True).values
    assert ask(function_to_apply="none") == pytest.approx(logits.tolist(), abs=1e-5)
    assert ask(function_to_apply="sigmoid") == pytest.approx(logits.sigmoid().tolist(), abs=1e-5)
    assert ask(function_to_apply="softmax") == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)
    assert ask(top_k=1) == pytest.approx([torch.softmax(logits, 0)[0].item()], abs=1e-5)
    raw = client.post("/predict", json={"inputs": "so so", "raw_scores": True, "parameters": {"level": 0}}).json()
    assert raw[0]["score"] == pytest.approx(logits[0].item(), abs=1e-5)


def test_max_layers_is_a_ceiling_that_the_cause_names(client: Any) -> None:
    body = {"inputs": "good", "parameters": {"level": 0, "max_layers": 3}}
    found = client.post("/predict", json=body).json()[0]
    assert (found["exit_layer"], found["cause"]) == (3, "budget")
    body["parameters"]["max_layers"] = 99
    found = client.post("/predict", json=body).json()[0]
    assert (found["exit_layer"], found["cause"]) == (4, "last_layer")


def test_a_deadline_that_is_over_is_refused_and_a_distant_one_hurries_nobody(client: Any) -> None:
    def ask(milliseconds: float) -> Any:
        body = {"inputs": "good", "parameters": {"level": 0, "max_latency_ms": milliseconds}}
        return client.post("/predict", json=body)

    over = ask(0.001)
    assert (over.status_code, over.headers["retry-after"]) == (429, "1")
    assert "later than max_latency_ms allows" in over.json()["error"]
    found = ask(600_000.0).json()[0]
    assert (found["exit_layer"], found["cause"]) == (4, "last_layer")


def test_a_budget_in_milliseconds_is_kept_by_what_exits_were_measured_to_take(model_folder: Path, start: Start) -> None:
    def load() -> Classifier:
        classifier = Classifier.from_pretrained(model_folder)
        fitted = make("budget").fit(classifier.record(TEXTS), np.zeros(len(TEXTS)))
        classifier.policies["budget"] = fitted.timed([10.0, 20.0, 30.0, 40.0])
        return classifier

    with start({"tiny": load}) as running:

        def asked(**budget: Any) -> Any:
            body = {"inputs": TEXTS, "parameters": {"policy": {"name": "budget", **budget}}}
            return running.client.post("/predict", json=body)

        for milliseconds, layer in ((5, 1), (100, 4)):
            assert {each[0]["exit_layer"] for each in asked(milliseconds=milliseconds).json()} == {layer}
        assert {each[0]["exit_layer"] for each in asked(milliseconds=100, exit_milliseconds=[100] * 4).json()} == {4}
        refused = asked(milliseconds=5, exit_milliseconds=[1.0, 2.0])
        assert (refused.status_code, "has 2 numbers; allowed: 4" in refused.text) == (422, True)


def test_a_policy_may_be_an_object_and_texts_of_several_share_the_server(client: Any) -> None:
    for layer in (1, 3, 2):
        body = {"inputs": "good", "parameters": {"policy": {"name": "fixed", "layer": layer}}}
        found = client.post("/predict", json=body).json()[0]
        assert (found["exit_layer"], found["policy"], found["level"]) == (layer, "fixed", None)


def test_a_long_text_is_cut_off_and_said_so_or_refused(client: Any, offline: Classifier) -> None:
    text = "good " * (offline.max_length + 5)
    assert client.post("/predict", json={"inputs": text}).json()[0]["truncated"] is True
    refused = client.post("/predict", json={"inputs": ["good", text], "truncate": False})
    assert refused.status_code == 413
    assert refused.json()["error"].startswith("text 2 has more than")


@pytest.mark.parametrize(("path", "field"), [("/predict", "inputs"), ("/v1/classify", "input")])
def test_the_stages_are_told_in_headers(client: Any, path: str, field: str) -> None:
    headers = client.post(path, json={field: ["good", "so so"]}).headers
    assert headers["x-compute-characters"] == "9"
    assert int(headers["x-compute-tokens"]) >= 6
    for name in ("x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"):
        assert int(headers[name]) >= 0


def test_vllms_shape(client: Any, offline: Classifier) -> None:
    found = client.post("/v1/classify", json={"model": "tiny", "input": TEXTS[:3]}).json()
    expected = offline.predict(TEXTS[:3])
    probs = offline.predict_proba(TEXTS[:3])
    assert (found["object"], found["model"]) == ("list", "tiny")
    for place, (each, prediction) in enumerate(zip(found["data"], expected, strict=True)):
        assert (each["index"], each["label"], each["num_classes"]) == (place, prediction.label, 2)
        assert each["probs"] == pytest.approx(probs[place].tolist(), abs=1e-5)
        assert each["exit_layer"] == prediction.exit_layer
    tokens = sum(len(each.ids) for each in offline.arrivals(TEXTS[:3], {}))
    assert found["usage"]["prompt_tokens"] == found["usage"]["total_tokens"] == tokens
    assert len(client.post("/v1/classify", json={"input": "good"}).json()["data"]) == 1


def test_many_requests_at_once_get_their_own_answers(running: Any, offline: Classifier) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ask(number: int) -> bool:
        text, level = TEXTS[number % len(TEXTS)], number % 2
        body = {"inputs": text, "parameters": {"level": level}}
        found = running.client.post("/predict", json=body).json()[0]
        return same(found, expected[text, level])

    expected = {(t, n): offline.predict(t, policy=("exact", "quick")[n]) for t in TEXTS for n in (0, 1)}
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(96)))


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({}, "inputs is missing"),
        ({"inputs": 3}, "inputs is a number; allowed"),
        ({"inputs": None}, "inputs is null; allowed"),
        ({"inputs": ["good", [False]]}, "inputs[1] is a list; allowed"),
        ({"inputs": [True]}, "inputs[0] is true or false; allowed"),
        ({"inputs": "good", "model": {}}, "model is an object; allowed: a string"),
        ({"inputs": "good", "truncate": "no"}, "truncate is a string; allowed: true or false"),
        ({"inputs": "good", "parameters": None}, "parameters is null; allowed: an object"),
        ({"inputs": "good", "parameters": {"policy": [1]}}, "parameters.policy is a list; allowed: a name"),
        ([1], "the body is a list; allowed: an object"),
        ({"inputs": "good", "\ud800": 1}, "a key in the body is no Unicode"),
        ({"inputs": "good", "parameters": {"\ud800": 1}}, "a key in parameters is no Unicode"),
        ({"inputs": "good", "parameters": {"level": 2}}, "level is 2; allowed: 0 (exact), 1 (quick)"),
        ({"inputs": "good", "parameters": {"level": 1, "policy": "exact"}}, "policy and level were both given"),
        ({"inputs": "good", "parameters": {"policy": "exat"}}, "did you mean 'exact'?"),
        ({"inputs": "good", "parameters": {"policy": {"name": "fixed", "layer": 0}}}, "layer is 0"),
        ({"inputs": "good", "parameters": {"max_layers": 0}}, "parameters.max_layers: "),
        (
            {"inputs": "good", "parameters": {"max_layers": True}},
            "max_layers is true or false; allowed: a whole number",
        ),
        ({"inputs": "good", "parameters": {"max_latency": 5}}, "there is no field 'parameters.max_latency'"),
        ({"inputs": {"text": "a", "pair": "b"}}, "inputs has the key 'pair'"),
        ({"inputs": []}, "there are no texts"),
        ({"inputs": "half a pair: \ud83d"}, "text 1 is"),
    ],
)
def test_a_body_that_is_wrong_is_refused_in_one_line_that_says_why(client: Any, body: Any, line: str) -> None:
    refused = client.post("/predict", content=json.dumps(body), headers={"content-type": "application/json"})
    assert refused.status_code == 422
    said = refused.json()
    assert line in said["error"]
    assert "\n" not in said["error"]
    assert said["error_type"] in ("Validation", "Empty")


def test_an_empty_text_is_a_text(client: Any, offline: Classifier) -> None:
    for text in ("", " "):
        found = client.post("/predict", json={"inputs": text})
        assert found.status_code == 200
        assert same(found.json()[0], offline.predict(text))
    answers = client.post("/predict/stream", content=b'""\n\n').text.splitlines()
    assert [json.loads(line)[0]["label"] for line in answers] == [offline.predict("").label]


@pytest.mark.parametrize(
    "parameters",
    [
        {"level": 10**3999},
        {"level": -(10**3999)},
        {"max_layers": -(10**3999)},
        {"top_k": -(10**3999)},
        {"max_latency_ms": 10**3999},
        {"policy": {"name": "fixed", "layer": 10**3999}},
        {"policy": "x" * 9000},
        {"function_to_apply": "x" * 9000},
        {"x" * 9000: 1},
        {"policy": {"name": "x" * 9000}},
        {"policy": {"name": "fixed", "x" * 9000: 1}},
    ],
    ids=lambda each: str(each)[:24],
)
def test_what_is_long_is_not_repeated_whole(client: Any, parameters: Any) -> None:
    refused = client.post("/predict", json={"inputs": "good", "parameters": parameters})
    assert refused.status_code == 422
    assert len(refused.text) < 1000


def test_a_body_that_is_not_sent_as_json_is_told_so(client: Any) -> None:
    for content in (b'{"inputs": "good"}', b"", b"good"):
        refused = client.post("/predict", content=content, headers={"content-type": "text/plain"})
        assert refused.status_code == 422
        assert "\n" not in refused.json()["error"]
    assert "set the header content-type: application/json" in refused.json()["error"]


def test_a_model_that_is_not_there_is_404_in_each_apis_words(client: Any) -> None:
    found = client.post("/predict", json={"inputs": "good", "model": "tinny"})
    assert (found.status_code, found.json()["error_type"]) == (404, "Model")
    assert "did you mean 'tiny'?" in found.json()["error"]
    found = client.post("/v1/classify", json={"input": "good", "model": "../tiny"})
    assert (found.status_code, found.json()["error"]["code"]) == (404, 404)
