from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
KEYS = {"system", "backend", "dtype", "batch", "texts_per_second", "p50_ms", "p99_ms", "score", "peak_memory_mb"}


def test_programs_get_one_json_line_and_people_a_table_and_a_picture(
    run: Run, model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "race.png"
    words = ("--batch-size", 4, "--rounds", 1, "--latency-texts", 2, "--dtype", "float32", "--limit", 6)
    status, out, err = run(
        "bench", model_folder, reviews, "--against", "transformers", *words, "--plot", picture, "--json"
    )
    assert status == 0
    assert out.count("\n") == 1
    assert "× ref" in err
    line = json.loads(out)
    assert all(set(row) >= KEYS for row in line["rows"])
    assert {(row["system"], row["batch"]) for row in line["rows"]} == {
        (name, batch) for name in ("elbert", "elbert-full", "elbert-fixed", "transformers") for batch in (1, 4)
    }
    assert all(row["reason"] is None for row in line["rows"])
    full = next(row for row in line["rows"] if (row["system"], row["batch"]) == ("elbert-full", 4))
    assert full["same_labels"] == 1.0
    assert (line["n"], line["metric"], line["rounds"], line["layers"]) == (6, "accuracy", 1, 4)
    assert set(line["lengths"]) == {"mean", "p50", "p95", "max"}
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--against", "opnvino"], "did you mean 'openvino'?"),
        (["--batch-size", "8,many"], "--batch-size"),
        (["--batch-size", "0"], "--batch-size"),
        (["--dtype", "float23"], "did you mean 'float32'?"),
        (["--device", "cuda:99"], "CUDA devices; use cpu, or auto"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--dtype", "float16"], "does not compute in float16 on cpu"),
        (["--backend", "touch"], "did you mean 'torch'?"),
        (["--plot", "race.pdf"], ".png"),
        (["--rounds", "0"], "--rounds"),
        (["--metric", "pearson"], "does not fit"),
    ],
)
def test_a_wrong_request_is_refused_with_one_line(
    words: list[str], reason: str, refused: Callable[..., str], model_folder: Path, reviews: Path
) -> None:
    assert reason in refused("bench", model_folder, reviews, *words)
