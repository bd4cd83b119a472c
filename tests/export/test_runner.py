"""The script that goes with an export, really run: no torch, no elbert, the same answers as `elbert predict`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from elbert import Classifier, exits
from elbert.errors import CalibrationWarning
from elbert.exits import ExitPolicy, make
from elbert.export import export_model, runner
from tests.conftest import FAMILIES

Exported = Callable[[str, str], tuple[Classifier, Path]]


@pytest.fixture(scope="session")
def blocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that goes before all others on the path and makes importing torch, transformers and elbert fail."""
    folder = tmp_path_factory.mktemp("blocked")
    for name in ("torch", "transformers", "elbert"):
        (folder / f"{name}.py").write_text(f"raise ImportError('{name} is not to be imported here')\n")
    return folder


@pytest.fixture
def run_script(blocked: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_script(folder, *words, stdin="")`: one run of `folder/run.py` as a user without torch would start it."""
    home = tmp_path / "home"
    home.mkdir()

    def run(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(blocked), "HOME": str(home), "CI": ""}
        del environment["ORT_DISABLE_TELEMETRY"]  # the script has to see to it itself
        done = subprocess.run(
            [sys.executable, str(folder / "run.py"), *words],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environment,
            check=False,
        )
        assert list(home.iterdir()) == [], "it keeps an identifier of this machine"
        return done

    return run


def assert_same(printed: str, expected: list[dict[str, object]]) -> None:
    answers = [json.loads(line) for line in printed.splitlines()]
    assert len(answers) == len(expected)
    for answer, wanted in zip(answers, expected, strict=True):
        assert list(answer) == list(wanted)
        for key in ("exit_layer", "layers", "truncated"):
            assert answer[key] == wanted[key]
        if isinstance(wanted["label"], float):
            assert answer["label"] == pytest.approx(wanted["label"], abs=1e-4)
        else:
            assert answer["label"] == wanted["label"]
        assert answer["score"] == (None if wanted["score"] is None else pytest.approx(wanted["score"], abs=1e-5))


@pytest.mark.parametrize(
    "kind",
    ["albert", "bert-own-heads", "bert-mean-heads", "modernbert-mean", "distilbert", "multi-label", "regression"],
)
def test_it_answers_as_elbert_predict_does(
    format: str,
    kind: str,
    exported_of: Exported,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    tiny_texts: list[str],
) -> None:
    classifier, folder = exported_of(format, kind)
    texts = [*tiny_texts, "", "ünïcode 🎬", "a warm film " * 40] * 4  # more than one batch
    expected = [prediction.to_dict() for prediction in classifier.stream(texts)]
    done = run_script(folder, stdin="\n".join(texts) + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert_same(done.stdout, expected)
    assert len({answer["exit_layer"] for answer in expected}) > 1, "the fixture must let texts leave at several layers"
    assert {answer["truncated"] for answer in expected} == {False, True}


@pytest.mark.parametrize("kind", ["words", "multi-label-words"])
def test_layer_0_goes_along_and_answers_as_the_engines_does(
    kind: str,
    exported_of: Exported,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    tiny_texts: list[str],
) -> None:
    pytest.importorskip("onnxruntime")
    classifier, folder = exported_of("onnx", kind)
    texts = [*tiny_texts, "", "a warm film " * 40]
    expected = [prediction.to_dict() for prediction in classifier.stream(texts)]
    depths = {answer["exit_layer"] for answer in expected}
    assert 0 in depths
    assert depths - {0}, "the fixture must let some texts through"
    assert_same(run_script(folder, stdin="\n".join(texts) + "\n").stdout, expected)
    sure = [text for text, answer in zip(texts, expected, strict=True) if answer["exit_layer"] == 0]
    assert {answer["exit_layer"] for answer in runner.Model(folder).classify(sure)} == {0}
    back = [prediction.to_dict() for prediction in Classifier.from_pretrained(folder).stream(texts)]
    assert [(a["label"], a["exit_layer"]) for a in back] == [(a["label"], a["exit_layer"]) for a in expected]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_before_its_export(
    format: str, family: str, classifier_of: Callable[..., Classifier], tiny_texts: list[str], tmp_path: Path
) -> None:
    texts = [*tiny_texts, "no", "a warm film " * 40]
    classifier = classifier_of(family)
    sure = classifier.record(texts).probs[:, 0].amax(-1).sort().values
    middle = len(texts) // 2
    classifier.policy = make("max_prob", threshold=float(sure[middle - 1 : middle + 1].mean()))
    expected = [prediction.to_dict() for prediction in classifier.stream(texts)]
    assert len({answer["exit_layer"] for answer in expected}) > 1, "half the texts leave at the first layer"
    folder = export_model(classifier, format, tmp_path / "exported")
    assert_same("".join(json.dumps(answer) + "\n" for answer in runner.Model(folder).classify(texts)), expected)
    back = Classifier.from_pretrained(folder).predict(texts)
    assert [(each.label, each.exit_layer) for each in back] == [(a["label"], a["exit_layer"]) for a in expected]


def test_pairs_are_read_from_arguments_and_from_lines_with_a_tab(
    format: str,
    exported_of: Exported,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    tiny_texts: list[str],
) -> None:
    classifier, folder = exported_of(format, "albert")
    pairs = list(zip(tiny_texts[::2], tiny_texts[1::2], strict=True))
    expected = [prediction.to_dict() for prediction in classifier.stream(pairs)]
    assert_same(run_script(folder, "--pair", *(half for pair in pairs for half in pair)).stdout, expected)
    assert_same(run_script(folder, "--pair", stdin="".join(f"{a}\t{b}\r\n" for a, b in pairs)).stdout, expected)


@pytest.mark.parametrize(("learnt", "flags"), [(True, ()), (False, ("--pair",))])
def test_texts_of_another_kind_than_the_model_learnt_from_are_answered_with_a_warning(
    exported_of: Exported,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    learnt: bool,
    flags: tuple[str, ...],
) -> None:
    pytest.importorskip("onnxruntime")
    folder = shutil.copytree(exported_of("onnx", "albert")[1], tmp_path / "exported")
    content = json.loads((folder / "elbert.json").read_text())
    (folder / "elbert.json").write_text(json.dumps({**content, "pairs": learnt}))
    done = run_script(folder, *flags, "a film", "a play")
    assert len(done.stdout.splitlines()) == 2 - len(flags)
    assert done.stderr.startswith("run.py: warning: the model learnt from ")
    assert done.stderr.count("\n") == 1


def test_what_it_cannot_do_is_one_line(
    exported_of: Exported, run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    folder = exported_of("onnx", "albert")[1]
    for words, stdin, status, reason in [
        (["--nope"], "", 2, "unknown flag '--nope'; known: --pair, --help"),
        (["a film", "-5 degrees"], "", 2, "unknown flag '-5 degrees'"),
        (["--pair", "alone"], "", 2, "even number of texts, 1"),
        (["--pair"], "no tab\n", 1, "line 1: --pair needs two texts"),
        (["--pair"], "a\ttab\ttoo many\n", 1, "line 1: --pair needs two texts with one tab"),
        (["-", "a film"], "", 2, "- reads standard input and stands alone, 2 texts were given"),
        (["-"], "", 1, "run.py: standard input: no texts; give at least one"),
        ([], "", 1, "run.py: standard input: no texts; give at least one"),
        (["caf\udce9"], "", 1, "not UTF-8"),  # as a shell hands over the byte E9
    ]:
        done = run_script(folder, *words, stdin=stdin)
        assert (done.returncode, done.stdout) == (status, "")
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1
    assert "python run.py" in run_script(folder, "--help").stdout


def test_behind_two_dashes_every_word_is_a_text(
    exported_of: Exported, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pytest.importorskip("onnxruntime")
    classifier, folder = exported_of("onnx", "albert")
    texts = ["a film", "--pair", "-5 degrees", "--", "-"]
    expected = [prediction.to_dict() for prediction in classifier.stream(texts)]
    assert_same(run_script(folder, "a film", "--", *texts[1:]).stdout, expected)
    assert_same(run_script(folder, "--", "-").stdout, expected[-1:])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a graph cut short": ("graphs/step.onnx", cut, "graphs/step.onnx cannot be read (InvalidProtobuf: "),
    "a graph gone": ("graphs/head.onnx", Path.unlink, "graphs/head.onnx is missing"),
    "all graphs gone": ("graphs", shutil.rmtree, "graphs/embed.onnx is missing"),
    "elbert.json cut short": ("elbert.json", cut, "elbert.json cannot be read (JSONDecodeError: "),
    "elbert.json empty": ("elbert.json", lambda path: path.write_text("{}"), "elbert.json cannot be read (KeyError: "),
    "elbert.json gone": ("elbert.json", Path.unlink, "elbert.json is missing"),
    "words.safetensors cut short": ("words.safetensors", cut, "words.safetensors cannot be read ("),
    "words.safetensors gone": ("words.safetensors", Path.unlink, "words.safetensors is missing"),
    "tokenizer.json cut short": ("tokenizer.json", cut, "tokenizer.json cannot be read (Exception: EOF"),
    "tokenizer.json gone": ("tokenizer.json", Path.unlink, "tokenizer.json is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_one_line_that_names_the_file(
    damage: str, exported_of: Exported, run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "damaged"
    shutil.copytree(exported_of("onnx", "words")[1], folder)
    name, damaged, line = DAMAGES[damage]
    damaged(folder / name)
    done = run_script(folder, "a film")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"run.py: {folder}/{line}")
    assert done.stderr.endswith(": export the model again\n")


def test_weights_cut_short_beside_their_graph_are_one_line_too(
    exported_of: Exported, run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    folder = tmp_path / "damaged"
    shutil.copytree(exported_of("openvino", "albert")[1], folder)
    cut(folder / "graphs" / "step.bin")
    done = run_script(folder, "a film")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert re.search(r"step\.xml cannot be read \(RuntimeError: .*bin file!\): export the model again", done.stderr)


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("onnxruntime", "onnxruntime cannot be imported (libgomp: no such file): run pip install onnxruntime"),
        ("tokenizers", "numpy and tokenizers are needed (libgomp: no such file): run pip install numpy tokenizers"),
    ],
)
def test_a_package_that_cannot_be_imported_is_one_line_with_its_install_line(
    package: str,
    reason: str,
    exported_of: Exported,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "exported"
    shutil.copytree(exported_of("onnx", "albert")[1], folder)
    (folder / f"{package}.py").write_text("raise ImportError('libgomp: no such file')\n")  # found first: beside run.py
    done = run_script(folder, "a film")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"run.py: {reason}\n")


def test_a_policy_calibrated_elsewhere_is_warned_of_once_in_the_librarys_words(
    classifier_of: Callable[..., Classifier],
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime")
    classifier = classifier_of()
    classifier.policies = {"mine": classifier.policy, "theirs": make("elbert", threshold=0.3)}
    classifier.calibration = {name: {"backend": "torch", "dtype": "float32"} for name in classifier.policies}
    with pytest.warns(CalibrationWarning) as said:
        folder = export_model(classifier, "onnx", tmp_path / "out")
    assert [str(each.message) for each in said] == [
        "policy 'mine' was calibrated in torch, not onnxruntime: its promise may not hold; "
        f"run elbert calibrate on {folder}"
    ]
    done = run_script(folder, stdin="a film\n" * 50)
    assert (done.returncode, done.stdout.count("\n"), done.stderr.count("\n")) == (0, 50, 1)
    with pytest.warns(CalibrationWarning) as librarys:
        Classifier.from_pretrained(folder)
    (line,) = (str(each.message).partition(";")[0] for each in librarys)
    assert done.stderr.startswith(f"run.py: warning: {line};")
    classifier.calibration["mine"]["backend"] = "onnxruntime"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_model(classifier, "onnx", folder, overwrite=True)
    assert run_script(folder, "a film").stderr == ""


def test_bytes_that_are_no_text_and_a_reader_that_goes_away_give_no_traceback(
    exported_of: Exported, blocked: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    script = [sys.executable, str(exported_of("onnx", "albert")[1] / "run.py")]
    environment = {**os.environ, "PYTHONPATH": str(blocked)}
    wrong = subprocess.run(script, input=b"caf\xe9\n", capture_output=True, env=environment, check=False)
    assert (wrong.returncode, wrong.stderr.count(b"\n")) == (1, 1)
    assert b"not UTF-8" in wrong.stderr
    texts = tmp_path / "texts.txt"
    texts.write_text("a good film\n" * 100)
    with (
        texts.open() as source,
        subprocess.Popen(
            script, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


POLICIES = [
    make("elbert", threshold=0.0, window=2, criterion="range", tolerance=0.5),
    make("pcee", threshold=0.995, patience=1),
    make("f_pabee", threshold=0.001, patience=1),
    make("beem", threshold=1.1),
    make("entropy", threshold=0.99, min_layer=2),
    make("full", max_layer=2),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_every_policy_leaves_where_the_library_lets_it(
    policy: ExitPolicy,
    classifier_of: Callable[..., Classifier],
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    tiny_texts: list[str],
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime")
    classifier = classifier_of(policy=policy)
    folder = export_model(classifier, "onnx", tmp_path / "out")
    expected = [prediction.to_dict() for prediction in classifier.stream(tiny_texts)]
    done = run_script(folder, *tiny_texts)
    assert (done.returncode, done.stderr) == (0, "")
    assert_same(done.stdout, expected)


def test_its_rules_are_the_librarys_own_files(exported_of: Exported) -> None:
    pytest.importorskip("onnxruntime")
    folder = exported_of("onnx", "albert")[1] / "rules" / "elbert"
    library = Path(exits.__file__).parents[1]
    copied = sorted(path.relative_to(folder) for path in folder.rglob("*.py"))
    assert Path("exits/base.py") in copied
    for path in copied:
        assert (folder / path).read_bytes() == (library / path).read_bytes()


def test_a_policy_it_cannot_read_is_one_line(
    exported_of: Exported, run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "exported"
    shutil.copytree(exported_of("onnx", "albert")[1], folder)
    content = json.loads((folder / "elbert.json").read_text())
    content["policies"][content["default_policy"]] = {"name": "fixed", "mood": 1}
    (folder / "elbert.json").write_text(json.dumps(content))
    done = run_script(folder, "a film")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "exit policy 'fixed' has no parameter 'mood'" in done.stderr
