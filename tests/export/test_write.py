"""What an export holds, what reads it back, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar

import pytest

from elbert import Classifier
from elbert.engine.backends.runtimes import openvino_core
from elbert.errors import MissingExtraError, ModelError, UsageError
from elbert.exits import ExitPolicy, make
from elbert.export import export_model
from elbert.modeling.files.load import load_model
from elbert.modeling.files.sources import find_folder

Exported = Callable[[str, str], tuple[Classifier, Path]]
BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}


@pytest.mark.parametrize(
    "kind", ["albert", "bert-own-heads", "bert-mean-heads", "distilbert", "multi-label", "regression"]
)
def test_the_classifier_reads_an_export_back_with_the_same_answers(
    format: str, kind: str, exported_of: Exported, tiny_texts: list[str]
) -> None:
    classifier, folder = exported_of(format, kind)
    back = Classifier.from_pretrained(folder)
    assert (back.backend, back.dtype, back.device) == (BACKENDS[format], "float32", "cpu")
    assert (back.policy, back.max_length, back.labels) == (classifier.policy, classifier.max_length, classifier.labels)
    texts = [*tiny_texts, "a warm film " * 40, ("a warm film", "a dull film")]
    for given, expected in zip(back.stream(texts, batch_size=3), classifier.stream(texts), strict=True):
        if kind == "regression":
            assert given.label == pytest.approx(expected.label, abs=1e-4)
        else:
            assert given.label == expected.label
        assert (given.exit_layer, given.truncated) == (expected.exit_layer, expected.truncated)


def test_shared_parts_are_stored_once_and_distinct_ones_each(format: str, exported_of: Exported) -> None:
    extension = {"onnx": ".onnx", "openvino": ".xml"}[format]

    def graphs(kind: str) -> set[str]:
        return {path.stem for path in (exported_of(format, kind)[1] / "graphs").glob(f"*{extension}")}

    assert graphs("albert") == {"embed", "step", "head"}
    assert graphs("bert-own-heads") == {
        "embed",
        *(f"{part}-{depth}" for part in ("step", "head") for depth in (1, 2, 3)),
    }


def test_the_policy_of_the_moment_becomes_the_default_and_the_saved_ones_stay(
    classifier_of: Callable[..., Classifier], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    classifier = classifier_of()
    classifier.policies = {"elbert": make("elbert"), "drop-1": make("elbert", threshold=0.3)}
    classifier.calibration = {"elbert": {"max_drop": 0.1}, "drop-1": {"max_drop": 0.01}}

    classifier.policy = classifier.policies["drop-1"]
    named = json.loads((export_model(classifier, "onnx", tmp_path / "named") / "elbert.json").read_text())
    assert named["default_policy"] == "drop-1"
    assert set(named["policies"]) == set(named["calibration"]) == {"elbert", "drop-1"}

    classifier.policy = make("elbert", threshold=0.2)
    other = json.loads((export_model(classifier, "onnx", tmp_path / "other") / "elbert.json").read_text())
    assert other["default_policy"] == "elbert-2"
    assert other["policies"]["elbert-2"]["threshold"] == 0.2
    assert other["policies"]["elbert"] == named["policies"]["elbert"], "a saved policy is not written over"
    assert other["calibration"] == named["calibration"]


def test_bf16_is_kept_with_an_openvino_export_and_refused_for_onnx(
    classifier_of: Callable[..., Classifier], tmp_path: Path, tiny_texts: list[str]
) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(UsageError, match=r"format onnx has no dtype 'bfloat16'.* Allowed: float32"):
        export_model(classifier_of(), "onnx", tmp_path / "no", dtype="bfloat16")
    if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    classifier = classifier_of()
    back = Classifier.from_pretrained(export_model(classifier, "openvino", tmp_path / "half", dtype="bfloat16"))
    assert back.dtype == "bfloat16"
    difference = back.record(tiny_texts).probs - classifier.record(tiny_texts).probs
    assert difference.abs().mean() < 0.02


@dataclass(frozen=True)
class Theirs(ExitPolicy):
    name: ClassVar[str] = "theirs"
    summary: ClassVar[str] = "a third party's"
    citation: ClassVar[str] = "none"

    def decide(self, state: Any, output: Any, layer: Any) -> Any:
        return {"fired": layer > 1}, state


def test_a_third_partys_policy_is_refused(classifier_of: Callable[..., Classifier], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'theirs' is a third party's, which run.py cannot; choose another with --pol"):
        export_model(classifier_of(policy=Theirs()), "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_replaced_only_when_asked_to(
    classifier_of: Callable[..., Classifier], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "out"
    classifier = classifier_of()
    export_model(classifier, "onnx", folder)
    (folder / "stale").touch()
    with pytest.raises(UsageError, match="exists; name another folder, or give --overwrite"):
        export_model(classifier, "onnx", folder)
    export_model(classifier, "onnx", folder, overwrite=True)
    assert not (folder / "stale").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").touch()
    with pytest.raises(UsageError, match="not a model folder"):
        export_model(classifier, "onnx", mine, overwrite=True)


def test_nothing_is_left_of_an_export_that_fails(classifier_of: Callable[..., Classifier], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ModelError, match="'mish'"):
        export_model(classifier_of("bert", hidden_act="mish"), "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_and_a_missing_library_are_named(
    classifier_of: Callable[..., Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="unknown format 'onyx'; did you mean 'onnx'"):
        export_model(classifier_of(), "onyx", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'elbert\[openvino\]'"):
        export_model(classifier_of(), "openvino", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_needs_weights_is_refused_for_an_export(exported_of: Exported, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = exported_of("onnx", "albert")[1]
    back = Classifier.from_pretrained(folder)
    with pytest.raises(UsageError, match="cannot be saved as a checkpoint; use the model it was exported from"):
        back.save_pretrained(tmp_path / "saved")
    with pytest.raises(UsageError, match="cannot be traced"):
        back.trace("a warm film")
    with pytest.raises(UsageError, match="exported model already"):
        export_model(back, "onnx", tmp_path / "again")
    with pytest.raises(UsageError, match="exported for the backend onnxruntime, so torch cannot run it"):
        Classifier.from_pretrained(folder, backend="torch")
    with pytest.raises(UsageError, match="can't be trained"):
        load_model(folder, labels=["a", "b"])


def test_an_export_runs_without_importing_transformers(exported_of: Exported) -> None:
    pytest.importorskip("onnxruntime")
    folder = exported_of("onnx", "albert")[1]
    code = "import sys\nfrom elbert import Classifier\nClassifier.from_pretrained(sys.argv[1]).predict('a warm film')\n"
    command = [sys.executable, "-c", f"{code}sys.exit('transformers' in sys.modules)", str(folder)]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_damaged_export_says_what_is_missing(exported_of: Exported, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "damaged"
    shutil.copytree(exported_of("onnx", "albert")[1], folder)
    content = json.loads((folder / "elbert.json").read_text())

    (folder / "graphs" / "step.onnx").rename(folder / "graphs" / "kept")
    with pytest.raises(ModelError, match=r"step\.onnx is missing: export the model again"):
        Classifier.from_pretrained(folder)
    (folder / "graphs" / "kept").rename(folder / "graphs" / "step.onnx")

    for change, reason in [
        ({"steps": content["export"]["steps"][:1]}, "names 1 steps"),
        ({"heads": None}, "incomplete"),
    ]:
        (folder / "elbert.json").write_text(json.dumps({**content, "export": {**content["export"], **change}}))
        with pytest.raises(ModelError, match=reason):
            Classifier.from_pretrained(folder)


def test_an_export_beside_another_models_configuration_is_refused(exported_of: Exported, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = shutil.copytree(exported_of("onnx", "albert")[1], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    names = {str(index): f"class {index}" for index in range(7)}
    for change, reason in [
        ({"id2label": names, "label2id": {}}, r"head\.onnx gives \d values, where config\.json .* has 7 classes"),
        ({"hidden_size": config["hidden_size"] * 2}, r"head\.onnx does not run \(.*restore config\.json"),
    ]:
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ModelError, match=reason):
            Classifier.from_pretrained(folder)


@pytest.mark.parametrize("place", ["up", "absolute", "link", "nested"])
def test_a_graph_lies_in_the_folder_that_names_it(exported_of: Exported, tmp_path: Path, place: str) -> None:
    pytest.importorskip("onnxruntime")
    folder = shutil.copytree(exported_of("onnx", "albert")[1], tmp_path / "model")
    shutil.copy(folder / "graphs" / "step.onnx", tmp_path / "other.onnx")
    (folder / "graphs" / "link.onnx").symlink_to(tmp_path / "other.onnx")
    names = {
        "up": "../other.onnx",
        "absolute": str(tmp_path / "other.onnx"),
        "link": "graphs/link.onnx",
        "nested": "graphs/../../other.onnx",
    }
    path = folder / "elbert.json"
    content = json.loads(path.read_text())
    content["export"]["steps"] = [names[place]] * len(content["export"]["steps"])
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"which lies outside the folder; allowed: a path inside it") as caught:
        Classifier.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    done = subprocess.run([sys.executable, folder / "run.py", "a film"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "which lies outside its folder: export it again" in done.stderr


def test_an_export_is_read_from_the_hubs_cache_where_every_file_is_a_link(
    exported_of: Exported, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    classifier, exported = exported_of("onnx", "albert")
    snapshot, blobs = tmp_path / "models--me--mine" / "snapshots" / "0", tmp_path / "models--me--mine" / "blobs"
    (snapshot / "graphs").mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(each for each in exported.rglob("*") if each.is_file()):
        shutil.copy(path, blobs / str(number))
        link = snapshot / path.relative_to(exported)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blobs / str(number))
    assert Classifier.from_pretrained(snapshot).predict("a film").label == classifier.predict("a film").label


def test_the_hub_is_asked_for_an_exports_graphs_and_for_no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        return "/nowhere"

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    find_folder("me/mine")
    named = {"graphs/step.onnx", "graphs/step.bin", "policies.safetensors", "words.safetensors", "tokenizer.json"}
    assert all(any(fnmatch(name, pattern) for pattern in asked) for name in named)
    assert not any(fnmatch("pytorch_model.bin", pattern) for pattern in asked)
