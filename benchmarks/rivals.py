"""Serves a system of `elbert bench` as people do: FastAPI and uvicorn, a queue, and batches of whatever waits in it.

    python benchmarks/rivals.py openvino --dtype int8 --folder MODEL --scratch DIR --max-length 64 --port 3100

For `serving.py`, which starts each in a process of its own. The HTTP stack, the threads and the loop are those of
`elbert serve`; a batch is taken as soon as the one before it is done, so that nobody waits for a clock.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import queue
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from pydantic import BaseModel

from elbert.evaluation.bench.job import Job, Run, Spec
from elbert.evaluation.bench.systems import SYSTEMS


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
    gc.collect()
    gc.freeze()  # as `elbert serve` does: a full collection would be in the 99th percentile of everybody
    return run


def job_of(options: Any) -> Job:
    """Return what the system is given."""
    folder, scratch = Path(options.folder), Path(options.scratch)
    texts = json.loads(options.texts.read_text(encoding="utf-8")) if options.texts else []
    return Job(folder, scratch, texts, "single_label_classification", options.max_length, options.threads)


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


def arguments(about: str | None) -> Any:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=sorted(SYSTEMS))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--scratch", required=True, help="where exported graphs are kept")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-length", type=int, required=True, help="tokens read of a text")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--build", action="store_true", help="only make the graphs, then end")
    parser.add_argument("--texts", type=Path, help="a JSON array to quantise graphs with, for --build")
    return parser.parse_args()


def main() -> None:
    options = arguments(__doc__)
    if options.build:
        spec = Spec(options.system, "torch", options.dtype)
        import_module(SYSTEMS[options.system].module).build(job_of(options), spec)
        return
    import uvicorn

    app = app_of(loaded(options), options.batch)
    uvicorn.run(app, host="127.0.0.1", port=options.port, access_log=False, log_level="warning", loop="uvloop")


if __name__ == "__main__":
    main()
