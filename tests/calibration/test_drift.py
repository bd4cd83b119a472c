from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

from elbert.calibration.drift import check, exit_confidence, exits_p_value, summarize
from elbert.errors import ModelError
from elbert.exits import make, replay


def evidence(exit_layer: np.ndarray, confidence: np.ndarray, layers: int = 4) -> dict[str, Any]:
    return {
        "exit_histogram": np.bincount(exit_layer, minlength=layers + 1)[1:].tolist(),
        "drift": summarize(confidence),
    }


def drawn(texts: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    sure = generator.beta(5 - shift, 2, texts)
    return np.clip((4 * (1 - sure)).astype(int) + 1, 1, 4), sure


def test_the_same_texts_show_no_difference_at_all() -> None:
    layers, sure = drawn(500, 0)
    drift = check("p", evidence(layers, sure), layers, sure)
    assert drift.p_value == 1.0
    assert drift.confidence_distance == 0.0
    assert drift.exits_distance == 0.0
    assert drift.mean_exit_layer == drift.calibration_mean_exit_layer
    assert drift.n == drift.calibration_n == 500


def test_other_texts_of_the_same_kind_raise_an_alarm_no_more_often_than_the_p_value_says() -> None:
    then = evidence(*drawn(400, 10_000))
    values = []
    for seed in range(200):
        values.append(check("p", evidence(*drawn(400, 5_000 + seed)), *drawn(300, seed)).p_value)
    assert np.mean(np.array(values) <= 0.1) <= 0.1 + 2.6 * np.sqrt(0.1 * 0.9 / 200)
    assert check("p", then, *drawn(300, 1)).p_value > 0.001


def test_texts_of_another_kind_are_noticed() -> None:
    drift = check("p", evidence(*drawn(400, 0)), *drawn(400, 1, shift=2.0))
    assert drift.p_value < 0.001
    assert drift.exits_p_value < 0.001
    assert drift.confidence_p_value < 0.001
    assert drift.mean_exit_layer > drift.calibration_mean_exit_layer


def test_a_summary_of_101_values_is_nearly_as_sharp_as_all_of_them_and_never_sharper() -> None:
    (layers, sure), (later, less) = drawn(3000, 0), drawn(1000, 1, shift=0.3)
    whole = ks_2samp(sure, less)
    drift = check("p", evidence(layers, sure), later, less)
    assert len(summarize(sure)["values"]) <= 101
    assert whole.statistic - 0.011 <= drift.confidence_distance <= whole.statistic + 1e-6


def test_few_texts_in_a_layer_do_not_spoil_the_test_of_the_histogram() -> None:
    assert exits_p_value([500, 1, 0, 0], [400, 0, 1, 0]) > 0.3
    assert exits_p_value([500, 0, 0, 0], [400, 0, 0, 0]) == 1.0
    assert exits_p_value([50, 0], [0, 50]) < 0.001


def test_one_text_and_values_that_are_all_alike_are_no_difficulty() -> None:
    layers, sure = np.array([2]), np.array([0.9])
    assert check("p", evidence(np.full(30, 2), np.full(30, 0.9)), layers, sure).p_value == 1.0


@pytest.mark.parametrize(
    "broken", [{}, {"exit_histogram": [1]}, {"exit_histogram": [1], "drift": {"n": 0, "values": [], "at_or_below": []}}]
)
def test_evidence_with_nothing_to_compare_is_the_models_fault(broken: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="calibrate the model again"):
        check("p", broken, np.array([1]), np.array([0.5]))


def test_evidence_of_a_shallower_model_is_refused() -> None:
    with pytest.raises(ModelError, match="calibrated with 4 layers"):
        check("p", evidence(*drawn(20, 0)), np.array([5, 6]), np.array([0.5, 0.5]))


def test_the_confidence_is_that_of_the_exit_and_for_regression_the_value(record: Any) -> None:
    outputs, _ = record(30)
    layers = replay(make("entropy", threshold=0.5), outputs).numpy()
    expected = [outputs.probs[row, layer - 1].max().item() for row, layer in enumerate(layers)]
    assert exit_confidence(outputs, layers).tolist() == pytest.approx(expected)
    values, _ = record(30, kind="regression")
    assert exit_confidence(values, np.full(30, 2)).tolist() == pytest.approx(values.probs[:, 1, 0].tolist())
