"""`elbert serve`: models behind HTTP. The flags; the server is in `elbert.serving`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elbert.cli import options
from elbert.cli.flags import FlagsOf
from elbert.errors import MissingExtraError, UsageError
from elbert.scaleout.workers import load_classifier
from elbert.serving.settings import ServeSettings

if TYPE_CHECKING:
    from elbert.cascade import Cascade
    from elbert.classifier import Classifier

# What a fresh install can serve at once.
_BUNDLED = "mini-sentiment"

# Keys have a flag of their own, which is given once for each of them.
_FLAGS = tuple(field.name for field in fields(ServeSettings) if field.name != "api_keys")

_REPLICAS = 4

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def serve(
    limits: Annotated[dict[str, Any], FlagsOf(ServeSettings, _FLAGS, environment=True)],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL…]",
            envvar="MODEL_ID",
            show_default=False,
            help="Folders, of cascades too, hub ids or bundled checkpoints, each as MODEL or NAME=MODEL; "
            "mini-sentiment unless given.",
        ),
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(envvar="API_KEY", show_envvar=True, help="Bearer key that requests have to bring; repeatable."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Deploy on Ray Serve instead, a core a replica: auto, local, or a cluster's address.",
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Replicas at most, as many as the texts in flight fill; needs --ray.  [default: {_REPLICAS}]"
        ),
    ] = None,
    loading: options.LoadFlags = options.LOADING,
) -> None:
    """Serve models over HTTP: POST /predict and /v1/classify, GET /health, /info, /metrics and /docs.

    SIGTERM answers what is under way and ends; SIGHUP loads the models anew without losing a request. Texts are never
    logged.

    Example:
        elbert serve
        elbert serve runs/mine --port 8080 --api-key "$KEY"
        elbert serve mood=runs/sentiment topic=runs/topics
        elbert serve runs/mine --ray auto --replicas 16
        curl -s 127.0.0.1:3000/predict -H 'content-type: application/json' -d '{"inputs": "What a film!"}'
    """
    try:
        from elbert.serving.server import serve as run
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve", error) from None
    settings = ServeSettings(**limits, api_keys=tuple(api_key or ()))
    loaders = {name: _loader(model, loading) for name, model in names_of(models or [_BUNDLED]).items()}
    if ray is None:
        if replicas is not None:
            raise UsageError(
                "--replicas was given without --ray, and one server has none; add --ray auto, or leave it out"
            )
        run(loaders, settings)
        return
    from elbert.scaleout.ray_serve import serve_on_ray

    serve_on_ray(loaders, settings, address=ray, replicas=replicas or _REPLICAS)


def names_of(words: list[str]) -> dict[str, str]:
    """Return models by the name each is called by: NAME of NAME=MODEL, else the last part of the model's own.

    Raises:
        UsageError: two have the same name, or a name is none.
    """
    found: dict[str, str] = {}
    for word in words:
        name, mark, model = word.partition("=")
        if not mark or (not _NAME.fullmatch(name) and Path(word).exists()):  # a folder's name may have the mark too
            name, model = Path(word).name or word, word
        elif not _NAME.fullmatch(name):
            raise UsageError(
                f"{name[:60]!r} is no name for a model; allowed: letters, digits, '.', '_' and '-', a letter or digit "
                "first, as in NAME=MODEL"
            )
        if name in found:
            raise UsageError(f"two models are called {name!r}; give one of them another name: NAME=MODEL")
        found[name] = model
    return found


def _loader(model: str, loading: options.LoadFlags) -> Callable[[], Classifier | Cascade]:
    return partial(load_classifier, model, **asdict(loading))
