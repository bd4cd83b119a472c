"""What pyproject.toml declares: dependencies have a pin within their bounds, and extras bring what they are for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

TOP = Path(__file__).parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (TOP / "constraints.txt").read_text("utf-8"), re.MULTILINE)
}
FROM_EXTRA = re.compile(r"from_extra\(\"(\w+)\", \"([\w.]+)\"(?:, \"([\w-]+)\")?\)")
NEEDED = re.compile(r"MissingExtraError\((?:error\.name or )?\"([\w-]+)\", \"(\w+)\"")

# What users have no use for, what is a toolchain of its own, and the sum itself.
APART = {"dev", "docs", "ray", "all"}


def brought(extra: str) -> Iterator[Requirement]:
    """Yield what an extra asks for, the extras it is made of included."""
    for line in EXTRAS[extra]:
        requirement = Requirement(line)
        if requirement.name == "elbert":
            for other in requirement.extras:
                yield from brought(other)
        else:
            yield requirement


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_every_dependency_is_pinned_to_a_version_that_its_bounds_allow(extra: str | None) -> None:
    requirements = map(Requirement, PROJECT["dependencies"]) if extra is None else brought(extra)
    for requirement in requirements:
        pin = PINS.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} has no pin in constraints.txt"
        assert requirement.specifier, f"{requirement.name} has no lower bound"
        assert pin in requirement.specifier, f"{requirement} beside the pin {pin}"


def test_all_brings_every_extra_that_a_user_has_a_use_for() -> None:
    (asked,) = map(Requirement, EXTRAS["all"])
    assert asked.extras == set(EXTRAS) - APART


def test_the_install_line_of_an_error_brings_what_is_missing() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (TOP / "src").rglob("*.py")]
    found = {pair for source in sources for pair in NEEDED.findall(source)}
    asked = {each for source in sources for each in FROM_EXTRA.findall(source)}
    found |= {(package or module.split(".")[0], extra) for extra, module, package in asked}
    assert len(found) > 12
    for package, extra in found:
        assert package in {requirement.name for requirement in brought(extra)}, f"{package} is not in {extra!r}"


def test_the_version_is_a_semantic_one_and_the_changelog_knows_it() -> None:
    from elbert import __version__

    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    newest = re.search(r"^## (\S+)", (TOP / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
