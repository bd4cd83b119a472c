from __future__ import annotations

import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elbert import __version__
from elbert.cli import app, main
from elbert.disk import whole_file
from elbert.errors import DataError, MissingExtraError, UsageError


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """`verb(function)`: makes `elbert probe` call it."""

    def install(function: Callable[[], None]) -> None:
        module = types.ModuleType("elbert_probe")
        function.__name__ = "probe"
        module.probe = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "elbert_probe", module)
        monkeypatch.setitem(app.VERBS, "probe", app.Verb("elbert_probe", "Probe.", "Test"))

    return install


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_help_lists_every_verb_and_imports_neither_torch_nor_a_verb() -> None:
    program = (
        "import sys; from elbert.cli import main; status = main(['--help']); "
        "loaded = {'torch', 'transformers', 'numpy', 'elbert.cli.predict', 'elbert.data'} & set(sys.modules); "
        "sys.exit(status or (f'loaded: {loaded}' if loaded else 0))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, verb in app.VERBS.items():
        assert name in done.stdout
        assert verb.summary in done.stdout


def test_the_help_page_of_a_verb_does_not_import_torch() -> None:
    program = (
        "import sys; from elbert.cli import main; from elbert.cli.app import VERBS; "
        "[main([verb, '--help']) for verb in VERBS]; sys.exit('torch is loaded' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", list(app.VERBS))
def test_every_verb_has_a_page_with_an_example(name: str, run: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = run(name, "--help")
    assert status == 0
    assert "Example:" in out
    assert f"      elbert {name}" in out
    assert "Args:" not in out
    assert len(app.VERBS[name].summary) < 70


def test_no_word_at_all_shows_the_help(run: Callable[..., tuple[int, str, str]]) -> None:
    assert run() == run("--help")


def test_version(run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("--version") == (0, f"elbert {__version__}\n", "")


def test_an_unknown_verb_names_the_closest(refused: Callable[..., str]) -> None:
    assert "did you mean 'evaluate'?" in refused("evalaute")


def test_an_unknown_option_is_one_line_and_names_the_help_page(refused: Callable[..., str]) -> None:
    assert "'elbert predict --help'" in refused("predict", "model", "text", "--polciy", "elbert")


def test_a_missing_argument_is_one_line(refused: Callable[..., str]) -> None:
    assert "MODEL" in refused("predict")


@pytest.mark.parametrize("name", list(app.VERBS))
def test_a_value_that_is_no_number_is_repeated_with_what_is_allowed(name: str, refused: Callable[..., str]) -> None:
    numbers = {int: "a whole number", float: "a number"}
    flags = {
        parameter.opts[0]: numbers[parameter.type_descriptor.annotation]
        for parameter in app.build_command(name, app.VERBS[name]).params
        if parameter.type_descriptor.annotation in numbers
    }
    assert flags or name in ("policies", "schemes")
    for flag, allowed in flags.items():
        said = refused(name, flag, "abc")
        assert said.startswith(f"elbert: {flag} is 'abc'; allowed: {allowed}")
        assert said.endswith(f"; see 'elbert {name} --help'\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["predict", "model", "text", "--batch-size", "0"],
            "--batch-size is '0'; allowed: a whole number of 1 or more",
        ),
        (["check", "model", "data", "--fail-below", "3"], "--fail-below is '3'; allowed: a number from 0 to 1"),
    ],
)
def test_a_number_out_of_range_is_repeated_with_the_range(
    words: list[str], said: str, refused: Callable[..., str]
) -> None:
    assert said in refused(*words)


def test_a_variable_that_is_no_number_is_named(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "abc")
    assert "--port (by the variable PORT) is 'abc'; allowed: a whole number" in refused("serve")


def test_a_truth_value_in_a_variable_is_repeated(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTO_TRUNCATE", "perhaps")
    assert "(by the variable AUTO_TRUNCATE) is 'perhaps'; allowed: true or false" in refused("serve")


# Every way in which a verb takes a model, with NAME for it.
MODELS = [
    "predict NAME text",
    "evaluate NAME DATA",
    "calibrate NAME DATA",
    "calibrate NAME DATA --out OUT",
    "check NAME DATA",
    "sweep NAME DATA --out OUT",
    "sweep MODEL DATA --also NAME --out OUT",
    "bench NAME DATA --against none",
    "explain NAME text --json",
    "export NAME --out OUT",
    "serve NAME --port 0",
    "serve mood=NAME --port 0",
    "cascade MODEL NAME --data DATA --out OUT",
    "train DATA --model NAME --out OUT",
    "train DATA --teacher NAME --out OUT",
    "pretrain CORPUS --teacher NAME --out OUT",
    "pretrain CORPUS --start NAME --out OUT",
]


@pytest.mark.parametrize("words", MODELS)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mini-sentimnet", "there is no model 'mini-sentimnet' here: "),
        ("./no/model", "there is no model folder './no/model'; bundled checkpoints: "),
    ],
)
def test_a_model_that_is_not_there_is_told_as_that(
    words: str, name: str, said: str, run: Callable[..., Any], model_folder: Path, reviews: Path, tmp_path: Path
) -> None:
    corpus, out = tmp_path / "corpus.txt", tmp_path / "out"
    corpus.write_text("a good film\n\na bad film\n" * 50)
    places = {"MODEL": model_folder, "DATA": reviews, "OUT": out, "CORPUS": corpus}
    given = [places.get(word, word.replace("NAME", name)) for word in words.split()]
    status, stdout, err = run(*given)
    assert (status, stdout) == (2, "")
    line = err.splitlines()[-1]
    assert line.startswith(f"elbert: {said}")
    assert ("did you mean 'mini-sentiment'? Bundled checkpoints: mini" in line) == (name == "mini-sentimnet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "reviews.csv"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["predict", "", "a text"], "MODEL"),
        (["predict", "model", "--input", ""], "--input"),
        (["predict", "model", "a text", "--output="], "--output"),
        (["evaluate", "model", ""], "DATA"),
        (["calibrate", "model", "data", "--max-drop", "0.01", "--name", ""], "--name"),
        (["sweep", "model", "data", "--also", "", "--out", "out"], "--also"),
        (["train", "data", "--out", ""], "--out"),
        (["pretrain", "corpus.txt", "", "--out", "out"], "CORPUS…"),
    ],
)
def test_an_empty_name_or_path_is_neither_ignored_nor_the_current_folder(
    words: list[str], what: str, model_folder: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.chdir(model_folder)
    assert refused(*words).startswith(f"elbert: {what} is empty")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UsageError("no such thing"), 2, "elbert: no such thing\n"),
        (DataError("row 3 is\nbroken"), 1, "elbert: row 3 is broken\n"),
        (MissingExtraError("matplotlib", "plots"), 1, "pip install 'elbert[plots]'"),
        (ModuleNotFoundError("No module named 'sklearn.metrics'", name="sklearn.metrics"), 1, "sklearn is needed"),
        (ModuleNotFoundError("No module named 'elbert.oops'", name="elbert.oops"), 1, "bug"),
        (OSError(28, "No space left on device", "out.csv"), 1, "No space left on device: 'out.csv'; free some space"),
        (PermissionError(13, "Permission denied"), 1, "elbert: Permission denied\n"),
        (MemoryError(), 1, "--batch-size"),
        (KeyboardInterrupt(), 130, "elbert: interrupted\n"),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_ends_in_one_line_and_its_exit_status(
    error: BaseException,
    status: int,
    line: str,
    verb: Callable[[Callable[[], None]], None],
    run: Callable[..., tuple[int, str, str]],
) -> None:
    verb(raising(error))
    given, out, err = run("probe")
    assert (given, out) == (status, "")
    assert line in err
    assert err.count("\n") == (1 if line else 0)


def test_sigterm_cleans_up_as_ctrl_c_does_and_ends_with_143(
    verb: Callable[[Callable[[], None]], None], run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    def write() -> None:
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # or these tests would end here
        with whole_file(tmp_path / "answers.csv") as stream:
            stream.write("half")
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)  # some send two

    verb(write)
    assert run("probe") == (143, "", "elbert: terminated\n")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_callers_own_answer_to_sigterm_stays(
    verb: Callable[[Callable[[], None]], None], run: Callable[..., tuple[int, str, str]]
) -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("theirs"))
    try:
        verb(lambda: signal.raise_signal(signal.SIGTERM))
        assert run("probe")[0] == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == ["theirs"]


def test_a_bug_is_one_line_that_tells_how_to_see_more(
    verb: Callable[[Callable[[], None]], None],
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verb(raising(ZeroDivisionError("by zero")))
    monkeypatch.delenv("ELBERT_DEBUG", raising=False)
    status, _, err = run("probe")
    assert status == 1
    assert err.count("\n") == 1
    assert "bug" in err
    assert "ELBERT_DEBUG=1" in err


def test_a_bug_keeps_its_traceback_where_that_is_asked_for(
    verb: Callable[[Callable[[], None]], None],
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verb(raising(ZeroDivisionError("by zero")))
    monkeypatch.setenv("ELBERT_DEBUG", "1")
    _, _, err = run("probe")
    assert "Traceback" in err


def test_docstring_sections_for_readers_of_the_code_stay_off_the_page() -> None:
    def probe() -> None:
        """Do it.

        More words.

        Example:
            elbert probe

        Args:
            secret: hidden.
        """

    page = app.help_page(probe)
    assert "More words." in page
    assert "\b\nExample:\n    elbert probe" in page
    assert "secret" not in page


def test_a_reader_that_goes_away_ends_the_program_quietly(model_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "many.txt"
    source.write_text("a good film\n" * 5000)
    command = [sys.executable, "-c", "import sys; from elbert.cli import main; sys.exit(main())"]
    with subprocess.Popen(
        [*command, "predict", str(model_folder), "--input", str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("{")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_is_one_line() -> None:
    command = [sys.executable, "-c", "import sys; from elbert.cli import main; sys.exit(main())", "--version"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "elbert: No space left on device; free some space, or write the output elsewhere\n",
    )


def test_main_leaves_an_exit_status_for_every_word(run: Callable[..., Any]) -> None:
    assert main(["--help"]) == 0
    assert main(["predict"]) == 2
