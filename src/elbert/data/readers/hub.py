"""Reads `hub:NAME[:CONFIG[:SPLIT]]` through the datasets library, which keeps what it fetched in its own cache.

NAME is a data set's id on the hub, or a local folder that datasets itself can read. Code from a hub is never run.
"""

from __future__ import annotations

import logging
from typing import Any

from elbert.data.readers.dataset import read_dataset
from elbert.data.table import Table
from elbert.errors import UsageError
from elbert.lazy import from_extra

HUB_PREFIX = "hub:"


def read_hub(source: str, split: str) -> Table:
    """Load a data set by its id.

    Args:
        source: `hub:NAME[:CONFIG[:SPLIT]]`; an empty CONFIG means none.
        split: used where the id names none.

    Raises:
        UsageError: a malformed id, no such data set, or one that is neither reachable nor in the cache.
        MissingExtraError: datasets is not installed.
    """
    name, config, named_split = parse_hub(source)
    return read_dataset(_load(from_extra("train", "datasets"), name, config), named_split or split, source)


def parse_hub(source: str) -> tuple[str, str | None, str | None]:
    """Split `hub:NAME[:CONFIG[:SPLIT]]` into its parts.

    Raises:
        UsageError: no name, or too many parts.
    """
    name, *rest = source.removeprefix(HUB_PREFIX).split(":")
    if not name or len(rest) > 2:
        raise UsageError(f"cannot read {source!r}; allowed: hub:NAME, hub:NAME:CONFIG or hub:NAME:CONFIG:SPLIT")
    config, split = [*rest, "", ""][:2]
    return name, config or None, split or None


def _load(datasets: Any, name: str, config: str | None) -> Any:
    # Its retries would be a dozen lines of warnings; what they came to is raised below.
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        return datasets.load_dataset(name, config)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        cache = datasets.config.HF_DATASETS_CACHE
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"cannot load data set {name!r}{f' with config {config!r}' if config else ''} ({reason}); check the name, "
            f"or go online once so that it is kept in the cache {str(cache)!r}, or give a file or folder"
        ) from None
    finally:
        hub.setLevel(level)
