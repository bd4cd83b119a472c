"""What an operator sets of a server, checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields

from elbert.errors import UsageError


@dataclass(frozen=True)
class ServeSettings:
    """Limits and addresses of a server.

    Attributes:
        hostname: address to listen on.
        port: port to listen on; 0 takes a free one.
        max_concurrent_requests: requests at once; more are refused with 429.
        max_queue_tokens: tokens that wait or run at once, of one model; more are refused with 429.
        max_batch_tokens: tokens stepped together; None for what suits the device.
        max_batch_requests: texts stepped together.
        max_client_batch_size: texts in one request; more are refused with 413.
        payload_limit: bytes in one body; more are refused with 413.
        body_timeout: seconds a body, or each line of a stream, may take to arrive.
        auto_truncate: cut off what is longer than the model reads, instead of refusing it with 413.
        max_layers: layers any text runs at most; None for all of the model's.
        key_layers_per_text: layers that a key's texts may run in the mean, at one model; after that they get fewer;
            None for no limit.
        key_layers_per_second: layers that a key's texts may run in a second; more are refused with 429; None for no
            limit.
        fastest_level: speed level, by name, that requests without a wish may get while many wait; None for the usual
            one.
        feedback_share: share of early answers compared with full depth once they were sent, 0 to 1.
        policy_state: folder where bandit policies keep what they learn, from one run to the next; None for nowhere.
        api_keys: one of these has to be brought as a bearer key; none for an open server.
        drain_timeout: seconds that requests may take to end after SIGTERM.
    """

    hostname: str = "127.0.0.1"
    port: int = 3000
    max_concurrent_requests: int = 512
    max_queue_tokens: int = 131_072
    max_batch_tokens: int | None = None
    max_batch_requests: int = 32
    max_client_batch_size: int = 32
    payload_limit: int = 2_000_000
    body_timeout: float = 30.0
    auto_truncate: bool = True
    max_layers: int | None = None
    key_layers_per_text: float | None = None
    key_layers_per_second: float | None = None
    fastest_level: str | None = None
    feedback_share: float = 0.0
    policy_state: str | None = None
    api_keys: tuple[str, ...] = ()
    drain_timeout: int = 30

    def __post_init__(self) -> None:
        """Check every number.

        Raises:
            UsageError: one is below 1 (a port: outside 0 to 65535), or a key cannot be sent in a header.
        """
        for each in fields(self):
            value = getattr(self, each.name)
            if (
                isinstance(value, (int, float))
                and not isinstance(value, bool)
                and each.name not in ("port", "feedback_share")
                and not value >= 1  # nor NaN
            ):
                raise UsageError(f"--{each.name.replace('_', '-')} is {value}; allowed: 1 or more")
        if not 0 <= self.feedback_share <= 1:
            raise UsageError(f"--feedback-share is {self.feedback_share}; allowed: 0 to 1")
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"--port is {self.port}; allowed: 0 to 65535, 0 takes a free one")
        if any(not key or not key.isascii() or not key.isprintable() or " " in key for key in self.api_keys):
            raise UsageError("an API key is empty or holds a space or what is no ASCII; allowed: printable ASCII")
