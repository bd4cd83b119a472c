"""Fixtures every room shares: a tokenizer and models of a few thousand parameters, made here, offline and seeded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub reads it: no test may reach for the network
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # nor report that onnxruntime was imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch reads it: matrices this small only wait for each other
sys.path.insert(0, str(Path(__file__).parents[1]))  # so that `from tests.modeling.reference import ...` works

import pytest
import torch
from hypothesis import settings
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from elbert.modeling.files.plain_tokenizer import PlainTokenizer
from elbert.modeling.model import MultiExitModel
from elbert.modeling.tokenizer import train_tokenizer

settings.register_profile("seeded", derandomize=True)  # every run draws the same examples
settings.register_profile("fuzz", print_blob=True)  # `make fuzz`: others in each, and a failure can be played again
settings.load_profile("seeded")

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # nor OpenVINO


class _HeldDown(ModuleType):
    """Stands for OpenVINO where the CPU is held to AVX2 although it knows AVX-512, and skips whatever would use it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        pytest.skip("OpenVINO crashes where ONEDNN_MAX_CPU_ISA is below AVX512_CORE on a CPU that has AVX-512")


def _hold_down() -> None:
    cpu, spec = Path("/proc/cpuinfo"), find_spec("openvino")
    below = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
    if below and spec is not None and cpu.is_file() and "avx512f" in cpu.read_text():
        sys.modules["openvino"] = _HeldDown("openvino")
        sys.modules["openvino"].__spec__ = spec


_hold_down()

TEXTS = [
    "the film was wonderful and warm , a joy from start to end",
    "the film was dull and cold , a chore from start to end",
    "a warm and witty story told with great care",
    "a dull and careless story told without any wit",
    "great acting , wonderful music , and a story to remember",
    "poor acting , awful music , and a story to forget",
    "I did not like the end , but the start was great",
    "I liked the end , but the start was poor and slow",
]

_BERT_SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
# ModernBERT's own defaults lie beyond so small a vocabulary.
_SPECIAL: dict[str, Any] = {"bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 3}
_CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "albert": (AlbertConfig, {**_BERT_SHAPE, "embedding_size": 8}),
    "bert": (BertConfig, _BERT_SHAPE),
    "roberta": (RobertaConfig, _BERT_SHAPE),
    "electra": (ElectraConfig, {**_BERT_SHAPE, "embedding_size": 8}),
    "distilbert": (
        DistilBertConfig,
        {"vocab_size": 300, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 64},
    ),
    "mpnet": (MPNetConfig, {**_BERT_SHAPE, "pad_token_id": 1}),
    "xlm-roberta": (XLMRobertaConfig, {**_BERT_SHAPE, "pad_token_id": 1}),
    "camembert": (CamembertConfig, {**_BERT_SHAPE, "pad_token_id": 1}),
    "modernbert": (ModernBertConfig, {**_BERT_SHAPE, "local_attention": 6, "eos_token_id": 3, **_SPECIAL}),
    "deberta-v2": (
        DebertaV2Config,
        {
            **_BERT_SHAPE,
            "relative_attention": True,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
    ),
}

# Every family: tests that are true of all of them take their cases from here.
FAMILIES = tuple(_CONFIGS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a folder's tests in one process, where several share the suite: its models are made once."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            item.add_marker(pytest.mark.xdist_group(str(item.path.parent.relative_to(config.rootpath))))


@pytest.fixture(scope="session")
def tiny_texts() -> list[str]:
    """Eight short film reviews, good and bad by turns."""
    return list(TEXTS)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A WordPiece tokenizer of up to 260 entries, [PAD] 0, [CLS] 2, [SEP] 3, for texts of up to 64 tokens."""
    return train_tokenizer(TEXTS, vocab_size=260, max_length=64)


@pytest.fixture
def plain_tokenizer(tiny_tokenizer) -> Any:
    """The same as inference and training run it."""
    return PlainTokenizer.of(tiny_tokenizer, entries=300, token_types=True)


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Any]:
    """`tiny_config(family, **overrides)`: a transformers configuration, 3 layers of 16 units, 2 labels."""

    def make(family: str = "albert", **overrides: Any) -> Any:
        kind, fields = _CONFIGS[family]
        return kind(**{**fields, **overrides})

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_config: Callable[..., Any]) -> Callable[..., MultiExitModel]:
    """`tiny_model(family, heads="shared", seed=0, **overrides)`: random weights wide enough that every exit differs."""

    def make(family: str = "albert", heads: Any = "shared", seed: int = 0, **overrides: Any) -> MultiExitModel:
        torch.manual_seed(seed)
        config = tiny_config(family, **overrides)
        model = MultiExitModel(AutoModelForSequenceClassification.from_config(config), heads)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))  # biases and norms too, or they would go untested
        return model.eval()

    return make


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora beside the checkout."""
    folder = (Path(__file__).parents[1] / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip(f"the real corpora are not on this machine: {folder} does not exist")
    return folder
