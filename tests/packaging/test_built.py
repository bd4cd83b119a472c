"""The wheel and the sdist that `make package` built and installed; skipped wherever it is not that which runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LIMIT = 60_000_000  # bytes of the wheel, bundled checkpoints included
EXTRAS = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

# Packages that some extra brings and the core does without.
BEYOND_CORE = (
    "accelerate",
    "sklearn",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "onnxruntime",
    "openvino",
    "fastapi",
)


def _given(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: make package builds, installs and checks what this is about")
    return TOP / value


def _one(pattern: str) -> Path:
    (found,) = _given("ELBERT_DIST").glob(pattern)
    return found


@pytest.fixture
def wheel() -> Path:
    return _one("elbert-*.whl")


@pytest.fixture
def sdist() -> Path:
    return _one("elbert-*.tar.gz")


@pytest.fixture
def alone(tmp_path: Path) -> list[str]:
    """Python where the wheel was installed with its core dependencies and nothing else, run in an empty folder."""
    return [str(_given("ELBERT_ALONE")), "-I"]


def _tracked(*under: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *under], cwd=TOP, check=True, capture_output=True, text=True)
    return set(filter(None, listed.stdout.split("\0")))


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_small_and_holds_the_package_whole(wheel: Path) -> None:
    assert wheel.stat().st_size <= LIMIT
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {name.removeprefix("src/") for name in _tracked("src/elbert")}


def test_the_sdist_holds_what_git_holds_and_nothing_that_lay_about(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - {"PKG-INFO"} == _tracked()


def test_a_wheel_built_from_the_sdist_is_the_same_to_the_byte(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")], source)
    (again,) = (tmp_path / "again").iterdir()
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_with_core_dependencies_alone_it_imports_helps_and_predicts(alone: list[str], tmp_path: Path) -> None:
    there = f"import importlib.util; print([each for each in {BEYOND_CORE} if importlib.util.find_spec(each)])"
    assert _run([*alone, "-c", there], tmp_path).strip() == "[]"
    assert "site-packages" in _run([*alone, "-c", "import elbert; print(elbert.Classifier, elbert.__file__)"], tmp_path)
    assert "predict" in _run([*alone, "-m", "elbert", "--help"], tmp_path)
    said = json.loads(_run([*alone, "-m", "elbert", "predict", "mini-sentiment", "good"], tmp_path))
    assert said["label"] == "positive"
    assert 1 <= said["exit_layer"] <= said["layers"] == 12


@pytest.mark.parametrize("verb", ["train", "evaluate", "serve", "demo"])
def test_what_needs_an_extra_says_which_one(alone: list[str], verb: str, tmp_path: Path) -> None:
    rows = "".join(f"good film {number},positive\nbad film {number},negative\n" for number in range(20))
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    given = {
        "train": ["rows.csv", "--out", "made"],
        "evaluate": ["mini-sentiment", "rows.csv"],
        "serve": [],
        "demo": ["--out", "made"],
    }[verb]
    done = subprocess.run([*alone, "-m", "elbert", verb, *given], cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or "pip install 'elbert[" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_can_be_installed_beside_the_pinned_versions(alone: list[str], wheel: Path, extra: str) -> None:
    python = alone[0]
    constraints = str(TOP / "constraints.txt")
    ask = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run", "--constraint", constraints]
    _run([python, *ask, f"{wheel}[{extra}]"], TOP)
