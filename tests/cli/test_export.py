from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=["onnx", "openvino"])
def format(request: pytest.FixtureRequest) -> str:
    """The name of every format whose library is installed."""
    pytest.importorskip("onnx")
    pytest.importorskip({"onnx": "onnxruntime"}.get(request.param, request.param))
    return str(request.param)


def test_a_model_is_exported_and_predict_and_evaluate_read_it_back(
    format: str, run: Run, refused: Callable[..., str], model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    out = tmp_path / "exported"
    status, said, err = run(
        "export", model_folder, "--format", format, "--out", out, "--policy", "fixed", "--set", "layer=2"
    )
    assert (status, err) == (0, "")
    assert "run.py" in said

    ours, theirs = (run("predict", model, "--input", reviews, "--policy", "full")[1] for model in (model_folder, out))
    for one, other in zip(ours.splitlines(), theirs.splitlines(), strict=True):
        assert json.loads(one)["label"] == json.loads(other)["label"]

    line = json.loads(run("evaluate", out, reviews, "--json", "--repeats", 1)[1])
    assert line["backend"] == {"onnx": "onnxruntime"}.get(format, format)
    assert line["exit_histogram"] == [0, 8, 0, 0]
    assert "cannot be raced" in refused("bench", out, reviews)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_predict_and_evaluate_take_a_backend(backend: str, run: Run, model_folder: Path, reviews: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip(backend)
    line = json.loads(run("evaluate", model_folder, reviews, "--backend", backend, "--json", "--repeats", 1)[1])
    assert (line["backend"], line["dtype"], line["n"]) == (backend, "float32", 8)
    assert run("predict", model_folder, "a good film", "--backend", backend)[0] == 0


def test_a_wrong_request_is_refused_with_one_line(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert "did you mean 'onnx'?" in refused("export", model_folder, "--format", "onxx", "--out", out)
    assert "did you mean 'beem'?" in refused("export", model_folder, "--policy", "beeem", "--out", out)
    assert "no dtype 'bfloat16'" in refused("export", model_folder, "--dtype", "bfloat16", "--out", out)
    assert "--out" in refused("export", model_folder)
    assert "did you mean 'openvino'?" in refused("predict", model_folder, "x", "--backend", "openvin")
    assert not out.exists()
    itself = refused("export", model_folder, "--out", model_folder, "--overwrite")
    assert "is the model itself" in itself
    assert (model_folder / "model.safetensors").is_file()


@pytest.fixture
def calibrated(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model whose default policy was calibrated on torch, in float32."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "calibrated"))
    content = json.loads((folder / "elbert.json").read_text())
    content |= {"policies": {"mine": {"name": "elbert", "threshold": 0.3}}, "default_policy": "mine"}
    content["calibration"] = {"mine": {"backend": "torch", "dtype": "float32"}}
    (folder / "elbert.json").write_text(json.dumps(content))
    return folder


def test_a_refusal_comes_without_a_warning_about_the_policy(
    run: Run, refused: Callable[..., str], calibrated: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    assert "does not compute in int8" in refused(
        "predict", calibrated, "x", "--backend", "onnxruntime", "--dtype", "int8"
    )
    assert "threshold is 7" in refused("predict", calibrated, "x", "--backend", "onnxruntime", "--threshold", "7")
    out = tmp_path / "exported"
    status, _, err = run("export", calibrated, "--out", out)
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith("elbert: warning: policy 'mine' was calibrated in torch, not onnxruntime")
    assert "exported model already" in refused("export", out, "--out", tmp_path / "again")
    assert "cannot be traced" in refused("explain", out, "x", "--out", tmp_path / "page.html")
    assert run("predict", out, "x")[2].count("\n") == 1, "who uses it is warned"


def test_an_export_without_elbert_json_is_told_what_is_missing(
    run: Run, refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "exported"
    assert run("export", model_folder, "--out", out)[0] == 0
    (out / "elbert.json").unlink()
    assert "elbert.json is missing: export the model again" in refused("predict", out, "x", status=1)


def test_the_line_to_try_can_be_pasted_where_the_path_has_a_blank(run: Run, model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "my models" / "exported"
    said = run("export", model_folder, "--out", out)[1]
    assert shlex.split(said.split("; try ")[1]) == ["python", str(out / "run.py"), "a text"]
