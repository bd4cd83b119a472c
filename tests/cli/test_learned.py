"""A policy that learns, from the command line: fitted and calibrated, saved, used, swept, and refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elbert import Classifier
from elbert.errors import ModelError, UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.modeling.files.policies import TENSORS

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]

TEXTS = [f"a {'good' if row % 2 else 'bad'} film {row}" for row in range(300)]


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    path = tmp_path / "held-out.csv"
    path.write_text("text,label\n" + "".join(f"{text},{'pos' if n % 2 else 'neg'}\n" for n, text in enumerate(TEXTS)))
    return path


@pytest.fixture
def own(model_folder: Path, held_out: Path, tmp_path: Path, run: Run) -> Path:
    """A copy of the tiny model, calibrated with a policy that learns."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "own"))
    words = ("--policy", "certainty", "--max-drop", 0.4, "--confidence", 0.8, "--name", "quick")
    status, out, err = run("calibrate", folder, held_out, *words, "--json")
    assert status == 0, err
    entry = json.loads(out)["calibration"]["quick"]
    assert entry["policy"]["name"] == "certainty"
    assert (entry["fitted_on"], entry["n"], entry["guaranteed"]) == (90, 210, True)
    return folder


def test_what_was_fitted_is_saved_and_every_verb_uses_it(own: Path, held_out: Path, run: Run, tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained(own)
    policy = classifier.policy
    assert (policy.name, policy.learned, set(policy.tensors())) == ("certainty", True, {"weight", "bias"})
    expected = replay(policy, classifier.record(TEXTS, pooled=True)).tolist()
    assert [each.exit_layer for each in classifier.predict(TEXTS)] == expected
    lines = [json.loads(line) for line in run("predict", own, *TEXTS[:5])[1].splitlines()]
    assert [line["exit_layer"] for line in lines] == expected[:5]
    facts = json.loads(run("evaluate", own, held_out, "--json", "--repeats", 1)[1].splitlines()[-1])
    assert facts["mean_exit_layer"] == pytest.approx(np.mean(expected))
    other = run("evaluate", own, held_out, "--policy", "certainty", "--threshold", 1.0, "--json", "--repeats", 1)[1]
    assert json.loads(other.splitlines()[-1])["mean_exit_layer"] == 1.0
    assert "estimated error" in run("explain", own, TEXTS[0], "--json")[1]
    assert run("check", own, held_out)[0] == 0


def test_weights_are_kept_where_no_policy_passed_and_are_the_newest(
    model_folder: Path, held_out: Path, tmp_path: Path, run: Run
) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "own"))
    few = tmp_path / "few.csv"
    few.write_text("".join(held_out.read_text().splitlines(keepends=True)[:41]))
    words = ("--policy", "budget", "--max-drop", 0.01, "--name", "paid", "--json")
    assert not json.loads(run("calibrate", folder, few, *words)[1])["calibration"]["paid"]["guaranteed"]
    first = Classifier.from_pretrained(folder)
    assert (first.policy.name, first.policies["budget"].learned) == ("full", True)
    for layers in (1.0, 4.0):
        status, out, err = run("predict", folder, *TEXTS[:30], "--policy", "budget", "--set", f"layers={layers}")
        assert status == 0, err
        assert {json.loads(line)["exit_layer"] for line in out.splitlines()} == {int(layers)}
    taken = first.calibration["paid"]["exit_milliseconds"]
    assert len(taken) == 4
    assert 0 < taken[0] <= taken[1] <= taken[2] <= taken[3]
    for milliseconds, layer in ((taken[0] / 2, 1), (taken[3] * 2, 4)):
        asked = ("--policy", "budget", "--set", f"milliseconds={milliseconds}")
        status, out, err = run("predict", folder, *TEXTS[:30], *asked)
        assert status == 0, err
        assert {json.loads(line)["exit_layer"] for line in out.splitlines()} == {layer}
    assert run("calibrate", folder, held_out, *words, "--allow-seen")[0] == 0
    later = Classifier.from_pretrained(folder)
    old, new = (each.policies["budget"].tensors()["thresholds"] for each in (first, later))
    assert not np.array_equal(old, new)
    np.testing.assert_array_equal(later.equip(make("budget", layers=2.0)).tensors()["thresholds"], new)


def test_a_policy_that_asks_for_more_layers_than_there_are_is_told_of(model_folder: Path, run: Run) -> None:
    def told(*words: object) -> str:
        status, _, err = run("predict", model_folder, TEXTS[0], *words)
        assert status == 0, err
        return err

    never = ", and there are only 4 layers: every text goes to the last"
    assert f"warning: exit policy 'fixed': layer is 99{never}" in told("--policy", "fixed", "--set", "layer=99")
    assert f"'patience': patience is 6{never}" in told("--policy", "patience")
    assert f"'entropy': min_layer is 9{never}" in told("--policy", "entropy", "--set", "min_layer=9")
    changes = "max_layer is 9, and there are only 4 layers, so that changes nothing"
    assert changes in told("--policy", "entropy", "--set", "max_layer=9")
    for words in (("fixed", "--set", "layer=4"), ("patience", "--patience", 2), ("elbert",), ("full",)):
        assert "there are only" not in told("--policy", *words)


def test_saving_the_model_anew_keeps_weights_and_removes_stale_ones(own: Path, tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained(own)
    classifier.save_pretrained(tmp_path / "saved")
    again = Classifier.from_pretrained(tmp_path / "saved")
    assert again.predict(TEXTS) == classifier.predict(TEXTS)
    for folder, save in ((tmp_path / "saved", again.save_pretrained), (own, classifier.save_policies)):
        for each in (again, classifier):
            each.policies = {}
            each.keep("mine", make("patience", patience=2))
        save(folder)
        assert not (folder / TENSORS).exists()
        assert Classifier.from_pretrained(folder).policy == make("patience", patience=2)


class StoppedError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize("change", ["other weights", "other name", "none left"])
def test_a_save_stopped_between_its_files_leaves_a_folder_that_loads_and_no_mixture(
    own: Path, last: int, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Classifier.from_pretrained(own)
    classifier = Classifier.from_pretrained(own)
    new = before.policies["quick"]
    weights = {name: values + 1 for name, values in new.tensors().items()}
    new = dataclasses.replace(new, threshold=0.123).with_tensors(weights)  # type: ignore[call-arg]
    classifier.policies = {} if change == "none left" else {"quick" if change == "other weights" else "late": new}
    classifier.keep("mine", make("patience", patience=2))
    written = []

    def replace(self: Path, target: Path) -> Path:
        if len(written) == last:
            raise StoppedError
        written.append(target)
        return rename(self, target)

    rename = Path.replace
    monkeypatch.setattr(Path, "replace", replace)
    with suppress(StoppedError):  # where no weights are left, there is a file fewer to stop at
        classifier.save_policies(own)
    assert len(written) == last
    monkeypatch.undo()
    after = Classifier.from_pretrained(own)  # it loads
    for name, policy in after.policies.items():
        wanted = [each.policies[name] for each in (before, classifier) if name in each.policies]
        assert any(_alike(policy, each) for each in wanted), name
    assert after.policy in (make("full"), *classifier.policies.values(), *before.policies.values())
    assert after.predict(TEXTS)


def _alike(one: Any, other: Any) -> bool:
    theirs = other.tensors()
    return one == other and all(np.array_equal(values, theirs[name]) for name, values in one.tensors().items())


def test_a_sweep_draws_what_the_model_has_weights_for(
    own: Path, model_folder: Path, reviews: Path, run: Run, refused: Refused, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    quick = ("--bootstrap", 100, "--timed", 1, "--json")
    _, out, err = run("sweep", own, reviews, "--out", tmp_path / "one", "--policies", "certainty", *quick)
    assert list(json.loads(out)["areas"]) == ["certainty", "fixed"], err
    _, out, _ = run("sweep", own, reviews, "--out", tmp_path / "two", *quick[:3], 0, "--json")
    assert "certainty" in json.loads(out)["areas"]
    _, out, _ = run("sweep", model_folder, reviews, "--out", tmp_path / "three", *quick[:3], 0, "--json")
    assert "certainty" not in json.loads(out)["areas"]
    words = ("sweep", model_folder, reviews, "--out", tmp_path / "four", "--policies", "certainty")
    assert "policy 'certainty' is learned and not fitted: run elbert calibrate with --policy" in refused(*words)


@pytest.mark.parametrize("verb", ["predict", "evaluate", "explain"])
def test_a_model_without_weights_says_how_to_get_some(
    verb: str, model_folder: Path, reviews: Path, refused: Refused
) -> None:
    source: Any = reviews if verb == "evaluate" else "a text"
    line = refused(verb, model_folder, source, "--policy", "certainty", *(["--json"] if verb == "explain" else []))
    assert "exit policy 'certainty' is learned, and model" in line
    assert "run elbert calibrate with --policy certainty" in line


def test_damaged_and_missing_weights_are_one_line(own: Path, refused: Refused) -> None:
    path = own / TENSORS
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    line = refused("predict", own, "a text", status=1)
    assert f"{path} cannot be read" in line
    assert "calibrate again" in line
    path.unlink()
    line = refused("predict", own, "a text", status=1)
    assert "policy 'quick' (certainty) has no weights in policies.safetensors: restore it, or calibrate again" in line


def test_weights_of_another_width_end_in_one_line_at_load(own: Path) -> None:
    classifier = Classifier.from_pretrained(own)
    narrow = make("certainty").with_tensors({"weight": np.zeros(3), "bias": np.zeros(())})
    classifier.policies["quick"] = narrow
    with pytest.raises(
        UsageError,
        match=r"weights of exit policy 'certainty' \(weight \(3,\), bias \(\)\) are not for a model of 2 classes",
    ):
        classifier.keep("narrow", narrow)
    classifier.save_policies(own)
    with pytest.raises(
        ModelError,
        match=r"weights of exit policy 'certainty' \(weight \(3,\), bias \(\)\) are not for a model of 2 classes",
    ):
        Classifier.from_pretrained(own)


def test_agreement_fits_to_what_full_depth_says(model_folder: Path, run: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "own")
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    words = ("--policy", "certainty", "--agreement", "--max-drop", 0.4, "--json")
    entry = json.loads(run("calibrate", folder, path, *words)[1])["calibration"]["drop-40"]
    assert (entry["control"], entry["fitted_on"], entry["guaranteed"]) == ("agreement", 90, True)


def test_an_export_refuses_learned_weights_as_its_default_and_keeps_them_as_another(
    own: Path, refused: Refused, run: Run, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert "has learned weights, which run.py cannot" in refused("export", own, "--out", tmp_path / "no")
    assert run("export", own, "--out", tmp_path / "graphs", "--policy", "elbert")[0] == 0
    back, classifier = (Classifier.from_pretrained(folder) for folder in (tmp_path / "graphs", own))
    policy: ExitPolicy = back.policies["quick"]
    assert back.predict(TEXTS[:20], policy=policy) == classifier.predict(TEXTS[:20])
