from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from elbert import Classifier
from elbert.data import load_data
from elbert.exits.tokens import TokenSchedule, token_layers
from elbert.exits.words import GRID

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--bootstrap", 100, "--timed", 0)


def test_a_sweep_leaves_table_numbers_and_pictures(run: Run, model_folder: Path, reviews: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    status, printed, err = run("sweep", model_folder, reviews, "--out", out, *QUICK)
    assert status == 0
    recording, scoring = err.splitlines()  # no \r, no bar: this is no terminal
    assert recording == f"recording: 8 texts through all layers of {model_folder}"
    assert scoring.startswith("scoring: ")
    assert scoring.endswith(" settings, 100 resamples of the texts")
    assert "gain over fixed" in printed
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["sweep.csv", "sweep.json"]
        + [f"{name}.{kind}" for name in ("score_by_layers", "gains", "chosen_exits") for kind in ("png", "pdf")]
    )
    with (out / "sweep.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    numbers = json.loads((out / "sweep.json").read_text())
    assert len(rows) == sum(len(curve["points"]) for curve in numbers["curves"]) + 1
    assert (rows[-1]["policy"], rows[-1]["mean_exit_layer"]) == ("full", "4.0")
    assert {row["policy"] for row in rows} >= {"elbert", "entropy", "patience", "fixed"}
    assert json.loads(rows[0]["parameters"])["window"] == 3
    assert {row["on_front"] for row in rows} == {"true", "false"}
    assert (numbers["n"], numbers["layers"], numbers["sources"]["models"]) == (8, 4, [str(model_folder)])


def test_programs_get_one_json_line(run: Run, model_folder: Path, reviews: Path, tmp_path: Path) -> None:
    words = ("--policies", "patience,entropy", "--json", "--also", model_folder, *QUICK)
    status, printed, _ = run("sweep", model_folder, reviews, "--out", tmp_path / "sweep", *words)
    assert status == 0
    assert printed.count("\n") == 1
    line = json.loads(printed)
    assert list(line["areas"]) == list(line["fastest"]) == ["patience", "entropy", "fixed"]
    assert (line["n"], line["metric"], line["models"], line["timing"]) == (8, "accuracy", 2, None)
    low, high = line["areas"]["patience"]["area_band"]
    assert low <= line["areas"]["patience"]["area"] <= high
    assert len(line["areas"]["patience"]["area_by_model"]) == 2


@pytest.fixture
def worded(model_folder: Path, tmp_path: Path) -> Path:
    """The same model with a layer 0 that knows good from bad."""
    classifier = Classifier.from_pretrained(model_folder)
    texts = [f"a {'good' if row % 2 else 'bad'} film {row}" for row in range(60)]
    classifier.fit_words(texts, ["pos" if row % 2 else "neg" for row in range(60)])
    classifier.save_pretrained(tmp_path / "worded")
    return tmp_path / "worded"


def test_a_model_with_a_layer_0_is_swept_with_it(run: Run, worded: Path, model_folder: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "films.csv", tmp_path / "sweep"
    rows = [f"a {'good' if row % 2 else 'bad'} film of {row},{'pos' if row % 2 else 'neg'}" for row in range(20)]
    data.write_text("\n".join(["text,label", *rows]))
    words = ("sweep", worded, data, "--out", out, "--policies", "entropy")
    status, printed, _ = run(*words, *QUICK)
    assert status == 0
    assert "it costs every text as much as" in printed
    numbers = json.loads((out / "sweep.json").read_text())
    curves = {curve["policy"]: curve for curve in numbers["curves"]}
    assert list(curves) == ["entropy", "fixed", "entropy+words", "fixed+words"]
    tried = {point["policy"]["words"] for point in curves["entropy+words"]["points"]}
    assert tried == set(GRID)
    best = max(curves["fixed+words"]["points"], key=lambda point: (point["score"], -point["mean_exit_layer"]))
    assert (best["score"], best["layer_0"], best["exit_histogram"]) == (1.0, 20, [0, 0, 0, 0])
    assert best["mean_exit_layer"] == pytest.approx(numbers["layer_0_cost"])
    assert best["layer_speedup"] == pytest.approx(4 / numbers["layer_0_cost"])
    with (out / "sweep.csv").open(newline="") as stream:
        assert {row["layer_0"] for row in csv.DictReader(stream) if row["policy"] == "full"} == {""}
    line = json.loads(run(*words, "--overwrite", "--json", "--tokens", "2=0.5", *QUICK)[1])
    assert list(line["fastest"])[-4:] == [
        "entropy+tokens",
        "fixed+tokens",
        "entropy+words+tokens",
        "fixed+words+tokens",
    ]
    assert line["fastest"]["entropy+words"]["policy"]["words"] in GRID
    for models in ((worded, model_folder), (model_folder, worded)):
        both = (models[0], data, "--also", models[1], "--out", tmp_path / "both", "--policies", "entropy")
        status, _, err = run("sweep", *both, *QUICK)
        assert status == 2
        assert "has a layer 0; a sweep takes models with, or models without" in err.splitlines()[-1]


def test_schedules_of_tokens_are_curves_of_their_own_beside_those_with_all_tokens(
    run: Run, refused: Callable[..., str], model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    words = ("sweep", model_folder, reviews, "--out", out, "--policies", "entropy")
    status, printed, err = run(*words, "--tokens", "auto", *QUICK)
    assert status == 0
    runs = "4 runs over the texts: with all tokens, and with 1=0.707 2=0.5, with 1=0.5 2=0.25, with 1=0.354 2=0.125"
    assert err.splitlines()[0] == runs
    assert "entropy+tokens" in printed
    numbers = json.loads((out / "sweep.json").read_text())
    curves = {curve["policy"]: curve for curve in numbers["curves"]}
    assert list(curves) == ["entropy", "fixed", "entropy+tokens", "fixed+tokens"]
    assert len(curves["entropy+tokens"]["points"]) == 3 * len(curves["entropy"]["points"])
    classifier = Classifier.from_pretrained(model_folder)
    dataset = load_data(reviews, labels=classifier.labels)
    for point in curves["fixed+tokens"]["points"][3::4]:  # every text at the last layer
        schedule = TokenSchedule.from_dict(point["policy"]["tokens"])
        outputs = classifier.record(dataset.texts, tokens=schedule)
        right = outputs.probs[:, -1].argmax(-1).numpy() == np.array(dataset.labels)
        assert point["score"] == right.mean()
        lengths = outputs.lengths.numpy()
        spent = token_layers(schedule, lengths, np.full(len(lengths), 4)) / lengths
        assert point["mean_exit_layer"] == pytest.approx(spent.mean(), rel=1e-6)
        assert point["exit_histogram"] == [0, 0, 0, len(lengths)]
    own = json.loads(run(*words, "--overwrite", "--json", "--tokens", "2=0.5", "--timed", 1, "--bootstrap", 100)[1])
    assert own["fastest"]["fixed+tokens"]["policy"]["tokens"] == {"2": 0.5, "score": "attention"}
    assert "or auto alone" in refused(*words, "--overwrite", "--tokens", "auto", "--tokens", "2=0.5")
    assert "layer 4 is named" in refused(*words, "--overwrite", "--tokens", "4=0.5")


def test_timed_settings_have_a_speedup_and_a_picture(
    run: Run, model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    words = ("--policies", "patience", "--bootstrap", 100, "--timed", 1, "--json")
    status, printed, _ = run("sweep", model_folder, reviews, "--out", out, *words)
    assert status == 0
    assert json.loads(printed)["timing"]["n"] == 8
    assert (out / "score_by_speedup.pdf").is_file()
    with (out / "sweep.csv").open(newline="") as stream:
        assert sum(bool(row["speedup"]) for row in csv.DictReader(stream)) >= 2


def test_an_earlier_sweep_is_replaced_only_when_asked_and_nothing_else_ever(
    run: Run, refused: Callable[..., str], model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    words = ("sweep", model_folder, reviews, "--out", out, "--policies", "patience", *QUICK)
    assert run(*words)[0] == 0
    assert "--overwrite" in refused(*words)
    assert run(*words, "--overwrite")[0] == 0
    (out / "sweep.json").unlink()
    assert "is no sweep, so --overwrite leaves it" in refused(*words, "--overwrite")
    shutil.rmtree(out)
    out.write_text("")
    assert "is a file" in refused(*words)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--policies", "patient"], "did you mean 'patience'?"),
        (["--policies", "patience,patience"], "named twice"),
        (["--bootstrap", "5"], "--bootstrap"),
        (["--seed", "-1"], "seed is -1; allowed: 0 to 4294967295"),
        (["--metric", "pearson"], "does not fit"),
        (["--also", "missing"], "missing"),
    ],
)
def test_a_wrong_request_is_refused_with_one_line_and_nothing_is_written(
    words: list[str], reason: str, refused: Callable[..., str], model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    assert reason in refused("sweep", model_folder, reviews, "--out", out, "--timed", 0, *words)
    assert list(tmp_path.glob("*sweep*")) == []
