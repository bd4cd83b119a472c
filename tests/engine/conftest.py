"""What several tests of the engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from elbert.engine.requests import Arrival


class Endless:
    """Texts without end; `read` of them have been asked for."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[Arrival]:
        while True:
            yield Arrival(self.read, [1 + self.read % 40] * (1 + self.read % 9))
            self.read += 1


@pytest.fixture
def endless() -> Endless:
    """Return texts without end."""
    return Endless()
