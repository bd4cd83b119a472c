"""From a tokenised text to its trace: runs it to full depth once, and has each part of a trace made of that."""

from __future__ import annotations

from collections.abc import Sequence

from elbert.engine import Engine
from elbert.engine.tokens import Reading
from elbert.exits import ExitPolicy
from elbert.modeling.files.plain_tokenizer import PlainTokenizer
from elbert.results import Trace
from elbert.tasks import task_of
from elbert.tracing.attention import cls_attention
from elbert.tracing.grams import telling_grams
from elbert.tracing.trace import skipped_in, trace_of, words_trace
from elbert.tracing.words import words_of
from elbert.words import end_of_words


def trace_text(
    engine: Engine, tokenizer: PlainTokenizer, reading: Reading, policy: ExitPolicy, labels: Sequence[str]
) -> Trace:
    """Return the trace of one text under a policy.

    Args:
        engine: runs it.
        tokenizer: the model's, which has read the text.
        reading: the text.
        policy: who leaves where.
        labels: class names; empty for regression.
    """
    outputs = engine.record(
        [reading.arrival], batch_size=1, pooled="pooled" in policy.needs, tokens=policy.tokens, gates=policy.gates
    )
    words, said, layer_0 = engine.words, outputs.words, None
    if words is not None and said is not None and words.asked(policy.words):
        ids, task = reading.arrival.read_by_words, task_of(outputs.problem_type)
        layer_0 = words_trace(
            said[0],
            task,
            policy.words,
            labels,
            tokens=len(ids),
            end=end_of_words(reading.encoding, words.reach),
            at_exits=words.at_exits,
            grams=telling_grams(words, ids, task, tokenizer.decode),
        )
    source = reading.source if tokenizer.truncation_side == "left" else None
    return trace_of(
        outputs,
        policy,
        text=reading.text,
        tokens=reading.encoding.tokens,
        words=words_of(reading.text, reading.encoding, source),
        labels=labels,
        attention=cls_attention(engine.layers(), reading.arrival, skipped_in(outputs)),
        truncated=reading.truncated,
        layer_0=layer_0,
    )
