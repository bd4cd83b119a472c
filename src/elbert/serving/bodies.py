"""What requests hold, as FastAPI documents and checks it."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, field_validator, model_validator

from elbert.data import Text
from elbert.errors import did_you_mean
from elbert.serving.choices import Wishes

Squash: TypeAlias = Literal["sigmoid", "softmax", "none"]

_INPUT = "a string, or an object with text and text_pair, or a list of these; two strings are never a pair"


# What JSON calls what Python's reader makes of it; bool is an int to Python, so it comes first.
_KINDS: tuple[tuple[type[Any], str], ...] = (
    (type(None), "null"),
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (str, "a string"),
    (list, "a list"),
    (dict, "an object"),
)

# What is allowed where pydantic finds another kind.
_ALLOWED = {
    "model_type": "an object",
    "model_attributes_type": "an object",
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
}


def _kind(value: object) -> str:
    return next((told for kind, told in _KINDS if isinstance(value, kind)), "no JSON")


class _Body(BaseModel):
    """A JSON object without keys that nobody knows: a typing error must not pass for a wish."""

    model_config = ConfigDict(extra="forbid")


class Pair(_Body):
    """Two texts that are read together."""

    text: StrictStr
    text_pair: StrictStr | None = None

    def read(self) -> Text:
        """Return it as the library takes it."""
        return self.text if self.text_pair is None else (self.text, self.text_pair)


class PolicyParameters(_Body):
    """Which policy decides."""

    policy: StrictStr | dict[str, Any] | None = Field(
        default=None,
        description="An exit policy: its name, one saved with the model, or an object with a name and parameters.",
    )
    level: Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="A speed level: 0 is the slowest and gives up the least, see /info."
    )

    @field_validator("policy", mode="before")
    @classmethod
    def _policy(cls, value: object) -> object:
        if not isinstance(value, (str, Mapping, type(None))):
            raise ValueError(f"parameters.policy is {_kind(value)}; allowed: a name, or an object with a name")
        return value

    def wishes(self) -> Wishes:
        """Return what a model is asked for."""
        return Wishes(self.policy, self.level)


class RunParameters(PolicyParameters):
    """Which policy decides, and how long a text runs at most."""

    max_layers: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None, description="Layers a text runs at most."
    )
    max_latency_ms: Annotated[float, Field(gt=0, le=600_000, allow_inf_nan=False, strict=True)] | None = Field(
        default=None, description="When the answer has to be there: a text leaves at the exit it has come to by then."
    )

    def wishes(self, *, truncate: bool | None = None) -> Wishes:
        """Return what a model is asked for."""
        latency = None if self.max_latency_ms is None else self.max_latency_ms / 1000
        return Wishes(self.policy, self.level, self.max_layers, latency, truncate)


class Parameters(RunParameters):
    """How to answer."""

    top_k: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None, description="Labels in the answer; all unless given."
    )
    function_to_apply: Squash | None = Field(
        default=None, description="What makes scores of logits; the task's unless given."
    )


def _check_input(value: object, where: str = "inputs", *, alone: bool = True) -> None:
    """Raise ValueError, which says so in one line, where something is no text."""
    if isinstance(value, (str, Pair)):
        return
    if isinstance(value, Mapping):
        if not isinstance(value.get("text"), str) or not isinstance(value.get("text_pair", ""), (str, type(None))):
            raise ValueError(f"{where} is an object without a string text (and text_pair); allowed: {_INPUT}")
        if unknown := sorted(set(value) - {"text", "text_pair"}):
            raise ValueError(
                f"{where} has the key {reprlib.repr(unknown[0])}{did_you_mean(unknown[0], ['text', 'text_pair'])}"
            )
    elif isinstance(value, list) and alone:
        for place, each in enumerate(value):
            _check_input(each, f"{where}[{place}]", alone=False)
    else:
        raise ValueError(f"{where} is {_kind(value)}; allowed: {_INPUT}")


class PredictRequest(_Body):
    """Texts to classify, as the Hugging Face and text-embeddings-inference APIs take them."""

    inputs: StrictStr | Pair | list[StrictStr | Pair] = Field(description=_INPUT)
    parameters: Parameters = Field(default_factory=Parameters)
    model: StrictStr | None = Field(default=None, description="Which of the server's models; the first unless given.")
    truncate: StrictBool | None = Field(default=None, description="Cut off what is too long, or refuse it.")
    raw_scores: StrictBool = Field(default=False, description="As function_to_apply none.")

    @field_validator("inputs", mode="before")
    @classmethod
    def _inputs(cls, value: object) -> object:
        _check_input(value)
        return value

    @model_validator(mode="after")
    def _one_score(self) -> PredictRequest:
        if self.raw_scores and self.parameters.function_to_apply not in (None, "none"):
            raise ValueError("raw_scores and function_to_apply were both given; give one of them")
        return self

    @property
    def squash(self) -> Squash | None:
        """What makes scores of logits."""
        return "none" if self.raw_scores else self.parameters.function_to_apply


class ClassifyRequest(_Body):
    """Texts to classify, as vLLM takes them; what is this server's own stands in `parameters`."""

    model: StrictStr | None = Field(default=None, description="Which of the server's models; the first unless given.")
    input: StrictStr | Pair | list[StrictStr | Pair] = Field(description=_INPUT)
    parameters: RunParameters = Field(default_factory=RunParameters)
    user: StrictStr | None = Field(default=None, description="Not read.")

    @field_validator("input", mode="before")
    @classmethod
    def _input(cls, value: object) -> object:
        _check_input(value, "input")
        return value


def texts_of(given: str | Pair | list[str | Pair]) -> list[Text]:
    """Return the texts of a request, one or many."""
    return [each.read() if isinstance(each, Pair) else each for each in (given if isinstance(given, list) else [given])]


class TraceRequest(_Body):
    """One text to be shown layer by layer."""

    inputs: StrictStr | Pair
    parameters: PolicyParameters = Field(default_factory=PolicyParameters)
    model: StrictStr | None = Field(default=None, description="Which of the server's models; the first unless given.")

    @field_validator("inputs", mode="before")
    @classmethod
    def _inputs(cls, value: object) -> object:
        _check_input(value, alone=False)
        return value


def validation_line(found: Any) -> str:
    """Return one line for what pydantic found wrong: which field, and what is allowed."""
    kind, message = found["type"], str(found["msg"])
    where = ".".join(str(part) for part in found["loc"] if part != "body")
    if kind == "json_invalid":
        return f"the body is no JSON: {found.get('ctx', {}).get('error', message)}; send application/json"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if not where and isinstance(found["input"], bytes):  # what FastAPI does not read as JSON
        return "the body is not sent as JSON: set the header content-type: application/json"
    if kind == "string_unicode":
        return f"a key in {where or 'the body'} is no Unicode (half a surrogate pair); see /docs for those there are"
    if kind == "extra_forbidden":
        return f"there is no field {where[:60]!r}; see /docs for those there are"
    if kind == "missing":
        return f"{where or 'the body'} is missing; see /docs for what has to be sent"
    if kind in _ALLOWED:
        return f"{where or 'the body'} is {_kind(found['input'])}; allowed: {_ALLOWED[kind]}"
    return f"{where or 'the body'}: {message[:1].lower()}{message[1:]}"
