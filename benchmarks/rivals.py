"""Serves a system of `elbert bench` as people do: FastAPI and uvicorn, a queue, and batches of whatever waits in it.

    python benchmarks/rivals.py openvino --dtype int8 --folder MODEL --scratch DIR --max-length 64 --port 3100

For `serving.py`, which starts each in a process of its own. The HTTP stack, the threads and the loop are those of
`elbert serve`; a batch is taken as soon as the one before it is done, so that nobody waits for a clock. With
--litserve the same model stands behind LitServe's own server and batching instead.
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from pydantic import BaseModel

from elbert.evaluation.bench.job import Job, Run, Spec
from elbert.evaluation.bench.systems import SYSTEMS

# Seconds that LitServe waits for a batch to fill, where it batches.
_LITSERVE_WAIT = 0.002


class Body(BaseModel):
    """What is asked."""

    inputs: str


def loaded(options: Any) -> Run:
    """Return the system, warm."""
    torch.set_num_threads(options.threads)
    spec = Spec(options.system, "torch", options.dtype)
    run: Run = import_module(SYSTEMS[options.system].module).load(job_of(options), spec)
    for batch in (1, options.batch):
        run(["warm " * (1 + place) for place in range(batch)], batch)
    return run


def job_of(options: Any) -> Job:
    """Return what the system is given."""
    folder, scratch = Path(options.folder), Path(options.scratch)
    return Job(folder, scratch, [], "single_label_classification", options.max_length, options.threads)


def app_of(run: Run, most: int) -> FastAPI:
    """Return a server whose one thread takes up to `most` texts that wait."""
    app, waiting = FastAPI(), queue.SimpleQueue[Any]()

    def work() -> None:
        while True:
            taken = [waiting.get()]
            while len(taken) < most and not waiting.empty():
                taken.append(waiting.get())
            try:
                labels: list[Any] = run([text for text, _, _ in taken], len(taken)).labels
            except Exception as error:  # noqa: BLE001 - told to whoever waits
                labels = [error] * len(taken)
            loop = taken[0][2]
            loop.call_soon_threadsafe(lambda taken=taken, labels=labels: _tell(taken, labels))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict")
    async def predict(body: Body) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        waiting.put((body.inputs, future, loop))
        return {"label": await future}

    threading.Thread(target=work, daemon=True).start()
    return app


def _tell(taken: list[Any], labels: list[Any]) -> None:
    for (_, future, _), label in zip(taken, labels, strict=True):
        if future.done():
            continue
        if isinstance(label, Exception):
            future.set_exception(label)
        else:
            future.set_result(label)


def litserve(load: Callable[[], Run], options: Any) -> None:
    """Serve behind LitServe."""
    import litserve as ls

    class Api(ls.LitAPI):  # type: ignore[misc]
        def setup(self, device: Any) -> None:
            del device
            self.run = load()

        def decode_request(self, request: dict[str, Any]) -> str:
            return str(request["inputs"])

        def predict(self, texts: Any) -> Any:
            several = texts if isinstance(texts, list) else [texts]
            labels = self.run(several, len(several)).labels
            return labels if isinstance(texts, list) else labels[0]

        def unbatch(self, output: Any) -> Any:
            return list(output)

        def batch(self, inputs: list[str]) -> list[str]:
            return list(inputs)

        def encode_response(self, output: Any) -> dict[str, Any]:
            return {"label": output}

    api = Api(max_batch_size=options.batch, batch_timeout=_LITSERVE_WAIT)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(host="127.0.0.1", port=options.port, num_api_servers=1, generate_client_file=False, log_level="warning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=sorted(SYSTEMS))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--scratch", required=True, help="where exported graphs are kept")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-length", type=int, required=True, help="tokens read of a text")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--litserve", action="store_true")
    parser.add_argument("--build", action="store_true", help="only make the graphs, then end")
    options = parser.parse_args()
    if options.build:
        import_module(SYSTEMS[options.system].module).build(
            job_of(options), Spec(options.system, "torch", options.dtype)
        )
    elif options.litserve:
        litserve(lambda: loaded(options), options)
    else:
        import uvicorn

        app = app_of(loaded(options), options.batch)
        uvicorn.run(app, host="127.0.0.1", port=options.port, access_log=False, log_level="warning", loop="uvloop")


if __name__ == "__main__":
    main()
