from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elbert.engine.requests import Arrival
from elbert.errors import ElbertError, UsageError
from elbert.evaluation.bench import PEERS, Job, Spec, batches, line_up
from elbert.evaluation.bench.batches import held, padded, read
from elbert.evaluation.bench.job import Answers
from elbert.evaluation.bench.rows import empty_row
from elbert.evaluation.bench.systems import OURS, SYSTEMS, check_device, pipeline
from elbert.modeling.files.plain_tokenizer import PlainTokenizer
from elbert.reports.race import notes_of
from elbert.tasks import multi_label

MakeJob = Callable[..., Job]
FULL = {"name": "full"}
NEEDS = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}


def answers(job: Job, system: str, dtype: str = "float32", batch: int = 5) -> Answers:
    """Run a system here, without its process."""
    for library in (*NEEDS.get(system, ()), *(["nncf"] if (system, dtype) == ("openvino", "int8") else [])):
        pytest.importorskip(library)
    spec = Spec(system, "torch", dtype, FULL if system in OURS else None)
    module: Any = importlib.import_module(SYSTEMS[system].module)
    if SYSTEMS[system].builds:
        module.build(job, spec)
    found: Answers = module.load(job, spec)(job.texts, batch)
    return found


def test_full_depth_in_float32_answers_differ_between_texts(make_job: MakeJob) -> None:
    assert len(set(map(str, answers(make_job(), "elbert-full").labels))) > 1


@pytest.mark.parametrize("system", ["transformers", "transformers-batches", "onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_every_system_gives_the_labels_of_ours_at_full_depth(make_job: MakeJob, system: str, kind: str) -> None:
    job = make_job(kind)
    ours = answers(job, "elbert-full")
    assert answers(job, system).labels == ours.labels
    assert ours.exit_layers == [4] * len(job.texts)


@pytest.mark.parametrize("system", ["transformers", "transformers-batches", "onnxruntime", "openvino"])
def test_every_system_gives_the_values_of_a_regression(make_job: MakeJob, system: str) -> None:
    job = make_job("regression")
    np.testing.assert_allclose(answers(job, system).labels, answers(job, "elbert-full").labels, atol=1e-4)


@pytest.mark.parametrize("system", ["transformers", "transformers-batches", "onnxruntime"])
def test_pairs_are_read_as_pairs(make_job: MakeJob, race_texts: list[str], system: str) -> None:
    job = make_job(texts=[*zip(race_texts, race_texts[::-1], strict=True)])
    assert answers(job, system).labels == answers(job, "elbert-full").labels


@pytest.mark.parametrize("system", ["onnxruntime", "openvino"])
def test_int8_is_really_quantised_and_close(make_job: MakeJob, system: str) -> None:
    job = make_job()
    eight, full = answers(job, system, "int8").labels, answers(job, "elbert-full").labels
    assert sum(a == b for a, b in zip(eight, full, strict=True)) >= 0.8 * len(full)


@pytest.mark.parametrize(("isa", "narrow"), [("AVX2", True), ("avx512_core", True), (None, False)])
def test_where_8_bit_sums_saturate_the_peers_get_narrower_weights_and_the_table_says_so(
    monkeypatch: pytest.MonkeyPatch, isa: str | None, narrow: bool
) -> None:
    capable = {"architecture": "x86_64", "avx512_vnni": False, "avx_vnni": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capable)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if isa is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    rows = [
        replace(empty_row(Spec(name, "", "int8", None), 1), texts_per_second=1.0) for name in ("openvino", "elbert")
    ]
    assert [("7 bits" in row.settings) for row in rows] == [narrow, False]
    assert (any("openvino int8: weights of 7 bits" in note for note in notes_of(rows))) is narrow


def test_a_graph_that_still_multiplies_in_float32_is_not_called_int8(make_job: MakeJob) -> None:
    pytest.importorskip("onnx")
    from elbert.evaluation.bench.systems.graph import exported
    from elbert.evaluation.bench.systems.onnxruntime import check_quantised

    path = exported(make_job())
    with pytest.raises(ElbertError, match="would not be int8"):
        check_quantised(path, path)


def test_onnxruntime_runs_with_its_own_defaults(make_job: MakeJob) -> None:
    pytest.importorskip("onnx")
    library = pytest.importorskip("onnxruntime")
    from elbert.evaluation.bench.systems.graph import exported
    from elbert.evaluation.bench.systems.onnxruntime import session_of

    used, default = session_of(exported(make_job())).get_session_options(), library.SessionOptions()
    for name in ("enable_mem_pattern", "enable_cpu_mem_arena", "execution_mode", "graph_optimization_level"):
        assert getattr(used, name) == getattr(default, name), name
    assert used.intra_op_num_threads == torch.get_num_threads()


def test_ours_leave_early_with_a_policy(make_job: MakeJob) -> None:
    job = make_job()
    module: Any = importlib.import_module(SYSTEMS["elbert"].module)
    found = module.load(job, Spec("elbert", "torch", "float32", {"name": "fixed", "layer": 2}))(job.texts, 3)
    assert found.exit_layers == [2] * len(job.texts)


def test_everybody_runs_in_every_precision_they_know() -> None:
    specs = line_up(
        {"name": "elbert"}, against=PEERS, backends=["torch", "onnxruntime"], dtypes=["float32", "bfloat16"]
    )
    listed = [(spec.system, spec.backend, spec.dtype) for spec in specs]
    assert listed[:3] == [(name, "torch", "float32") for name in OURS]
    assert ("elbert", "onnxruntime", "float32") in listed
    assert ("elbert", "onnxruntime", "bfloat16") not in listed
    assert ("openvino", "openvino", "bfloat16") in listed
    assert ("transformers", "torch", "bfloat16") in listed
    assert ("onnxruntime", "onnxruntime", "bfloat16") not in listed


def test_each_device_has_its_precisions() -> None:
    every = {"against": PEERS, "backends": ["torch"], "dtypes": ["float32", "bfloat16", "float16", "int8"]}
    on_cpu = {(spec.system, spec.dtype) for spec in line_up(FULL, **every)}
    on_cuda = {(spec.system, spec.dtype) for spec in line_up(FULL, **every, device="cuda:1")}
    assert ("elbert", "int8") in on_cpu - on_cuda
    assert {("elbert", "float16"), ("transformers", "float16"), ("torch-compile", "float16")} <= on_cuda - on_cpu
    assert "int8" not in {dtype for _, dtype in on_cuda}


def test_a_system_of_the_cpu_does_not_run_beside_a_gpu() -> None:
    for system in SYSTEMS:
        check_device(system, "cpu")
    for system in ("elbert", "elbert-full", "transformers", "transformers-batches", "torch-compile"):
        check_device(system, "cuda:0")
    for system in ("onnxruntime", "openvino"):
        with pytest.raises(UsageError, match="runs on the CPU here, not on cuda:0"):
            check_device(system, "cuda:0")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dtypes": ["float16"]}, "does not compute in float16 on cpu; add --dtype float32"),
        ({"dtypes": ["int8"], "device": "cuda"}, "does not compute in int8 on cuda; add --dtype float32"),
        ({"against": ["opnevino"]}, "did you mean 'openvino'"),
        ({"backends": ["touch"]}, "did you mean 'torch'"),
        ({"dtypes": ["float23"]}, "did you mean 'float32'"),
        ({"backends": ["onnxruntime"], "dtypes": ["bfloat16"]}, "add --dtype float32"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        line_up(FULL, **{"against": [], "backends": ["torch"], "dtypes": ["float32"], **fields})


def test_a_batch_is_held_to_rows_and_to_tokens_with_their_padding() -> None:
    def lengths(given: list[int], batch: int, most: int) -> list[list[int]]:
        rows = [Arrival(index, [1] * length) for index, length in enumerate(given)]
        return [[len(row.ids) for row in held_together] for held_together in held(rows, batch, most)]

    assert lengths([9, 5, 5, 5, 2, 2], 4, 100) == [[9, 5, 5, 5], [2, 2]]
    assert lengths([9, 5, 5, 5, 2, 2], 4, 20) == [[9, 5], [5, 5, 2, 2]]
    assert lengths([2, 2, 5, 5, 9], 4, 10) == [[2, 2], [5, 5], [9]]
    assert lengths([30, 12, 12, 3], 4, 24) == [[30], [12, 12], [3]]
    assert lengths([], 4, 24) == []


def test_a_peer_is_given_no_more_tokens_at_once_than_our_engine_takes(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    shapes: list[tuple[int, ...]] = []

    def forward(feeds: dict[str, Any]) -> Any:
        shapes.append(feeds["input_ids"].shape)
        return np.zeros((len(feeds["input_ids"]), 3))

    monkeypatch.setattr(batches, "most_tokens", lambda *_: 100)
    assert len(batches.in_batches(job, Spec("openvino", "openvino", "float32"), forward)(job.texts, 16).labels) == len(
        job.texts
    )
    assert max(rows * longest for rows, longest in shapes) <= 100
    assert sum(rows for rows, _ in shapes) == len(job.texts)


def test_a_peers_texts_are_read_by_the_tokenizer_that_ours_runs(make_job: MakeJob) -> None:
    reader, own = batches.reader_of(make_job()), batches.load_tokenizer(make_job())
    assert isinstance(reader.tokenizer, PlainTokenizer)
    assert (reader.padding, reader.typed) == (own.pad_token_id, "token_type_ids" in own.model_input_names)


def test_where_only_transformers_reads_the_folder_a_peers_texts_are_the_same_tokens(
    make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job(folder=shutil.copytree(make_job().folder, tmp_path / "model"))
    (job.folder / "added_tokens.json").write_text("{}")  # a file of older versions, which only transformers reads
    reader, usual = batches.reader_of(job), batches.reader_of(make_job())
    assert [row.ids for row in reader.rows(job.texts)] == [row.ids for row in usual.rows(job.texts)]


def test_nothing_is_padded_with_a_token_that_is_none(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(folder=shutil.copytree(make_job().folder, tmp_path / "model"))
    path = job.folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["pad_token"]
    path.write_text(json.dumps(settings))
    with pytest.raises(ElbertError, match=r"has no padding token .* tokenizer_config\.json"):
        answers(job, "transformers-batches")


def test_padding_is_masked_and_token_types_only_where_the_model_reads_them() -> None:
    rows = [Arrival(0, [2, 5, 3]), Arrival(1, [2, 3], [0, 1])]
    feeds = padded(rows, 9, typed=True)
    assert feeds["input_ids"].tolist() == [[2, 5, 3], [2, 3, 9]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert feeds["token_type_ids"].tolist() == [[0, 0, 0], [0, 1, 0]]
    assert "token_type_ids" not in padded(rows, 9, typed=False)


def test_logits_are_read_by_problem_type() -> None:
    logits = np.array([[1.0, -1.0], [0.0, 2.0]])
    assert read(logits, "single_label_classification") == [0, 1]
    assert read(logits, "multi_label_classification") == [[1.0, 0.0], [1.0, 1.0]]
    assert read(logits[:, :1], "regression") == [1.0, 0.0]


def test_several_labels_are_cut_where_the_library_cuts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_label, "LABEL_CUT", 0.8)
    assert read(np.array([[1.0, 2.0, -1e4]], np.float32), "multi_label_classification") == [[0.0, 1.0, 0.0]]
    said = [{"label": "neg", "score": 0.9}, {"label": "pos", "score": 0.7}]
    assert pipeline._answer(said, {"neg": 0, "pos": 1}, multi_label.MULTI_LABEL) == [1.0, 0.0]
