"""Every command in the docs is one that its program would take: parsed by the real parser, never run."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from elbert.cli.app import VERBS, build_command
from elbert.exits import names
from elbert.training.schemes import SCHEMES
from tests.docs.pages import PAGES, TOP, Block, blocks, name_of, prose

# Programs that are not ours: what they are given is their business.
FOREIGN = {".", "awk", "cat", "curl", "gzip", "jq", "mail", "ray"}

# Flags of other programs that prose may name.
FOREIGN_FLAGS = {"--hypothesis-profile"}

# A policy may also be a level that calibrating, or gates that training, saved with the model.
SAVED = {"exact", "drop-0.5", "drop-1", "drop-2", "gated"}


def commands(code: str) -> Iterator[list[str]]:
    """Yield every command of a shell block as its words, without what redirects or sets the environment."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set("|&;") and word:
                if command:
                    yield command
                command = []
            elif command or not re.fullmatch(r"\w+=.*", word):
                command.append(word)


def check(words: list[str]) -> None:
    """Raise whatever a program, or its parser, finds wrong with a command."""
    program, *rest = [word for word in words if word not in ("<", ">", ">>")]
    if program == "elbert":
        parse(rest)
    elif program == "torchrun":
        parse(rest[rest.index("elbert") + 1 :])
    elif program == "python" and rest[0].startswith("benchmarks/"):
        given = [word.partition("=")[0] for word in rest if word.startswith("--")]
        assert [flag for flag in given if not flags_of_benchmark(rest[0]).fullmatch(flag)] == []
    elif program == "python":
        assert rest[0] == "exported/run.py" or (TOP / rest[0]).is_file() or rest[0] == "-m", words
    elif program == "make":
        assert re.search(rf"^{re.escape(rest[0])}:", (TOP / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), (
            words
        )
    elif program == "pip":
        asked = re.findall(r"elbert\[([\w,]+)\]", " ".join(rest))
        assert set(",".join(asked).split(",")) - {""} <= extras(), words
    elif program == "pytest":
        assert all((TOP / word).exists() for word in rest if not word.startswith("-")), words
    else:
        assert program in FOREIGN, words


def parse(words: list[str]) -> None:
    """Hand the words to the verb's own parser, and look its policy and scheme up."""
    verb, *rest = words
    assert verb in VERBS, f"no verb {verb!r}"
    if ">" in rest:
        rest = rest[: rest.index(">")]
    context = build_command(verb, VERBS[verb]).make_context(f"elbert {verb}", rest)
    given = context.params
    assert given.get("policy") in {None, *names(), *SAVED}, f"no policy {given['policy']!r}"
    assert given.get("scheme") is None or given["scheme"] in SCHEMES, f"no scheme {given['scheme']!r}"


@cache
def flags_of_benchmark(script: str) -> re.Pattern[str]:
    """Return what matches the flags that stand in a benchmark's source, or in that of a neighbour it imports."""
    source = (TOP / script).read_text(encoding="utf-8")
    imported = re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE)
    beside = [path for name in imported if (path := TOP / "benchmarks" / f"{name}.py").is_file()]
    sources = [source, *(path.read_text(encoding="utf-8") for path in beside)]
    written = re.findall(r"\"(--[a-z{][\w{}-]*)\"", "\n".join(sources))
    return re.compile("|".join(re.sub(r"\{\w+\}", r"\\w+", flag) for flag in written))


@cache
def extras() -> set[str]:
    with (TOP / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["project"]["optional-dependencies"])


@cache
def all_flags() -> re.Pattern[str]:
    """Return what matches every flag of every verb and benchmark."""
    ours = {
        word
        for verb, entry in VERBS.items()
        for parameter in build_command(verb, entry).params
        for word in (*parameter.opts, *parameter.secondary_opts)
    }
    theirs = [flags_of_benchmark(str(path.relative_to(TOP))).pattern for path in (TOP / "benchmarks").glob("*.py")]
    return re.compile("|".join(filter(None, [*map(re.escape, ours), *theirs, "--help", "--version", *FOREIGN_FLAGS])))


@pytest.mark.parametrize("block", blocks("sh", "bash"), ids=str)
def test_a_shell_block_is_what_its_programs_take(block: Block) -> None:
    found = list(commands(block.code))
    assert found
    for words in found:
        check(words)


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_a_help_page_are_what_the_verb_takes(verb: str) -> None:
    entry = VERBS[verb]
    module = __import__(entry.module, fromlist=[verb])
    example = inspect.cleandoc(getattr(module, verb).__doc__).partition("Example:\n")[2].partition("\n\n")[0]
    found = list(commands(inspect.cleandoc(example)))
    assert found
    for words in found:
        check(words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_flags_and_commands_that_prose_names_exist(page: Path) -> None:
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code):
            assert all_flags().fullmatch(flag), f"{code}: no {flag}"
        if verb := re.match(r"elbert (?!\[)([a-z]+)", code):
            assert verb[1] in VERBS, code


@pytest.mark.parametrize(
    "line", ["elbert predcit a b", "elbert predict m x --tresh 1", "make nothing", "python benchmarks/engine.py --no",
             "elbert train a --out b --scheme none", "pip install 'elbert[nothing]'", "rm -rf x"],
)  # fmt: skip
def test_a_command_that_no_program_takes_is_found(line: str) -> None:
    (words,) = commands(line)
    with pytest.raises(Exception, match=r"."):
        check(words)


def test_comments_pipes_and_variables_are_no_words_of_a_command() -> None:
    code = 'A=1 elbert bench m t.csv \\\n  --json | jq .rows  # what for\nelbert predict m "a | b" > out; make demo\n'
    assert list(commands(code)) == [
        ["elbert", "bench", "m", "t.csv", "--json"],
        ["jq", ".rows"],
        ["elbert", "predict", "m", "a | b", ">", "out"],
        ["make", "demo"],
    ]
