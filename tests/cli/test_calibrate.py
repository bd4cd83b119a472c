from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elbert import Classifier
from elbert.exits import make

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]


@pytest.fixture
def own(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that may be written into."""
    return Path(shutil.copytree(model_folder, tmp_path / "own"))


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Three hundred labelled texts."""
    path = tmp_path / "held-out.csv"
    rows = [f"a {'good' if row % 2 else 'bad'} film {row},{'pos' if row % 2 else 'neg'}" for row in range(300)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def test_the_ladder_is_written_into_the_model_and_predict_finds_it_by_name(run: Run, own: Path, held_out: Path) -> None:
    status, out, err = run("calibrate", own, held_out)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["exact", "drop-0.5", "drop-1", "drop-2"]
    assert "too few" in lines[2]  # 300 texts can't show half a point
    content = json.loads((own / "elbert.json").read_text())
    assert list(content["calibration"]) == ["exact", "drop-0.5", "drop-1", "drop-2"]
    assert content["calibration"]["drop-1"]["source"].endswith("/held-out.csv")
    assert not list(own.glob(".elbert*"))
    status, out, err = run("predict", own, "a good film", "--policy", "drop-2")
    assert status == 0
    assert err == ""


def test_one_level_of_the_ladder_answers_from_then_on_and_the_last_line_says_which(
    run: Run, own: Path, held_out: Path
) -> None:
    _, out, _ = run("calibrate", own, held_out)
    assert out.splitlines()[-1].startswith("default: drop-1 answers where no policy is named")
    assert Classifier.from_pretrained(own).metadata.default_policy == "drop-1"
    _, out, _ = run("calibrate", own, held_out, "--default", "full")
    assert out.splitlines()[-1].startswith("default: full")
    assert Classifier.from_pretrained(own).policy == make("full")


def test_one_promise_gets_its_name_and_becomes_the_default(run: Run, own: Path, held_out: Path) -> None:
    words = ("--max-drop", 0.3, "--confidence", 0.8, "--name", "quick")
    status, out, err = run("calibrate", own, held_out, *words, "--json")
    assert status == 0
    assert out.count("\n") == 1
    assert "quick" in err
    entry = json.loads(out)["calibration"]["quick"]
    assert entry["guaranteed"]
    assert entry["confidence"] == 0.8
    classifier = Classifier.from_pretrained(own)
    assert classifier.policy.to_dict() == entry["policy"]
    assert classifier.metadata.default_policy == "quick"


def test_a_copy_is_whole_and_the_model_stays_as_it_was(run: Run, own: Path, held_out: Path, tmp_path: Path) -> None:
    before = (own / "elbert.json").read_text()
    copy = tmp_path / "copy"
    assert run("calibrate", own, held_out, "--max-drop", 0.3, "--out", copy)[0] == 0
    assert (own / "elbert.json").read_text() == before
    assert {path.name for path in own.iterdir()} == {path.name for path in copy.iterdir()}
    assert "drop-30" in Classifier.from_pretrained(copy).policies
    assert run("calibrate", own, held_out, "--max-drop", 0.2, "--out", copy, "--overwrite")[0] == 0
    assert list(Classifier.from_pretrained(copy).calibration) == ["drop-20"]


def test_agreement_needs_no_labels_and_leaves_wrong_ones_unread(run: Run, own: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "".join(f"a film {row},unknown\n" for row in range(60)))
    status, out, _ = run("calibrate", own, path, "--agreement", "--max-drop", 0.4, "--json")
    assert status == 0
    entry = json.loads(out)["calibration"]["drop-40"]
    assert entry["control"] == entry["metric"] == "agreement"
    assert entry["guaranteed"]
    assert "another answer than full depth" in entry["note"]
    assert 0.6 < entry["score"] <= entry["full_depth_score"] == 1.0


def test_a_policy_used_in_another_precision_is_warned_of_in_one_line(run: Run, own: Path, held_out: Path) -> None:
    run("calibrate", own, held_out, "--max-drop", 0.3)
    status, _, err = run("predict", own, "a film", "another", "--policy", "drop-30", "--dtype", "bfloat16")
    assert status == 0
    assert err.count("\n") == 1
    assert err.startswith("elbert: warning: policy 'drop-30' was calibrated in float32, not bfloat16")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--max-drop", "1.5"], "max_drop is 1.5"),
        (["--confidence", "90"], "confidence is 90"),
        (["--policy", "elbrt"], "did you mean 'elbert'?"),
        (["--metric", "pearson"], "does not fit"),
        (["--name", "mine"], "names of their own"),
        (["--name", "full", "--max-drop", "0.1"], "taken by the exit policy itself"),
        (["--default", "drop-3"], "is no policy of this model"),
        (["--label-column", "lable"], "did you mean 'label'?"),
    ],
)
def test_a_wrong_request_is_refused_with_one_line_and_nothing_is_written(
    words: list[str], reason: str, refused: Refused, own: Path, held_out: Path
) -> None:
    before = (own / "elbert.json").read_text()
    assert reason in refused("calibrate", own, held_out, *words)
    assert (own / "elbert.json").read_text() == before


def test_a_model_that_is_nobodys_folder_needs_a_copy(
    refused: Refused, held_out: Path, own: Path, tmp_path: Path
) -> None:
    assert "'mini' is a hub id or a bundled checkpoint" in (said := refused("calibrate", "mini", held_out))
    assert "--out" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("important")
    assert "exists" in refused("calibrate", own, held_out, "--out", tmp_path / "full")
    assert "no model folder" in refused("calibrate", own, held_out, "--out", tmp_path / "full", "--overwrite")
    assert "the model itself" in refused("calibrate", own, held_out, "--out", own, "--overwrite")


@pytest.mark.parametrize("entry", [5, {}, {"note": "mine", "score": "high"}])
def test_evidence_of_another_shape_does_not_stop_a_calibration_half_way(
    run: Run, own: Path, held_out: Path, entry: object
) -> None:
    content = json.loads((own / "elbert.json").read_text())
    older = {"policies": {"older": {"name": "full"}}, "calibration": {"older": entry}}
    (own / "elbert.json").write_text(json.dumps({**content, **older}))
    (own / "README.md").write_text("# Mine\n\n## Exits\n\nnothing yet\n")
    status, _, _ = run("calibrate", own, held_out, "--max-drop", "0.3")
    assert status == 0
    assert "`drop-30` | at confidence" in (own / "README.md").read_text()


def test_what_cannot_be_written_is_told_without_flags_of_other_verbs(
    refused: Refused, own: Path, held_out: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    for verb, more in (("calibrate", ("--max-drop", "0.3")), ("sweep", ("--timed", "0", "--bootstrap", "100"))):
        line = refused(verb, own, held_out, "--out", tmp_path / "file" / "in", *more)
        assert "cannot write the" in line
        assert line.rstrip().endswith("name a place where files can be made")


def test_a_card_in_another_encoding_is_left_as_it_is(run: Run, own: Path, held_out: Path) -> None:
    (own / "README.md").write_bytes("# Schön".encode("latin-1"))
    status, _, _ = run("calibrate", own, held_out, "--max-drop", "0.3")
    assert status == 0
    assert (own / "README.md").read_bytes() == "# Schön".encode("latin-1")


def test_a_handful_of_texts_is_refused(refused: Refused, own: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text("text,label\ngood,pos\nbad,neg\n")
    assert "too few texts to calibrate on: 2;" in refused("calibrate", own, path, status=1)


def test_check_tells_texts_alike_from_others(
    run: Run, refused: Refused, own: Path, held_out: Path, tmp_path: Path
) -> None:
    assert "calibrate it first" in refused("check", own, held_out)
    run("calibrate", own, held_out, "--max-drop", 0.3)
    status, out, err = run("check", own, held_out)  # the only calibrated policy needs no name
    assert (status, err) == (0, "")
    assert "no difference shown" in out
    other = tmp_path / "other.txt"
    other.write_text("very very very\n" * 200)
    status, out, _ = run("check", own, other, "--policy", "drop-30", "--json")
    line: dict[str, Any] = json.loads(out)
    assert status == 0  # a difference is an answer, not a failure
    assert line["p_value"] < 0.01
    assert {"policy", "n", "calibration_n", "exits_p_value", "confidence_p_value", "exit_histogram"} <= set(line)
    status, out, err = run("check", own, other, "--fail-below", 0.01)
    assert status == 1
    assert "calibrate again" in out
    assert err.count("\n") == 1
    assert "drop-30" in refused("check", own, other, "--policy", "elbert")


def test_the_model_card_says_what_is_promised(run: Run, own: Path, held_out: Path) -> None:
    (own / "README.md").write_text("# A model\n\n## Exits\n\nNone is calibrated yet.\n")
    run("calibrate", own, held_out, "--max-drop", 0.3)
    card = (own / "README.md").read_text()
    assert card.startswith("# A model\n\n## Exits\n")
    assert "`drop-30` | at confidence 0.9" in card
    assert "None is calibrated" not in card


def test_protected_classes_stand_in_the_evidence_by_name_and_an_unknown_one_is_refused(
    run: Run, refused: Refused, own: Path, held_out: Path
) -> None:
    assert run("calibrate", own, held_out, "--max-drop", 0.3, "--protect", "pos", "--abstain", "--conditional")[0] == 0
    evidence = json.loads((own / "elbert.json").read_text())["calibration"]["drop-30"]
    assert (evidence["protect"], evidence["conditional"], evidence["abstain_on"]) == (["pos"], True, 90)
    assert 0 < evidence["protected_texts"][0] < evidence["tested_on"] == 147
    assert "unknown class 'poss' to protect; did you mean 'pos'" in refused(
        "calibrate", own, held_out, "--protect", "poss"
    )
    run("calibrate", own, held_out, "--max-drop", 0.3, "--per-class")
    evidence = json.loads((own / "elbert.json").read_text())["calibration"]["drop-30"]
    assert (evidence["protect"], evidence["protected_texts"]) == (["neg", "pos"], [150, 150])


def test_layer_0_is_fitted_for_a_model_that_has_none_and_saved_with_it(
    run: Run, refused: Refused, own: Path, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    said = str(Classifier.from_pretrained(own).predict("a good film", policy="full").label)
    kinds = {"pos": "good", "neg": "bad"}
    other = next(label for label in kinds if label != said)

    def write(name: str, count: int, words: str) -> Path:
        """One text in four is of the class that the random layers don't say."""
        labels = [said if row % 4 else other for row in range(count)]
        rows = [f"a {kinds[label]} film {words} {row},{label}" for row, label in enumerate(labels)]
        (tmp_path / name).write_text("\n".join(["text,label", *rows]) + "\n")
        return tmp_path / name

    learnt, held_out = write("train.csv", 120, "of"), write("held-out.csv", 300, "in")
    words = ("--words", learnt)
    assert "the model was trained on" in refused("calibrate", own, learnt, *words)
    assert not (own / "words.safetensors").exists(), "what was refused wrote nothing"
    status, out, err = run("calibrate", own, held_out, *words, "--max-drop", 0.1)
    assert (status, err) == (0, "")
    assert "where layer 0 is asked, it costs every text as much as" in out
    classifier = Classifier.from_pretrained(own)
    evidence = classifier.calibration["drop-10"]
    assert evidence["layer_0"] == evidence["n"], "all of them leave before the first layer"
    assert evidence["mean_exit_layer"] == evidence["layer_0_cost"] > 0
    assert classifier.policies["drop-10"].words is not None, "the words tell good from bad, random layers don't"
    assert {each.exit_layer for each in classifier.predict(["a good film", "a bad film"])} == {0}
    line = refused("calibrate", own, held_out, *words)
    for part in ("has a layer 0 already", "allowed: ", "leave them (--words) away"):
        assert part in line
    assert "the model was trained on" in refused("calibrate", own, learnt)


def test_schedules_of_tokens_are_tried_where_asked_for_and_told(
    run: Run, refused: Refused, own: Path, held_out: Path
) -> None:
    words = ("calibrate", own, held_out, "--max-drop", 0.9, "--confidence", 0.5, "--policy", "fixed")
    status, printed, err = run(*words, "--tokens", "1=0.5", "--tokens", "3=2")
    assert (status, err) == (0, "2 runs over the texts: with all tokens, and with 1=0.5 3=2\n")
    assert "token-layers" in printed
    assert "1=0.5 3=2" not in printed  # every text leaves at layer 1, where nothing is dropped yet
    assert " all " in printed
    line = json.loads(run(*words, "--tokens", "auto", "--json")[1])
    found = line["calibration"]["drop-90"]
    assert found["schedules"] == ["1=0.707 2=0.5", "1=0.5 2=0.25", "1=0.354 2=0.125"]
    assert 0 < found["token_layers"] < 1
    plain = json.loads(run(*words, "--json")[1])["calibration"]["drop-90"]
    assert {"schedules", "token_layers"}.isdisjoint(plain)
    assert "layer 9 is named, and the model has 4" in refused(*words, "--tokens", "9=0.5")
