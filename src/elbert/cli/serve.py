"""`elbert serve`: models behind HTTP. The flags; the server is in `elbert.serving`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elbert.cli import options
from elbert.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from elbert.classifier import Classifier

# What a fresh install can serve at once.
_BUNDLED = "mini-sentiment"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL…]",
            envvar="MODEL_ID",
            show_default=False,
            help="Folders, hub ids or bundled checkpoints, each as MODEL or NAME=MODEL; mini-sentiment unless given.",
        ),
    ] = None,
    hostname: Annotated[str, typer.Option(envvar="HOSTNAME", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="PORT", help="Port to listen on; 0 takes a free one.")] = 3000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(envvar="API_KEY", show_envvar=True, help="Bearer key that requests have to bring; repeatable."),
    ] = None,
    max_concurrent_requests: Annotated[
        int, typer.Option(envvar="MAX_CONCURRENT_REQUESTS", help="Requests at once; more are refused with 429.")
    ] = 512,
    max_queue_tokens: Annotated[
        int, typer.Option(envvar="MAX_QUEUE_TOKENS", help="Tokens waiting or running; more are refused with 429.")
    ] = 131_072,
    max_batch_tokens: Annotated[
        int | None, typer.Option(envvar="MAX_BATCH_TOKENS", help="Tokens stepped together.  [default: the device's]")
    ] = None,
    max_batch_requests: Annotated[int, typer.Option(envvar="MAX_BATCH_REQUESTS", help="Texts stepped together.")] = 32,
    max_client_batch_size: Annotated[
        int, typer.Option(envvar="MAX_CLIENT_BATCH_SIZE", help="Texts in one request; more are refused with 413.")
    ] = 32,
    payload_limit: Annotated[
        int, typer.Option(envvar="PAYLOAD_LIMIT", help="Bytes in one body; more are refused with 413.")
    ] = 2_000_000,
    auto_truncate: Annotated[
        bool, typer.Option(envvar="AUTO_TRUNCATE", help="Cut off what the model cannot read, or refuse it with 413.")
    ] = True,
    max_layers: Annotated[
        int | None, typer.Option(envvar="MAX_LAYERS", help="Layers any text runs at most.  [default: the model's]")
    ] = None,
    key_layers_per_text: Annotated[
        float | None,
        typer.Option(
            envvar="KEY_LAYERS_PER_TEXT",
            help="Layers a key's texts may run in the mean; after that they get fewer.  [default: no limit]",
        ),
    ] = None,
    key_layers_per_second: Annotated[
        float | None,
        typer.Option(
            envvar="KEY_LAYERS_PER_SECOND",
            help="Layers a key's texts may run in a second; more are refused with 429.  [default: no limit]",
        ),
    ] = None,
    fastest_level: Annotated[
        str | None,
        typer.Option(
            envvar="FASTEST_LEVEL",
            help="Speed level, by name, that the server may go up to while many wait.  [default: the usual one]",
        ),
    ] = None,
    feedback_share: Annotated[
        float,
        typer.Option(
            envvar="FEEDBACK_SHARE", help="Share of early answers compared with full depth once they were sent, 0 to 1."
        ),
    ] = 0.0,
    policy_state: Annotated[
        str | None,
        typer.Option(
            envvar="POLICY_STATE",
            metavar="FOLDER",
            help="Where bandit policies keep what they learn, from one run to the next.  [default: nowhere]",
        ),
    ] = None,
    drain_timeout: Annotated[
        int, typer.Option(envvar="DRAIN_TIMEOUT", help="Seconds that requests may take to end after SIGTERM.")
    ] = 30,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Deploy on Ray Serve instead, a core a replica: auto, local, or a cluster's address.",
        ),
    ] = None,
    replicas: Annotated[
        int, typer.Option(min=1, help="Replicas at most, as many as the texts in flight fill; needs --ray.")
    ] = 4,
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
    from elbert.serving.settings import ServeSettings

    settings = ServeSettings(
        hostname=hostname,
        port=port,
        max_concurrent_requests=max_concurrent_requests,
        max_queue_tokens=max_queue_tokens,
        max_batch_tokens=max_batch_tokens,
        max_batch_requests=max_batch_requests,
        max_client_batch_size=max_client_batch_size,
        payload_limit=payload_limit,
        auto_truncate=auto_truncate,
        max_layers=max_layers,
        key_layers_per_text=key_layers_per_text,
        key_layers_per_second=key_layers_per_second,
        fastest_level=fastest_level,
        feedback_share=feedback_share,
        api_keys=tuple(api_key or ()),
        policy_state=policy_state,
        drain_timeout=drain_timeout,
    )
    loaders = {name: _loader(model, loading) for name, model in names_of(models or [_BUNDLED]).items()}
    if ray is None:
        run(loaders, settings)
        return
    from elbert.scaleout.ray_serve import serve_on_ray

    serve_on_ray(loaders, settings, address=ray, replicas=replicas)


def names_of(words: list[str]) -> dict[str, str]:
    """Return models by the name each is called by: NAME of NAME=MODEL, else the last part of the model's own.

    Raises:
        UsageError: two have the same name.
    """
    found: dict[str, str] = {}
    for word in words:
        name, mark, model = word.partition("=")
        if not mark or not _NAME.fullmatch(name):
            name, model = Path(word).name or word, word
        if name in found:
            raise UsageError(f"two models are called {name!r}; give one of them another name: NAME=MODEL")
        found[name] = model
    return found


def _loader(model: str, loading: options.LoadFlags) -> Callable[[], Classifier]:
    from elbert.classifier import Classifier

    return partial(Classifier.from_pretrained, model, **asdict(loading))
