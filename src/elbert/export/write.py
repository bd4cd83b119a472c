"""Writes an export folder: the graphs, the tokenizer, the configuration, `elbert.json`, a card and `run.py`.

`Classifier.from_pretrained` reads it back; `run.py` reads it with nothing but numpy, tokenizers and the runtime.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elbert import exits
from elbert.disk import ANOTHER_FOLDER, whole_folder, write_errors
from elbert.engine.backends.backend import BACKENDS
from elbert.engine.backends.graphs import build_graphs
from elbert.engine.backends.runtimes import Runtime, import_openvino, onnxruntime, openvino, openvino_core
from elbert.errors import CalibrationWarning, UsageError, did_you_mean
from elbert.exits import ExitPolicy
from elbert.export import runner
from elbert.metadata import metadata, write_metadata
from elbert.modeling.files.exported import EXPORT, ExportedModel, Graph
from elbert.modeling.files.policies import write_tensors
from elbert.modeling.files.saving import save_tokenizer
from elbert.modeling.files.words import write_words
from elbert.modeling.quiet import quiet_transformers
from elbert.runs.folder import check_free, run_folder

if TYPE_CHECKING:
    from elbert.classifier import Classifier

RUNNER = "run.py"

# The exit policies and layer 0, and what they import.
_RULES = (
    "__init__.py",
    "arrays.py",
    "errors.py",
    "lazy.py",
    "results.py",
    "tasks/*.py",
    "exits/*.py",
    "words/[!f]*.py",
)

_CARD = """# {name}, exported for {backend}

Every text leaves the network at the first layer that is sure of it; the exit policy is `{policy}` in `elbert.json`.
`run.py` needs neither torch nor elbert:

```sh
pip install numpy tokenizers {backend}
python run.py "a text" "another text"
```

With elbert installed, `elbert predict` and `Classifier.from_pretrained` read this folder too.
"""


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of graph files.

    Attributes:
        backend: the engine's backend that reads them.
        runtime: and the library below it, looked up when asked for.
        extension: of a graph's file name.
        save: writes one ONNX graph to a path, in this format.
    """

    backend: str
    runtime: Callable[[], Runtime]
    extension: str
    save: Callable[[bytes, Path], None]


def _save_onnx(graph: bytes, path: Path) -> None:
    path.write_bytes(graph)


def _save_openvino(graph: bytes, path: Path) -> None:
    import_openvino().save_model(openvino_core().read_model(graph), str(path), compress_to_fp16=False)


FORMATS: dict[str, Format] = {
    "onnx": Format("onnxruntime", onnxruntime, ".onnx", _save_onnx),
    "openvino": Format("openvino", openvino, ".xml", _save_openvino),
}


def export_model(
    classifier: Classifier,
    format: str,
    out: str | Path,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
) -> Path:
    """Write a classifier as graphs, with its current policy as the default one.

    Args:
        classifier: a model with weights.
        format: a name of `FORMATS`.
        out: the folder to be; it appears when it is whole.
        dtype: what the layers will compute in; the files hold fp32 whatever it is.
        overwrite: replace a model that stands there.

    Returns:
        `out`.

    Raises:
        UsageError: an unknown format or dtype, `out` is taken, `classifier` is an export itself, or `run.py` does not
            know its policy.
        MissingExtraError: the format's library is not installed.
        ModelError: the graphs can't say what the model does.
        ElbertError: the disk is full, or does not let us write.

    Warns:
        CalibrationWarning: the policy was calibrated on another backend or dtype than it is exported for.
    """
    chosen = _check(classifier, format, dtype)
    folder = Path(out)
    if classifier.name and folder.expanduser().resolve() == Path(classifier.name).expanduser().resolve():
        raise UsageError(f"output {str(out)!r} is the model itself, which the graphs don't replace; give another name")
    check_free(run_folder(folder), resume=False, overwrite=overwrite)
    chosen.runtime()  # where it is not installed, say so before any work
    name, content = _content(classifier)
    with write_errors(f"the export {folder}", ANOTHER_FOLDER), whole_folder(folder) as fresh:
        files = _write_graphs(classifier, chosen, fresh)
        export = {**files, **_description(classifier, chosen, dtype)}
        with quiet_transformers():
            classifier.model.config.save_pretrained(fresh)
        save_tokenizer(fresh, classifier.tokenizer, token_types=classifier.model.pair_token_types)
        content[EXPORT] = export
        write_tensors(fresh, {key: policy.tensors() for key, policy in classifier.policies.items()})
        write_words(fresh, classifier.words)
        write_metadata(fresh, content)
        card = _CARD.format(name=Path(classifier.name).name or "A model", backend=chosen.backend, policy=name)
        (fresh / "README.md").write_text(card, encoding="utf-8")
        (fresh / RUNNER).write_bytes(Path(runner.__file__).read_bytes())
        _write_rules(fresh / runner.RULES)
    misfit = runner.misfit_in(content)
    if misfit:
        warnings.warn(f"{misfit}; run elbert calibrate on {folder}", CalibrationWarning, stacklevel=2)
    return folder


def _check(classifier: Classifier, format: str, dtype: str) -> Format:
    """Return the format, or raise for what can't be exported."""
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}{did_you_mean(format, FORMATS)}")
    known = BACKENDS[FORMATS[format].backend].dtypes
    if dtype not in known:
        raise UsageError(f"format {format} has no dtype {dtype!r}{did_you_mean(dtype, known)}")
    if isinstance(classifier.model, ExportedModel):
        raise UsageError(f"{classifier.name} is an exported model already; export the model it was exported from")
    policy = classifier.policy
    if policy.learned or policy.needs or not type(policy).__module__.startswith(f"{exits.__name__}."):
        reads = f"reads {', '.join(policy.needs)} states" if policy.needs else "is a third party's"
        reads = "has learned weights" if policy.learned else reads
        raise UsageError(f"exit policy {policy.name!r} {reads}, which run.py cannot; choose another with --policy")
    dropping = next((name for name, each in classifier.policies.items() if each.tokens), None)
    if policy.tokens or dropping:
        raise UsageError(
            f"policy {dropping or policy.name!r} drops tokens, and exported graphs run whole rows; choose one without "
            "tokens, or run the model itself"
        )
    skipping = next((name for name, each in classifier.policies.items() if each.gates), None)
    if policy.gates or skipping:
        raise UsageError(
            f"policy {skipping or policy.name!r} skips layers by gates, which run.py cannot; choose one without gates, "
            "or run the model itself"
        )
    return FORMATS[format]


def _write_rules(folder: Path) -> None:
    """Copy the modules that decide who leaves; they need numpy alone."""
    package = Path(exits.__file__).parents[1]
    for path in chain.from_iterable(package.glob(name) for name in _RULES):
        copy = folder / path.relative_to(package.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _content(classifier: Classifier) -> tuple[str, dict[str, Any]]:
    """Return the default policy's name and what `elbert.json` says beside the export itself."""
    policies = dict(classifier.policies)
    name = _name_of(classifier.policy, policies, classifier.metadata.default_policy)
    policies[name] = classifier.policy
    return name, {
        **metadata(classifier.metadata.to_dict(), classifier.model.heads),
        "max_length": classifier.max_length,
        "policies": {key: policy.to_dict() for key, policy in policies.items()},
        "default_policy": name,
        "calibration": dict(classifier.calibration),
    }


def _name_of(policy: ExitPolicy, saved: dict[str, ExitPolicy], default: str) -> str:
    """Return the name the policy was saved under, the default's first, else its own, or `elbert-2` if that is taken."""
    known = next((name for name in (default, *saved) if saved.get(name) == policy), None)
    free = (name for name in chain([policy.name], (f"{policy.name}-{n}" for n in count(2))) if name not in saved)
    return next(free) if known is None else known


def _write_graphs(classifier: Classifier, chosen: Format, folder: Path) -> dict[str, Any]:
    """Write every graph once and return which exit uses which file."""
    weights = classifier.model.weights()
    graphs = build_graphs(weights)
    (folder / "graphs").mkdir()

    def write(graph: Graph, stem: str) -> str:
        name = f"graphs/{stem}{chosen.extension}"
        assert isinstance(graph, bytes)  # they were built in memory
        chosen.save(graph, folder / name)
        return name

    def write_each(part: tuple[Graph, ...], stem: str) -> list[str]:
        shared = len(set(map(id, part))) == 1
        names: dict[int, str] = {}
        for depth, graph in enumerate(part, start=1):
            if id(graph) not in names:
                names[id(graph)] = write(graph, stem if shared else f"{stem}-{depth}")
        return [names[id(graph)] for graph in part]

    return {
        "embed": write(graphs.embed, "embed"),
        "steps": write_each(graphs.steps, "step"),
        "heads": write_each(graphs.heads, "head"),
        "token_types": graphs.token_types,
        "positions": graphs.positions,
        "means": [head.reads_mean for head in weights.heads],
        "token_eps": next((head.token_eps for head in weights.heads if head.reads_mean), None),
    }


def _description(classifier: Classifier, chosen: Format, dtype: str) -> dict[str, Any]:
    """Return what a reader has to know beside the files."""
    return {
        "backend": chosen.backend,
        "dtype": dtype,
        "labels": list(classifier.labels.names),
        "problem_type": classifier.problem_type,
        "pair_token_types": classifier.model.pair_token_types,
        "words": classifier.words is not None,
        "truncation_side": classifier.tokenizer.truncation_side,
    }
