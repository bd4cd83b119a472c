"""A cascade that is served: each of its models with a scheduler of its own, and texts that go from one to the next.

The models stay models of the server: rows of all requests that came to the same one share its steps, deadlines and
ceilings are kept there. What is the cascade's own happens between two of them, in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import numpy as np

from elbert.cascade import Cascade
from elbert.cascade.member import Said
from elbert.cascade.passage import Passage
from elbert.data import Text
from elbert.errors import ElbertError, UsageError
from elbert.exits import ExitPolicy
from elbert.results import Trace
from elbert.serving.choices import Choices, Wishes
from elbert.serving.delays import Delays
from elbert.serving.ladder import Ladder
from elbert.serving.metrics import Metrics
from elbert.serving.present import Present
from elbert.serving.refusals import Refusal, cancelled, invalid
from elbert.serving.rows import Answer, Asked, Outcome, Ticket
from elbert.serving.served import ServedModel
from elbert.serving.settings import ServeSettings

_log = logging.getLogger("elbert.serving")


@dataclass(frozen=True)
class _Call:
    """A request under way.

    Attributes:
        texts: of it.
        policy: which model answers.
        wishes: what every model is asked for, whichever it is.
        key: that it came with.
        received: when, by the models' clock.
        whole: what the route waits with.
    """

    texts: Sequence[Text]
    policy: ExitPolicy
    wishes: Wishes
    key: int | None
    received: float
    whole: Asked


class ServedCascade:
    """A cascade under its name; what routes ask of it is what they ask of a `ServedModel`.

    Args:
        name: that requests call it by; its models are called NAME/1, NAME/2 and so on in metrics and logs.
        cascade: what answers.
        settings: the server's.
        metrics: likewise.
        delays: of the event loop.

    Raises:
        UsageError: a fastest level is set, and a cascade has but one.
    """

    def __init__(
        self, name: str, cascade: Cascade, settings: ServeSettings, metrics: Metrics, delays: Delays | None = None
    ) -> None:
        self.name, self.classifier = name, cascade
        self.ladder = Ladder.of(cascade)
        if settings.fastest_level is not None:
            self.ladder.number(settings.fastest_level)
        self._settings, self._metrics = settings, metrics
        self._delays = delays or Delays()
        # Its calibration is about the models as they are, so none of them may answer at a faster level.
        own = replace(settings, fastest_level=None)
        self.members = [
            ServedModel(f"{name}/{number}", model, own, metrics, self._delays)
            for number, model in enumerate(cascade.models, start=1)
        ]
        self._choices = Choices(cascade, self.ladder)
        self._tasks: dict[Ticket, asyncio.Task[None]] = {}
        self._asking = Present()

    @property
    def warm(self) -> bool:
        """True once every model has answered."""
        return all(member.warm for member in self.members)

    @property
    def healthy(self) -> bool:
        """True while every model is warm and its worker answers."""
        return all(member.healthy for member in self.members)

    @property
    def rows(self) -> int:
        """Texts that wait or run, at whichever model."""
        return sum(member.rows for member in self.members)

    @property
    def drifting(self) -> set[str]:
        """Nothing: models are compared with their own full depth, none with the last."""
        return set()

    async def warm_up(self) -> None:
        """Let every model answer once."""
        for member in self.members:
            await member.warm_up()

    async def ask(
        self, texts: Sequence[Text], wishes: Wishes, key: int | None = None, received: float | None = None
    ) -> Asked:
        """Send texts to the first model, and those it leaves open to the next; arguments as in `ServedModel.ask`.

        Raises:
            UsageError: something is no text, or there is no such policy or level.
            Refusal: the first model takes none of them in.
        """
        with self._asking:
            return await self._ask(texts, wishes, key, received)

    async def _ask(self, texts: Sequence[Text], wishes: Wishes, key: int | None, received: float | None) -> Asked:
        policy, name, level = self._choices.of(wishes, lambda: self.ladder.usual)
        ceilings = [each for each in (wishes.max_layers, self._settings.max_layers) if each is not None]
        own = replace(wishes, policy=None, level=None, max_layers=min(ceilings, default=None))
        came = self._delays.clock() if received is None else received
        first = await self.members[policy.earliest(len(self.members)) - 1].ask(texts, own, key, came)
        ticket = Ticket(len(texts))
        rows = [replace(row, ticket=ticket, level=level, policy_name=name) for row in first.rows]
        whole = Asked(ticket, rows, list(first.truncated), first.tokenise_seconds)
        task = asyncio.create_task(self._follow(_Call(texts, policy, own, key, came, whole), first))
        self._tasks[ticket] = task
        task.add_done_callback(lambda _: self._tasks.pop(ticket, None))
        return whole

    def cancel(self, asked: Asked) -> None:
        """Stop computing what nobody waits for any more."""
        task = self._tasks.get(asked.ticket)
        if task is not None:
            task.cancel()
        for place, outcome in enumerate(asked.ticket.outcomes):
            if outcome is None:
                asked.ticket.outcomes[place] = cancelled()

    async def trace(self, text: Text, wishes: Wishes, key: int | None = None) -> Trace:
        """Refuse: several networks have no layers in common that could be shown.

        Raises:
            UsageError: always.
        """
        del text, wishes, key
        raise UsageError(
            f"{self.name!r} is a cascade of models, and a trace shows the layers of one: serve that one too"
        )

    async def close(self) -> None:
        """Let everything under way be answered, then end the models."""
        await self._asking.gone()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(member.close() for member in self.members))

    def save(self) -> None:
        """Keep what the models' policies have learnt."""
        for member in self.members:
            member.save()

    async def _follow(self, call: _Call, first: Asked) -> None:
        """See every text of a request to its answer."""
        await self._heard(call.policy.earliest(len(self.members)), first)
        await asyncio.gather(*(self._one(call, place, first) for place in range(len(call.texts))))

    async def _heard(self, number: int, asked: Asked) -> None:
        """Wait for a model's outcomes; where nobody waits for them any more, stop it."""
        try:
            await asked.ticket.done
        except asyncio.CancelledError:
            self.members[number - 1].cancel(asked)
            raise

    async def _one(self, call: _Call, place: int, asked: Asked) -> None:
        """See one text to its outcome, whatever happens, from the one that the first model asked has for it."""
        try:
            self._settle(call, place, await self._outcome(call, place, asked))
        except Refusal as refusal:
            self._settle(call, place, refusal)
        except ElbertError as error:
            self._settle(call, place, invalid(str(error)))
        except Exception as error:  # noqa: BLE001 - somebody waits for this ticket
            _log.error("a text failed between the models of %s", self.name, exc_info=error)
            self._settle(call, place, Refusal(500, "Bug", f"this is a bug in elbert, {type(error).__name__}"))

    async def _outcome(self, call: _Call, place: int, asked: Asked) -> Outcome:
        """Return what becomes of one text, asking one model after another.

        Raises:
            Refusal: a later model does not take it in, and there is no deadline for which an earlier answer would do.
            ElbertError: the text is none for that model.
        """
        way = Passage(call.policy, self.classifier.members, 1)
        at, before = place, cast("Answer | None", None)
        while True:
            outcome = asked.ticket.outcomes[at]
            if not isinstance(outcome, Answer):
                return outcome or cancelled()
            call.whole.truncated[place] = asked.truncated[at]
            before, final = self._between(call, way, asked, at, outcome, before)
            if final:
                return before
            most = call.wishes.max_layers
            wishes = replace(call.wishes, max_layers=None if most is None else most - int(way.layers[0]))
            number = way.number
            try:
                asked, at = await self.members[number - 1].ask([call.texts[place]], wishes, call.key, call.received), 0
            except Refusal:
                if wishes.max_latency is None:
                    raise
                return replace(before, cause="hurried")
            await self._heard(number, asked)

    def _between(
        self, call: _Call, way: Passage, asked: Asked, at: int, said: Answer, before: Answer | None
    ) -> tuple[Answer, bool]:
        """Return what a model answered as the cascade's answer, and whether it is final.

        It is where the policy says so, and where the text had to leave that model: in a hurry, or at its ceiling.
        """
        number, order = way.number, list(self.classifier.members[way.number - 1].order)
        logits, probs = (np.array([values], np.float32)[:, order] for values in (said.logits, said.probs))
        ran, length = np.array([said.exit_layer]), np.array([len(asked.rows[at].arrival.ids)])
        leaves = bool(way.hear(Said(logits, probs, ran, length, np.array([asked.truncated[at]])))[0])
        layers, most = int(way.layers[0]), call.wishes.max_layers
        cause = said.cause
        if number < len(self.members) and cause not in ("hurried", "budget"):
            cause = "budget" if not leaves and most is not None and layers >= most else "rule"
        answer = Answer(
            logits[0].tolist(),
            probs[0].tolist(),
            layers,
            cause,
            said.queued + (before.queued if before else 0.0),
            said.computed + (before.computed if before else 0.0),
            number,
            round(float(way.costs[0]), 4),
        )
        return answer, leaves or cause in ("hurried", "budget")

    def _settle(self, call: _Call, place: int, outcome: Outcome) -> None:
        """Tell the ticket what became of a text, once."""
        ticket = call.whole.ticket
        if ticket.outcomes[place] is not None:
            return
        ticket.settle(place, outcome)
        if isinstance(outcome, Answer):
            self._metrics.texts.labels(self.name, call.whole.rows[place].policy_name, outcome.cause).inc()


# What a server has under a name.
Served: TypeAlias = ServedModel | ServedCascade
