from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from elbert.calibration import calibrate
from elbert.errors import UsageError
from elbert.evaluation.sweep import Sweep, grids, sample, sweep
from elbert.evaluation.sweep import swept as sweep_of
from elbert.exits import ExitPolicy, get, make, names, replay
from elbert.exits.words import GRID
from elbert.results import LayerOutputs
from elbert.scoring.curves import operating_points, replay_all
from elbert.scoring.refine import refined
from tests.evaluation.conftest import KINDS

N, M, C = 60, 5, 3


def recorded(problem_type: Any = "single_label_classification", seed: int = 0) -> tuple[LayerOutputs, Any]:
    """A recording whose exits get better with depth, and labels drawn once for all seeds."""
    truth = torch.Generator().manual_seed(7)
    noise = torch.Generator().manual_seed(seed)
    width = 1 if problem_type == "regression" else C
    labels: dict[str, Any] = {
        "single_label_classification": torch.randint(C, (N,), generator=truth),
        "multi_label_classification": torch.randint(2, (N, C), generator=truth).float(),
        "regression": torch.randn(N, generator=truth),
    }
    chosen = labels[problem_type]
    sharp = torch.arange(1, M + 1).view(1, M, 1) * 0.8
    if problem_type == "single_label_classification":
        signal = torch.nn.functional.one_hot(chosen, C).float()
    else:
        signal = chosen.view(N, -1) if problem_type == "regression" else 2 * chosen - 1
    logits = signal.unsqueeze(1) * sharp + 1.5 * torch.randn(N, M, width, generator=noise)
    kinds: dict[str, Any] = {
        "single_label_classification": logits.softmax(-1),
        "multi_label_classification": logits.sigmoid(),
        "regression": logits,
    }
    return LayerOutputs(logits, kinds[problem_type], torch.full((N,), 9), None, problem_type), chosen.tolist()


@pytest.fixture(scope="module")
def swept() -> Sweep:
    outputs, labels = recorded()
    return sweep(outputs, labels, bootstrap=200)


def test_every_setting_of_every_policy_stands_where_its_own_replay_puts_it(swept: Sweep) -> None:
    outputs, labels = recorded()
    grid = [each for each in grids(None, M, C) if not each.needs]  # nothing but probabilities was recorded
    settings = refined(grid, outputs).policies
    points = {str(each.policy.to_dict()): each for each in operating_points(outputs, labels, settings)}
    assert sorted(str(point.policy) for point in swept.points) == sorted(points)
    for ours in swept.points:
        theirs = points[str(ours.policy)]
        assert ours.score == pytest.approx(theirs.score)
        assert ours.mean_exit_layer == pytest.approx(theirs.mean_exit_layer)
        assert ours.changed == theirs.changed
        assert ours.layer_speedup == pytest.approx(M / theirs.mean_exit_layer)
        assert sum(ours.exit_histogram) == N


def test_no_setting_is_replayed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, labels = recorded()
    seen: Counter[ExitPolicy] = Counter()

    def counted(policy: ExitPolicy, texts: LayerOutputs) -> Any:
        seen[policy] += 1
        return replay(policy, texts)

    monkeypatch.setattr("elbert.scoring.curves.replay", counted)
    sweep(outputs, labels, bootstrap=100)
    assert seen.keys() > {each for each in grids(None, M, C) if not each.needs}
    assert set(seen.values()) == {1}


def test_a_constant_depth_and_full_depth_are_always_there_and_last() -> None:
    chosen = [each.name for each in grids(["entropy"], M, C)]
    assert list(dict.fromkeys(chosen)) == ["entropy", "fixed", "full"]
    outputs, labels = recorded()
    result = sweep(outputs, labels, [make("entropy")], bootstrap=100)
    assert [each.policy for each in result.curves] == ["entropy", "fixed"]
    assert len(result.curve("fixed").points) == M
    assert result.full_depth.mean_exit_layer == M


def test_a_curve_rises_from_layer_one_to_full_depth_and_its_band_holds_it(swept: Sweep) -> None:
    first = swept.curve("fixed").points[0]
    for each in swept.curves:
        assert (each.depths[0], each.depths[-1]) == (1, M)
        assert each.scores[0] >= first.score
        assert each.scores[-1] >= swept.full_depth.score
        assert all(after >= before - 1e-12 for before, after in zip(each.scores, each.scores[1:], strict=False))
        assert all(low <= score <= high for low, score, high in zip(each.low, each.scores, each.high, strict=True))
        assert each.area_band[0] < each.area < each.area_band[1]
        assert min(each.scores) <= each.area <= max(each.scores)
        assert each.area_by_model == pytest.approx((each.area,))


def test_the_gain_is_over_a_constant_depth_on_the_same_resamples(swept: Sweep) -> None:
    fixed = swept.curve("fixed")
    assert (fixed.gain, fixed.gain_band) == (0, (0, 0))
    for each in swept.curves:
        assert each.gain == pytest.approx(each.area - fixed.area)
        quarter = each.depths.index(1.25)  # of five layers
        assert each.quarter_score == each.scores[quarter]
        assert each.quarter_gain == pytest.approx(each.scores[quarter] - fixed.scores[quarter])
        assert each.quarter_gain_band[0] <= each.quarter_gain <= each.quarter_gain_band[1]
        # Paired: narrower than two areas that are drawn apart.
        assert each.gain_band[1] - each.gain_band[0] < each.area_band[1] - each.area_band[0]


def test_settings_chosen_on_other_texts_are_worth_less(swept: Sweep) -> None:
    assert np.mean([each.area_held_out - each.area for each in swept.curves]) < 0


def test_exactly_the_unbeaten_settings_are_on_the_fronts(swept: Sweep) -> None:
    overall = [point for point in swept.points if point.on_overall_front]
    for each in swept.curves:
        for point in each.points:
            if point.on_front:
                assert not any(
                    other.mean_exit_layer < point.mean_exit_layer and other.score >= point.score
                    for other in each.points
                )
            assert any(best.mean_exit_layer <= point.mean_exit_layer and best.score >= point.score for best in overall)


@pytest.mark.parametrize("problem_type", KINDS)
def test_every_problem_type_is_swept_and_gives_json(problem_type: str) -> None:
    outputs, labels = recorded(problem_type)
    result = sweep(outputs, labels, bootstrap=100)
    assert [each.policy for each in result.curves] == [
        *(name for name in names() if name not in ("fixed", "full") and not get(name).learned and not get(name).needs),
        "fixed",
    ]
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert written["metric"] == {"single": "accuracy", "multi_": "f1_micro", "regres": "pearson"}[problem_type[:6]]
    assert written["curves"][0]["points"][0]["policy"]["name"] == "elbert"


def test_the_fastest_setting_within_a_drop_is_found(swept: Sweep) -> None:
    for each in swept.curves:
        best = swept.fastest(each.policy, 0.05)
        allowed = [point for point in each.points if point.score >= swept.full_depth.score - 0.05 - 1e-9]
        assert (best is None) == (not allowed)
        if best is not None:
            assert best.mean_exit_layer == min(point.mean_exit_layer for point in allowed)


def test_the_same_seed_gives_the_same_bands_and_another_one_others(swept: Sweep) -> None:
    outputs, labels = recorded()
    assert sweep(outputs, labels, bootstrap=200).to_dict() == swept.to_dict()
    assert sweep(outputs, labels, bootstrap=200, seed=1).curves[0].area_band != swept.curves[0].area_band


def test_several_models_are_averaged_and_each_keeps_its_own_area() -> None:
    (one, labels), (other, _) = recorded(seed=0), recorded(seed=1)
    settings = [make("entropy", threshold=0.5)]
    both = sweep([one, other], labels, settings, bootstrap=100)
    apart = [sweep(each, labels, settings, bootstrap=100) for each in (one, other)]
    assert both.models == 2
    for place, point in enumerate(both.points):
        assert point.score == pytest.approx(np.mean([each.points[place].score for each in apart]))
        assert point.mean_exit_layer == pytest.approx(np.mean([each.points[place].mean_exit_layer for each in apart]))
        assert sum(point.exit_histogram) == pytest.approx(N)
    assert both.curves[0].area_by_model == pytest.approx([each.curves[0].area for each in apart])


def test_parts_of_a_recording_sweep_as_the_whole() -> None:
    outputs, labels = recorded()
    settings = grids(["patience"], M, C)
    parts = [
        replace(outputs, logits=outputs.logits[rows], probs=outputs.probs[rows], lengths=outputs.lengths[rows])
        for rows in (slice(0, 20), slice(20, N))
    ]
    whole = sweep(outputs, labels, settings, bootstrap=100)
    assert sweep_of(sample([replay_all(settings, parts)], labels, bootstrap=100)) == whole


def with_layer_0(outputs: LayerOutputs, labels: Any) -> LayerOutputs:
    """The same recording with a layer 0 that is sure of half of the texts, and right about those."""
    sure = torch.nn.functional.one_hot(torch.tensor(labels), C) * 0.97 + 0.01
    words = torch.where((torch.arange(N) % 2 == 0)[:, None], sure, torch.full_like(sure, 1 / C))
    return replace(outputs, words=words)


def half_a_layer(policy: ExitPolicy) -> float:
    return 0.5 if policy.words is not None else 0.0


def test_where_models_have_a_layer_0_every_policy_has_a_curve_with_it() -> None:
    plain, labels = recorded()
    outputs = with_layer_0(plain, labels)
    result = sweep(outputs, labels, bootstrap=100, layer_0_cost=half_a_layer)
    exits = [
        name for name in names() if name not in ("fixed", "full") and not get(name).learned and not get(name).needs
    ]
    plain_names = [*exits, "fixed"]
    assert [each.policy for each in result.curves] == [*plain_names, *(f"{name}+words" for name in plain_names)]
    assert all(point.layer_0 is None for point in result.curve("elbert").points)
    for point in (*result.curve("elbert+words").points, *result.curve("fixed+words").points):
        policy = ExitPolicy.from_dict(point.policy)
        exit_layer = replay(policy, outputs)
        assert policy.words in GRID
        assert point.mean_exit_layer == pytest.approx(float(exit_layer.double().mean()) + 0.5)
        assert point.score == pytest.approx((outputs.at(exit_layer).argmax(-1) == torch.tensor(labels)).double().mean())
        assert point.layer_speedup == pytest.approx(M / point.mean_exit_layer)
        assert point.layer_0 == int((exit_layer == 0).sum())
        assert point.layer_0 + sum(point.exit_histogram) == N
    alone, both = (result.fastest(name, 0.05) for name in ("elbert", "elbert+words"))
    assert alone is not None
    assert both is not None
    assert both.mean_exit_layer < alone.mean_exit_layer
    assert result.layer_0_cost == 0.5
    assert sweep(plain, labels, [make("full")], bootstrap=100, layer_0_cost=half_a_layer).layer_0_cost is None
    assert result.full_depth.mean_exit_layer == M


def test_a_policy_with_layer_0_runs_as_many_layers_in_a_sweep_as_in_a_calibration() -> None:
    outputs, labels = recorded()
    outputs = with_layer_0(outputs, labels)
    found = calibrate(outputs, labels, {"loose": 0.3})["loose"]
    assert found.policy.words is not None
    [point, *_] = sweep(outputs, labels, [found.policy], bootstrap=100).points
    assert point.policy == found.policy.to_dict()
    for name in ("score", "mean_exit_layer", "layer_speedup", "layer_0"):
        assert getattr(point, name) == pytest.approx(found.evidence[name], rel=1e-5)


def test_where_all_texts_leave_at_layer_0_no_layer_is_run_and_json_takes_it() -> None:
    outputs, labels = recorded()
    result = sweep(with_layer_0(outputs, labels), labels, [make("full", words=0.0)], bootstrap=100)
    [point] = result.curve("full+words").points
    assert (point.mean_exit_layer, point.layer_speedup, point.layer_0) == (0.0, None, N)
    json.dumps(result.to_dict(), allow_nan=False)


def test_what_cannot_be_swept_is_refused_in_one_line() -> None:
    outputs, labels = recorded()
    other, _ = recorded("regression")
    with pytest.raises(UsageError, match="at least 100"):
        sweep(outputs, labels, bootstrap=10)
    with pytest.raises(UsageError, match="seed is 4294967296; allowed: 0 to 4294967295"):
        sweep(outputs, labels, bootstrap=100, seed=2**32)
    with pytest.raises(UsageError, match="0 recordings"):
        sweep([], labels)
    with pytest.raises(UsageError, match="same shape"):
        sweep([outputs, other], labels, [make("full")])
    with pytest.raises(UsageError, match="does not fit"):
        sweep(outputs, labels, metric="pearson")
    with pytest.raises(UsageError, match="did you mean 'entropy'"):
        grids(["entropi"], M, C)
    with pytest.raises(UsageError, match="named twice"):
        grids(["entropy", "entropy"], M, C)
