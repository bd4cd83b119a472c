from __future__ import annotations

from elbert.classifier import Classifier
from elbert.data import TextDataset
from elbert.evaluation.sweep import Sweep, sweep
from elbert.evaluation.sweep_time import spread, with_times
from elbert.exits import get


def swept(classifier: Classifier, dataset: TextDataset) -> Sweep:
    return sweep(classifier.record(dataset.texts), dataset.labels or [], get("patience").grid(4, 3), bootstrap=100)


def test_only_settings_on_a_front_are_timed_and_full_depth_is_one(classifier: Classifier, dataset: TextDataset) -> None:
    seen = []
    result = with_times(
        swept(classifier, dataset), classifier, dataset.texts, 2, repeats=1, on_text=lambda: seen.append(1)
    )
    assert result.full_depth.speedup == 1
    timed = [point for curve in result.curves for point in curve.points if point.speedup is not None]
    assert timed
    assert all(point.on_front and (point.speedup or 0) > 0 for point in timed)
    chosen = [spread(curve, 4 if curve.policy == "fixed" else 2) for curve in result.curves]
    runs = sum(1 + len(settings) for settings in chosen if settings)
    assert len(seen) == runs * len(dataset)
    assert result.timing is not None
    assert (result.timing["n"], result.timing["rounds"]) == (len(dataset), 1)


def test_no_points_take_no_time(classifier: Classifier, dataset: TextDataset) -> None:
    result = swept(classifier, dataset)
    assert with_times(result, classifier, dataset.texts, 0) is result


def test_timed_settings_are_spread_from_the_fastest_to_the_slowest(
    classifier: Classifier, dataset: TextDataset
) -> None:
    for curve in swept(classifier, dataset).curves:
        front = sorted(point.mean_exit_layer for point in curve.points if point.on_front)
        depths = [point.mean_exit_layer for point in spread(curve, 3)]
        assert len(depths) == min(3, len(front))
        if front:
            assert depths[0] == front[0]
            assert depths[-1] == front[-1]
        assert len(spread(curve, 1)) == min(1, len(front))
