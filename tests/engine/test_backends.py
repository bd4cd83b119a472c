"""Every backend against torch: the same logits, labels and exit layers, whatever the model, lengths and depths."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elbert.engine import Engine
from elbert.engine.backends.backend import BACKENDS, choose_backend, make_backend
from elbert.engine.backends.graphs import build_graphs
from elbert.engine.backends.runtimes import openvino_core
from elbert.engine.requests import Arrival
from elbert.errors import MissingExtraError, ModelError, UsageError
from elbert.exits import ExitPolicy, make, replay
from elbert.modeling.files.exported import Graphs
from elbert.modeling.weights import EncoderWeights
from tests.conftest import FAMILIES

VOCABULARY = 300
LAYERS = 3
# Scores this close to a threshold may fall on either side of it, by float rounding alone.
EDGE = 1e-4

OTHERS = ("onnxruntime", "openvino")
# What the families' own configurations do not show: groups, inner layers, own heads, other activations.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in FAMILIES},
    "albert-two-groups": ("albert", {"num_hidden_groups": 2}),
    "albert-inner-layers": ("albert", {"inner_group_num": 2}),
    "bert-linear-heads": ("bert", {"heads": "linear"}),
    "albert-full-heads": ("albert", {"heads": "full"}),
    "bert-mean-heads": ("bert", {"heads": "mean"}),
    "modernbert-mean": ("modernbert", {"classifier_pooling": "mean", "norm_bias": True}),
    "modernbert-mean-heads": ("modernbert", {"heads": "mean"}),
    "bert-silu": ("bert", {"hidden_act": "silu"}),
    "bert-relu": ("bert", {"hidden_act": "relu"}),
    "bert-tanh": ("bert", {"hidden_act": "tanh"}),
    "roberta-one-token-type": ("roberta", {"type_vocab_size": 1}),
}


@pytest.fixture(params=OTHERS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of every backend beside torch, where its library is installed."""
    pytest.importorskip("onnx", reason="graphs are written with onnx: pip install 'elbert[onnx]'")
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture(scope="session")
def engine_of(tiny_model: Callable[..., Any]) -> Callable[..., Engine]:
    """`engine_of(shape, backend)`: an engine over a random model, made once."""

    @cache
    def weights_of(shape: str) -> EncoderWeights:
        family, overrides = SHAPES[shape]
        weights: EncoderWeights = tiny_model(family, **overrides).weights()
        return weights

    @cache
    def make_engine(shape: str, backend: str, dtype: torch.dtype = torch.float32) -> Engine:
        return Engine(weights_of(shape), backend=backend, dtype=dtype)

    return make_engine


def texts_of(seed: int, count: int) -> list[Arrival]:
    """Return random token lists of 1 to 40 tokens; every third is a pair."""
    chance = random.Random(seed)
    arrivals = []
    for index in range(count):
        ids = [chance.randrange(VOCABULARY) for _ in range(chance.randint(1, 40))]
        types = [int(place > len(ids) // 2) for place in range(len(ids))] if index % 3 == 0 else None
        arrivals.append(Arrival(index, ids, types))
    return arrivals


def readable(engine: Engine, texts: list[Arrival]) -> list[Arrival]:
    """Return texts without token types for a model that knows one or none: its tokenizer would give none."""
    table = engine.weights.embedding.token_type
    return texts if table is not None and len(table) > 1 else [Arrival(text.index, text.ids) for text in texts]


def answers_of(engine: Engine, texts: list[Arrival], policy: ExitPolicy, **options: int) -> dict[int, tuple[int, int]]:
    """Return {index: (exit layer, class)} of one run."""
    answers = {}
    for group in engine.run(texts, policy, **options):
        for index, layer, label in zip(
            group.index.tolist(), group.exit_layer.tolist(), group.logits.argmax(-1).tolist(), strict=True
        ):
            answers[index] = (layer, label)
    return answers


def without_edges(policy: ExitPolicy, probs: torch.Tensor) -> list[int]:
    """Return the texts of probs [N, M, C] whose exit no rounding could move: nudge everything a little and replay."""
    nudges = torch.randn(16, *probs.shape, generator=torch.Generator().manual_seed(0))
    layers = torch.stack([replay(policy, each.clamp(0, 1)) for each in (probs, *(probs + EDGE * nudges))])
    sure: list[int] = (layers == layers[0]).all(0).nonzero().flatten().tolist()
    assert len(sure) >= len(probs) - len(probs) // 4 - 1
    return sure


POLICIES = st.one_of(
    st.builds(
        lambda threshold, window: make("elbert", threshold=threshold, window=window),
        st.sampled_from([0.2, 0.5, 0.9]),
        st.sampled_from([0, 2, 3]),
    ),
    st.builds(lambda threshold: make("max_prob", threshold=threshold), st.sampled_from([0.6, 0.9])),
    st.just(make("patience", patience=1)),
)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_exit_says_what_torch_says(backend: str, shape: str, engine_of: Callable[..., Engine]) -> None:
    texts = readable(engine_of(shape, "torch"), texts_of(1, 20))
    expected = engine_of(shape, "torch").record(texts, batch_size=6, pooled=True)
    given = engine_of(shape, backend).record(texts, batch_size=6, pooled=True)
    torch.testing.assert_close(given.logits, expected.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(given.pooled, expected.pooled, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", FAMILIES)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(policy=POLICIES, seed=st.integers(0, 10_000), count=st.integers(1, 24), batch_size=st.sampled_from([1, 3, 8]))
def test_label_and_exit_layer_are_the_same_on_every_backend(
    backend: str,
    shape: str,
    engine_of: Callable[..., Engine],
    policy: ExitPolicy,
    seed: int,
    count: int,
    batch_size: int,
) -> None:
    torchs = engine_of(shape, "torch")
    texts = readable(torchs, texts_of(seed, count))
    expected = answers_of(torchs, texts, policy, batch_size=4)
    given = answers_of(engine_of(shape, backend), texts, policy, batch_size=batch_size)
    assert sorted(given) == sorted(expected)
    for index in without_edges(policy, torchs.record(texts).probs):
        assert given[index] == expected[index]


def test_rows_at_different_depths_share_steps_on_every_backend(backend: str, engine_of: Callable[..., Engine]) -> None:
    texts = texts_of(5, 40)
    policy = make("patience", patience=1)
    engine = engine_of("albert", backend)
    given = answers_of(engine, texts, policy, batch_size=5)
    assert given == answers_of(engine_of("albert", "torch"), texts, policy, batch_size=40)
    assert len({layer for layer, _ in given.values()}) > 1


def test_bf16_stays_near_fp32(engine_of: Callable[..., Engine]) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    texts = texts_of(3, 40)
    exact = engine_of("albert", "torch").record(texts).probs
    rounded = engine_of("albert", "openvino", torch.bfloat16).record(texts).probs
    assert (exact - rounded).abs().mean() < 0.02


def test_shared_layers_and_heads_are_one_graph_and_distinct_ones_are_several(tiny_model: Callable[..., Any]) -> None:
    pytest.importorskip("onnx")

    def distinct(graphs: Graphs) -> tuple[int, int]:
        return len(set(map(id, graphs.steps))), len(set(map(id, graphs.heads)))

    assert distinct(build_graphs(tiny_model("albert").weights())) == (1, 1)
    assert distinct(build_graphs(tiny_model("albert", num_hidden_groups=3).weights())) == (LAYERS, 1)
    assert distinct(build_graphs(tiny_model("bert", heads="linear").weights())) == (LAYERS, LAYERS)


def test_graphs_are_valid_onnx(tiny_model: Callable[..., Any]) -> None:
    onnx = pytest.importorskip("onnx")
    graphs = build_graphs(tiny_model("electra").weights())
    for graph in (graphs.embed, *graphs.steps, *graphs.heads):
        onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)


def test_an_activation_the_graphs_do_not_know_is_named(tiny_model: Callable[..., Any]) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(ModelError, match=r"'mish'.*use the backend torch"):
        build_graphs(tiny_model("bert", hidden_act="mish").weights())


@pytest.mark.parametrize(("package", "backend", "extra"), [("onnxruntime", "onnxruntime", "onnx"), ("openvino",) * 3])
def test_a_missing_library_is_named_with_its_install_line(
    package: str, backend: str, extra: str, monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., Any]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is needed .*pip install 'elbert\[{extra}\]'"):
        Engine(tiny_model().weights(), backend=backend)


@pytest.mark.parametrize(("package", "backend", "extra"), [("onnxruntime", "onnxruntime", "onnx"), ("openvino",) * 3])
@pytest.mark.parametrize("broken", ["raise ImportError('libgomp.so.1:\\n no such file')", "import no_such_module"])
def test_a_library_that_is_there_and_broken_says_why(
    package: str,
    backend: str,
    extra: str,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_model: Callable[..., Any],
) -> None:
    (tmp_path / f"{package}.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(
        MissingExtraError, match=r"cannot be imported \((.*no such file|No module.*)\): run pip"
    ) as raised:
        Engine(tiny_model().weights(), backend=backend)
    assert str(raised.value).startswith(f"{package} is needed")
    assert str(raised.value).endswith(f"pip install 'elbert[{extra}]'")
    assert "\n" not in str(raised.value)


def test_a_missing_onnx_is_named_with_the_extra_of_the_backend(
    backend: str, monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., Any]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"onnx is needed .*pip install 'elbert\[onnx\]'"):
        Engine(tiny_model().weights(), backend=backend)


def test_a_dtype_or_device_the_backend_does_not_know_is_refused(tiny_model: Callable[..., Any], backend: str) -> None:
    weights = tiny_model().weights()
    with pytest.raises(UsageError, match=r"onnxruntime does not compute in bfloat16; allowed: float32"):
        Engine(weights, backend="onnxruntime", dtype=torch.bfloat16)
    with pytest.raises(UsageError, match="runs on the CPU, not on cuda:0; use device cpu, or backend torch"):
        make_backend(backend, weights, torch.float32, torch.device("cuda:0"))


def test_a_backend_reports_its_import_to_nobody(backend: str, tmp_path: Path) -> None:
    program = (
        f"import sys; from elbert.engine.backends import runtimes; runtimes.{backend}(); import {backend}; "
        "sys.exit(str([name for name in sys.modules if name.startswith('openvino_telemetry')] or ''))"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "CI": ""}
    del environment["ORT_DISABLE_TELEMETRY"]
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    assert list(tmp_path.iterdir()) == [], "it keeps an identifier of this machine"


def test_a_broken_graph_is_one_line(backend: str, tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    broken = tmp_path / "embed.onnx"
    broken.write_bytes(b"no graph at all")
    graphs = Graphs(broken, (broken,) * LAYERS, (broken,) * LAYERS, token_types=True)
    with pytest.raises(ModelError, match=r"embed\.onnx .*export the model again") as refused:
        Engine(tiny_model().weights(), backend=backend, graphs=graphs)
    assert "\n" not in str(refused.value)


def test_auto_is_torch_or_what_the_model_was_exported_for() -> None:
    assert choose_backend("auto") == "torch"
    assert [choose_backend(name) for name in BACKENDS] == list(BACKENDS)
    assert choose_backend("auto", "openvino") == choose_backend("openvino", "openvino") == "openvino"
    with pytest.raises(UsageError, match="exported for the backend openvino, so torch cannot run it"):
        choose_backend("torch", "openvino")
    with pytest.raises(UsageError, match="did you mean 'openvino'"):
        choose_backend("openvine")
