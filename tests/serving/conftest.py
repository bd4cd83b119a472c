"""A server on a real socket of the loopback, and a gate that its layers stop at."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

httpx = pytest.importorskip("httpx2")
uvloop = pytest.importorskip("uvloop")

from elbert.cascade import Cascade  # noqa: E402 - only where the extra is installed
from elbert.classifier import Classifier  # noqa: E402 - only where the extra is installed
from elbert.exits import make  # noqa: E402 - only where the extra is installed
from elbert.modeling.files.load import load_model  # noqa: E402 - only where the extra is installed
from elbert.serving.server import make_server  # noqa: E402 - only where the extra is installed
from elbert.serving.settings import ServeSettings  # noqa: E402 - only where the extra is installed
from elbert.words import WordModel  # noqa: E402 - only where the extra is installed
from elbert.words.grams import grams_of  # noqa: E402 - only where the extra is installed

TEXTS = ["a good film", "a bad film", "a very good film", "a very bad film", "good", "bad", "so so", "a film"]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """A server in this process keeps its lines from pytest, which the test after it hears again."""
    yield
    logging.getLogger("elbert.serving").propagate = True


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ALBERT of 4 layers with random weights, the labels neg and pos, and two calibrated levels."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model, tokenizer, elbert = load_model("random-tiny", labels=["neg", "pos"], texts=TEXTS)
    policies = {"exact": {"name": "full"}, "quick": {"name": "fixed", "layer": 2}}
    evidence = {"exact": {"mean_exit_layer": 4.0}, "quick": {"mean_exit_layer": 2.0}}
    more = {"default_policy": "quick", "policies": policies, "calibration": evidence}
    model.save_pretrained(folder, tokenizer=tokenizer, elbert={**elbert, **more})
    return folder


@pytest.fixture(scope="session")
def offline(model_folder: Path) -> Classifier:
    """The same model without a server."""
    return Classifier.from_pretrained(model_folder)


@pytest.fixture(scope="session")
def good_words(model_folder: Path) -> Callable[[], Classifier]:
    """Loads the model with a layer 0 that is sure of texts with "good"; others run all layers."""

    def load() -> Classifier:
        classifier = Classifier.from_pretrained(model_folder)
        token = next(classifier.arrivals(["good"], {})).ids[1]
        buckets = grams_of(np.array([token]), np.array([1])).bucket.astype(np.int32)
        weight = np.array([[-4.0, 4.0]], np.float16)
        classifier.engine.words = WordModel(buckets, np.ones(1, np.float16), weight, np.zeros(2, np.float32))
        classifier.policy = make("entropy", threshold=0.0, words=0.6)
        return classifier

    return load


@dataclass
class Gate:
    """Stands in a model's step: counts the layers run, and holds them while it is shut.

    Attributes:
        steps: layers run so far.
        reached: somebody came to the gate since it was shut.
        poison: the first token id of rows at which the step raises.
        error: what it raises then.
    """

    classifier: Classifier

    def __post_init__(self) -> None:
        self.steps = 0
        self.reached = threading.Event()
        self._open = threading.Event()
        self._open.set()
        backend: Any = self.classifier.engine.backend
        inner = backend.step

        def step(hidden: Any, layout: Any, depth: int) -> Any:
            self.reached.set()
            assert self._open.wait(30)
            self.steps += 1
            return inner(hidden, layout, depth)

        backend.step = step

    def shut(self) -> None:
        """Hold whoever comes from now on."""
        self._open.clear()
        self.reached.clear()

    def open(self) -> None:
        """Let everybody through."""
        self._open.set()


@dataclass
class Running:
    """A server that runs, and a client of it."""

    server: Any
    client: Any
    port: int
    loop: Any
    gates: dict[str, Gate]

    def until(self, found: Callable[[], bool]) -> None:
        """Ask again and again, each time over the socket, until something is so."""
        for _ in range(20_000):
            if found():
                return
            self.client.get("/health")
        raise AssertionError("it did not come to be")

    def in_flight(self) -> int:
        """Texts that wait or run, as the metrics say."""
        return int(next(iter(self.server.config.app.state.models)).rows)


Start = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def start(model_folder: Path) -> Start:
    """`with start(**settings) as running`: a server of its own, warm, with the model `tiny` unless told otherwise."""

    @contextmanager
    def run(loaders: Any = None, wait: bool = True, gated: bool = True, **settings: Any) -> Iterator[Running]:
        gates: dict[str, Gate] = {}

        def load(name: str, loader: Callable[[], Any]) -> Callable[[], Any]:
            def gated() -> Any:
                classifier = loader()
                if isinstance(classifier, Cascade):
                    gates.update({f"{name}/{place}": Gate(each) for place, each in enumerate(classifier.models, 1)})
                else:
                    gates[name] = Gate(classifier)
                return classifier

            return gated

        given = loaders or {"tiny": lambda: Classifier.from_pretrained(model_folder)}
        given = {name: load(name, loader) for name, loader in given.items()} if gated else given
        server = make_server(given, ServeSettings(**settings))
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(128)  # now: whoever comes before the server does is served a moment later
            port = listening.getsockname()[1]
            runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
            loop = runner.get_loop()
            thread = threading.Thread(target=runner.run, args=(server.serve([listening]),))
            thread.start()
            keys = settings.get("api_keys")
            headers = {"authorization": f"Bearer {keys[0]}"} if keys else {}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
                running = Running(server, client, port, loop, gates)
                try:
                    if wait:
                        running.until(lambda: client.get("/health").status_code == 200)
                    yield running
                finally:
                    for gate in gates.values():
                        gate.open()
                    server.should_exit = True
                    thread.join(30)
                    assert not thread.is_alive()

    return run


@pytest.fixture(scope="module")
def running(start: Start) -> Iterator[Running]:
    """A server with the limits it has by itself, shared by the tests of a file."""
    with start() as server:
        yield server


@pytest.fixture
def client(running: Running) -> Any:
    """A client of the shared server."""
    return running.client
