"""What is loaded when it is first used: names of slow packages, and modules that an extra brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from elbert.errors import MissingExtraError


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package.

    Args:
        package: its name.
        homes: the module that each of its names comes from.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return load


def from_extra(extra: str, module: str, package: str = "") -> Any:
    """Return a module that this package can do without.

    Args:
        extra: the one that brings it.
        module: its full name, such as `scipy.optimize`.
        package: what it is installed as; by default the first part of that name.

    Raises:
        MissingExtraError: it is not installed, or cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        raise MissingExtraError(package or module.partition(".")[0], extra, None if absent else error) from None
