"""The models of a server by name, and how they are loaded anew while requests go on."""

from __future__ import annotations

import asyncio
import logging
import reprlib
from collections.abc import Callable, Iterator, Mapping

from elbert.cascade import Cascade
from elbert.classifier import Classifier
from elbert.errors import UsageError, did_you_mean
from elbert.serving.delays import Delays
from elbert.serving.metrics import Metrics
from elbert.serving.refusals import Refusal
from elbert.serving.served import ServedModel
from elbert.serving.served_cascade import Served, ServedCascade
from elbert.serving.settings import ServeSettings

_log = logging.getLogger("elbert.serving")


class Models:
    """Models under the names that requests call them by; the first is the one of requests that name none.

    Args:
        loaders: by name, what loads each; called once more for every reload.
        settings: the server's.
        metrics: likewise.
        on_warm: called once all models have answered for the first time.

    Attributes:
        delays: of the event loop they answer in.

    Raises:
        ElbertError: a model cannot be loaded.
    """

    def __init__(
        self,
        loaders: Mapping[str, Callable[[], Classifier | Cascade]],
        settings: ServeSettings,
        metrics: Metrics,
        *,
        on_warm: Callable[[], object] = lambda: None,
    ) -> None:
        if not loaders:
            raise UsageError("there is no model to serve; name at least one")
        self._loaders = dict(loaders)
        self._settings = settings
        self._metrics = metrics
        self._on_warm = on_warm
        self._reloading = asyncio.Lock()
        self.delays = Delays()
        self._served = {name: self._serve(name, load()) for name, load in self._loaders.items()}

    def __iter__(self) -> Iterator[Served]:
        return iter(list(self._served.values()))

    @property
    def healthy(self) -> bool:
        """True while every model is warm and its worker answers."""
        return all(served.healthy for served in self)

    def find(self, name: str | None) -> Served:
        """Return the model of this name; of None the first.

        Raises:
            Refusal: there is none such.
        """
        if name is None:
            return next(iter(self))
        if name not in self._served:
            raise Refusal(404, "Model", f"there is no model {reprlib.repr(name)}{did_you_mean(name, self._served)}")
        return self._served[name]

    def _serve(self, name: str, classifier: Classifier | Cascade) -> Served:
        if isinstance(classifier, Cascade):
            return ServedCascade(name, classifier, self._settings, self._metrics, self.delays)
        return ServedModel(name, classifier, self._settings, self._metrics, self.delays)

    async def warm_up(self) -> None:
        """Let every model answer once."""
        for served in self:
            await served.warm_up()
        self._on_warm()

    async def reload(self) -> None:
        """Load every model anew, and put it in the place of the old one once it has answered.

        Requests under way are answered by the model that took them. One that fails to load leaves the old one serving.
        """
        async with self._reloading:
            for name in self._loaders:
                await self._reload(name)

    async def _reload(self, name: str) -> None:
        fresh: Served | None = None
        try:
            classifier = await asyncio.to_thread(self._loaders[name])
            self._served[name].save()  # for the new one to go on from
            fresh = self._serve(name, classifier)
            await fresh.warm_up()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new one, the old one goes on
            _log.error("model %s was not reloaded, the old one goes on: %s", name, error)
            self._metrics.reloads.labels(name, "failed").inc()
            if fresh is not None:
                await fresh.close()
            return
        old, self._served[name] = self._served[name], fresh
        self._metrics.reloads.labels(name, "done").inc()
        _log.info("model %s was reloaded", name)
        await old.close()

    async def close(self) -> None:
        """Let everything under way be answered, then end."""
        self.delays.close()
        await asyncio.gather(*(served.close() for served in self))
