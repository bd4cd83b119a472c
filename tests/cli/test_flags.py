from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from elbert.cli.flags import FlagsOf, described, unbundle
from elbert.cli.pretrain import pretrain
from elbert.cli.serve import serve
from elbert.cli.train import train


@dataclass(frozen=True)
class Oven:
    """An oven.

    Attributes:
        degrees: how hot, in `celsius`; None for as
            hot as it gets. Others are lit.
        trays: at once.
        fan: blow.
        lit: not a flag.
    """

    degrees: float | None = None
    trays: int = 2
    fan: bool = True
    lit: bool = False


def bake(given: Annotated[dict[str, Any], FlagsOf(Oven, ("degrees", "trays", "fan"), environment=True)]) -> None:
    """Bake."""
    typer.echo(repr(given))


@pytest.fixture
def baked() -> Any:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(unbundle(bake))
    return lambda *words, **env: CliRunner().invoke(app, list(words), env=env, terminal_width=200).stdout


def test_settings_come_with_their_names_types_words_and_defaults(baked: Any) -> None:
    page = baked("--help")
    assert "How hot, in celsius. Others are lit.  [default: as hot as it gets]" in page
    assert "At once.  [default: 2]" in page
    assert "Blow.  [default: true]" in page
    assert "--lit" not in page
    assert described(Oven)["degrees"] == "how hot, in `celsius`; None for as hot as it gets. Others are lit."


def test_only_what_was_given_is_handed_on(baked: Any) -> None:
    assert baked().strip() == "{}"
    assert baked("--trays", "2", "--no-fan").strip() == "{'trays': 2, 'fan': False}"
    assert baked(DEGREES="180").strip() == "{'degrees': 180.0}"


@pytest.mark.parametrize("verb", [train, pretrain, serve], ids=lambda verb: verb.__name__)
def test_every_setting_that_is_a_flag_is_described(verb: Any) -> None:
    [bundle] = [
        mark
        for hint in _hints(verb).values()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, FlagsOf)
    ]
    assert set(bundle.names) <= described(bundle.settings).keys()


def _hints(verb: Any) -> dict[str, Any]:
    from typing import get_type_hints

    return get_type_hints(verb, include_extras=True)
