"""Serves a system of `elbert bench` behind LitServe's own server and batching, with the arguments of `rivals.py`.

LitServe is no dependency: `pip install --target DIR --no-deps litserve pyzmq`, and DIR on PYTHONPATH; see `serving.py`.
"""

from __future__ import annotations

from typing import Any

import litserve

from rivals import arguments, loaded

# Seconds that a batch waits to fill.
_WAIT = 0.002


class Api(litserve.LitAPI):  # type: ignore[misc]
    """What LitServe calls, in a process of its own.

    Args:
        options: of the command line.
    """

    def __init__(self, options: Any) -> None:
        super().__init__(max_batch_size=options.batch, batch_timeout=_WAIT)
        self.options = options

    def setup(self, _: Any) -> None:
        """Load the model."""
        self.run = loaded(self.options)

    def decode_request(self, request):  # no types: LitServe would make its route of them
        """Return the text."""
        return str(request["inputs"])

    def batch(self, inputs: list[str]) -> list[str]:
        """Return texts that are answered together."""
        return list(inputs)

    def predict(self, texts: Any) -> Any:
        """Return their labels."""
        return self.run(texts, len(texts)).labels

    def unbatch(self, output: Any) -> Any:
        """Return each text's own."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return an answer."""
        return {"label": output}


def main() -> None:
    options = arguments(__doc__)
    server = litserve.LitServer(Api(options), accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(host="127.0.0.1", port=options.port, num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
