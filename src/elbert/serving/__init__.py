"""A classification server: an HTTP app, and behind it one thread a model that owns the model's scheduler.

Requests are checked and tokenised in the event loop (`routes`, `bodies`, `served`), go to the thread through an inbox
(`inbox`, `worker`) and come back as the futures of their tickets (`rows`).
"""
