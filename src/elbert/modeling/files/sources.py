"""From the name of a model to a folder on this machine. Does not read what is in it.

A name is, in this order: a folder, a bundled checkpoint, or a hub id. The hub is asked only for a name that is none of
the others, and only for the safetensors, JSON and vocabulary files of a model.
"""

from __future__ import annotations

import re
from pathlib import Path

from elbert.errors import UsageError, closest
from elbert.modeling.configs import RANDOM_CONFIGS

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
)
# What a tokenizer may have beside one of these.
TOKENIZER_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", "bpe.codes")

# What a folder of several models says of itself; they lie in folders of their own in it.
CASCADE = "cascade.json"

_HUB_FILES = [
    "config.json",
    "elbert.json",
    "README.md",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "exit_heads.safetensors",
    "policies.safetensors",
    "words.safetensors",
    "graphs/*",  # of an exported model
    *TOKENIZER_FILES,
    *TOKENIZER_BESIDE,
]
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?", re.ASCII)


def bundled_names() -> list[str]:
    """Return the names of the checkpoints that come with the package."""
    return sorted(config.parent.name for config in CHECKPOINTS.glob("*/config.json"))


def is_cascade(name: str | Path) -> bool:
    """Tell whether a name is that of a folder which holds several models in a row."""
    return (Path(name).expanduser() / CASCADE).is_file()


def find_folder(name: str | Path) -> Path:
    """Return the folder that the model called `name` lies in, downloading it if it is a hub id.

    Raises:
        UsageError: there is no such model, or the hub cannot be asked.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise UsageError(f"{name} is a file: name the folder of the model it belongs to")
    if str(name) in bundled_names():
        return CHECKPOINTS / str(name)
    if str(name) in RANDOM_CONFIGS:
        raise UsageError(f"{name} is a shape with random weights and no trained model; train one with --model {name}")
    if isinstance(name, Path) or not _HUB_ID.fullmatch(name):
        raise UsageError(f"there is no model folder {str(name)!r}{_known(name)}")
    return _download(name)


def find_model(name: str | Path) -> Path:
    """Return the folder of one model, as `find_folder` does.

    Raises:
        UsageError: there is no such model, or it is a cascade of several.
    """
    folder = find_folder(name)
    if is_cascade(folder):
        raise UsageError(
            f"{name} is a cascade of models: predict, evaluate and serve take it, and Cascade.from_pretrained reads it"
        )
    return folder


def _download(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download  # not needed for a folder
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except GatedRepoError:
        reason = "the hub asks for permission to read it: accept its terms there and run hf auth login"
    except RepositoryNotFoundError:
        reason = "the hub has none of that name, or it is private: check the name or run hf auth login"
    except OfflineModeIsEnabled:
        reason = f"offline mode is on and it is not in the cache {constants.HF_HUB_CACHE}"
    except LocalEntryNotFoundError:
        reason = f"the hub cannot be reached (offline?) and it is not in the cache {constants.HF_HUB_CACHE}"
    except HFValidationError:
        reason = "it is no valid hub id either"
    except HfHubHTTPError as error:
        reason = f"the hub refused it ({str(error).splitlines()[0]})"
    raise UsageError(f"there is no model {name!r} here: {reason}{_known(name)}")


def _known(name: str | Path) -> str:
    """Return what there is without the hub, to end an error line with; before it the name that is closest."""
    bundled = bundled_names()
    hint = closest(name, [*bundled, *RANDOM_CONFIGS])
    return (
        f"{hint or ';'} {'B' if hint else 'b'}undled checkpoints: {', '.join(bundled) or 'none in this build'}; "
        f"random weights: {', '.join(RANDOM_CONFIGS)}"
    )
