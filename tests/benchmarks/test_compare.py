"""A comparison of systems: what was trained and recorded is kept, and the page holds what was judged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import compare
from compare_report import at_clock_speedups
from compare_tables import gain
from elbert.training import schemes
from tests.benchmarks.comparing import call, write_study

POLICIES = ("elbert", "patience", "beem", "certainty")
STUDY = """
start = "random-tiny"
seeds = [0, 1]

[settings]
heads = "full"
epochs = 1
batch_size = 8
learning_rate = 1e-2
dtype = "float32"
words = false

[schemes."equal + leap"]
scheme = "equal"
leap = 0.1

[[corpora]]
name = "sst2"
metric = "matthews"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """A study that has been run once."""
    folder = tmp_path_factory.mktemp("compare")
    write_study(folder, STUDY, tiny_texts, train=80, test=40)
    call(folder, POLICIES)
    return folder


def test_one_study_trains_every_scheme_beside_every_other() -> None:
    study = compare.Study.read(Path(compare.__file__).with_name("studies") / "schemes.toml")
    trained = {run.settings.scheme for run in study.runs()}
    assert trained == set(schemes.names()) - {"last", "layer_drop"}  # whose exits learn nothing
    for scheme in trained:
        schemes.make(scheme, 6, **study.schemes.get(scheme, {}).get("scheme_options", {}))
    assert len({run.name for run in study.runs()}) == 2 * 2 * len(study.schemes)


def test_policies_are_ranked_for_every_kind_of_training(folder: Path) -> None:
    found = json.loads((folder / "out" / "results.json").read_text())
    rows = [(row["corpus"], row["training"], row["models"]) for row in found["rows"]]
    assert rows == [("sst2", "equal + leap", 2)]
    for row in found["rows"]:
        assert set(row["policies"]) == {*POLICIES, "fixed"}
        assert row["n"] == 40
        assert row["metric"] == "matthews"
        assert sum(each["rank"] for each in row["policies"].values()) == 1 + 2 + 3 + 4 + 5
        assert set(row["parts"]) >= {"stage 1 alone", "both stages, range", "both stages, N = 3"}
        assert set(row["parts"]) >= {"BEEM, the paper's sum", "BEEM, the code's sum"}
        assert set(row["auroc"]) == {"patience", "beem", "certainty"}  # what of these has a signal
        assert all(len(values) == row["layers"] for values in row["auroc"].values())


def test_the_page_tells_it_and_figures_stand_beside(folder: Path) -> None:
    page = (folder / "out" / "report.md").read_text()
    for words in ("## sst2: matthews, 40 texts", "### sst2, `equal + leap`", "AUROC", "RomeBERT", "mean rank"):
        assert words in page
    figures = {path.name for path in (folder / "out" / "figures").iterdir()}
    assert {"sst2-equal-leap-curves.svg", "sst2-equal-leap-gains.svg", "sst2-equal-leap-auroc.svg"} <= figures


def test_what_is_there_is_not_made_again_and_what_is_missing_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "out" / "results.json").read_text()
    trained: list[str] = []
    real = compare.Run.train
    monkeypatch.setattr(compare.Run, "train", lambda run, *args: (trained.append(run.name), real(run, *args))[1])
    (folder / "out" / "sst2-equal-leap-1" / "records").rename(folder / "out" / "elsewhere")
    assert call(folder, POLICIES, "--report")["rows"][0]["models"] == 1  # on what is there
    assert not trained
    again = call(folder, POLICIES)
    assert trained == ["sst2-equal-leap-1"]  # whose model was there: it was not trained, only recorded
    assert json.dumps(again) + "\n" == before


def test_settings_can_be_run_for_real(folder: Path) -> None:
    found = call(folder, POLICIES, "--report", "--timed", "1", "--policies", "certainty", "--seeds", "1")
    assert found["rows"][0]["models"] == 1  # of the two that are there
    page = (folder / "out" / "report.md").read_text()
    assert "| run for real | on the clock |" in page
    assert "| `fixed` |" in page.split("run for real")[1].split("\n\n")[0]
    assert "| score by the clock | 1× | 1.5× | 2× | 3× | 5× | 10× |" in page
    clock = found["rows"][0]["at_clock_speedups"]
    assert clock["fixed"][0] is not None  # whether `certainty` has a setting that is worth a run depends on the model
    assert set(clock) <= {"certainty", "fixed"}
    assert (folder / "out" / "figures" / "sst2-equal-leap-clock.svg").exists()


def test_scores_by_the_clock_lie_on_lines_over_time() -> None:
    def curve(policy: str, *points: tuple[float | None, float]) -> SimpleNamespace:
        return SimpleNamespace(
            policy=policy, points=[SimpleNamespace(speedup=speed, score=score) for speed, score in points]
        )

    # In shares of full depth's time: a constant depth at 0.25 and 0.5, the policy at 0.5 and, no better, 0.8.
    curves = (curve("fixed", (4.0, 0.6), (2.0, 0.7)), curve("entropy", (2.0, 0.9), (1.25, 0.8), (None, 1.0)))
    sweep: Any = SimpleNamespace(curves=curves, full_depth=SimpleNamespace(score=0.8))
    found = at_clock_speedups(sweep)
    assert found["fixed"] == pytest.approx([0.8, 0.7 + 0.1 / 3, 0.7, 0.6 + 0.1 / 3, None, None])
    assert found["entropy"] == pytest.approx([0.9, 0.9, 0.9, 0.7, None, None])
    sweep.curves = (curve("entropy", (None, 0.9)),)
    assert at_clock_speedups(sweep) == {}


def test_without_a_run_one_line_says_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no run of .* leave --report out"):
        call(folder, POLICIES, "--report", "--out", str(tmp_path))


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (["--only", "trec"], "compare.py: the study has no corpus 'trec'.*llowed: sst2"),
        (["--seeds", "7"], "compare.py: the study has no seed 7; allowed: 0"),
        (["--schemes", "eqaul"], "compare.py: the study has no scheme 'eqaul'"),
        (["--rivals", "frist"], "compare.py: the study has no rival 'frist'"),
    ],
)
def test_a_part_that_the_study_has_not_is_refused(folder: Path, asked: list[str], line: str) -> None:
    with pytest.raises(SystemExit, match=line):
        call(folder, POLICIES, *asked)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (["--bootstrap", "20"], "compare.py: bootstrap is 20; a band needs at least 100 resamples"),
        (["--policies", "fixed", "entrpoy"], "compare.py: .*entrpoy.*entropy"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is_trained(
    tmp_path: Path, asked: list[str], line: str
) -> None:
    with pytest.raises(SystemExit, match=line):
        call(tmp_path / "fresh", POLICIES, *asked)
    assert not (tmp_path / "fresh").exists()


def test_a_gain_is_bold_where_its_band_lies_on_one_side() -> None:
    assert gain(0.02, (0.01, 0.03)) == "**+0.020 (+0.010 … +0.030)**"
    assert gain(0.02, (-0.01, 0.03)) == "+0.020 (-0.010 … +0.030)"
