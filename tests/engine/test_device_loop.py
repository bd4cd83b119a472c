"""The loop that asks nobody, on tensors of the CPU: it must answer as the scheduler does, and look at no value."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AlbertConfig, AlbertForSequenceClassification

from elbert.arrays import Array, amax, constants, namespace
from elbert.engine import Engine
from elbert.engine.backends.torch import TorchBackend
from elbert.engine.device import loop as loop_module
from elbert.engine.device import loops as loops_module
from elbert.engine.device.dense import DenseModel, fits
from elbert.engine.device.launch import Action, CaptureError, Direct
from elbert.engine.device.ledger import Ledger
from elbert.engine.device.loop import legs_of
from elbert.engine.device.loops import DeviceLoops, device_loops
from elbert.engine.device.rule import rule_of
from elbert.engine.requests import Arrival, Departures
from elbert.engine.scheduler import Scheduler
from elbert.errors import ElbertError, UsageError
from elbert.exits import ExitPolicy, Found, State, get, make, names, replay
from elbert.modeling.model import MultiExitModel
from elbert.modeling.weights import EncoderWeights
from elbert.results import ExitOutput
from tests.exits.ready import outputs_of, ready

LAYERS = 6
VOCABULARY = 50
LONGEST = 64
# Scores this close to a threshold may fall on either side of it, by float rounding alone.
EDGE = 1e-5

SHAPES = {
    "plain": {},
    "inner-layers": {"inner_group_num": 2},
    "own-heads": {},
    "multi-label": {"problem_type": "multi_label_classification"},
    "regression": {"problem_type": "regression", "num_labels": 1},
}

OPTIONS: dict[str, Any] = {"batch_size": 4, "max_tokens": 16_384, "window": 256, "recorder": None}

Answers = dict[int, tuple[int, Tensor, Tensor]]


@cache
def weights_of(shape: str) -> EncoderWeights:
    """Return a random model whose exits disagree enough for texts to leave at different layers."""
    torch.manual_seed(7)
    config = AlbertConfig(
        **{
            "vocab_size": VOCABULARY,
            "embedding_size": 16,
            "hidden_size": 32,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "num_hidden_layers": LAYERS,
            "max_position_embeddings": LONGEST,
            "num_labels": 3,
            "initializer_range": 0.2,
            **SHAPES[shape],
        }
    )
    backbone = AlbertForSequenceClassification(config).eval()
    return MultiExitModel(backbone, "full" if shape == "own-heads" else "shared").eval().weights()


def engine_of(shape: str, launcher: Any = None, dtype: torch.dtype = torch.float32) -> Engine:
    """Return an engine whose runs go by the loop; it stands in for one on a CUDA device."""
    engine = Engine(weights_of(shape), dtype=dtype)
    assert isinstance(engine.backend, TorchBackend)
    engine.weights = weights_of(shape)  # not its shapes only, so that others can be made of it
    engine.device_loops = DeviceLoops(engine.weights, engine.backend, launcher or Direct())
    return engine


def texts_of(seed: int, count: int, longest: int = 40, *, pairs: bool = True) -> list[Arrival]:
    """Return random token lists; with `pairs`, every third has a second segment."""
    chance = random.Random(seed)
    arrivals = []
    for index in range(count):
        ids = [chance.randrange(VOCABULARY) for _ in range(chance.randint(1, longest))]
        paired = pairs and index % 3 == 0
        types = [int(place > len(ids) // 2) for place in range(len(ids))] if paired else None
        arrivals.append(Arrival(index, ids, types))
    chance.shuffle(arrivals)
    return arrivals


def answers_of(groups: Iterator[Departures]) -> Answers:
    """Return {index: (exit layer, logits, probs)}."""
    answers: Answers = {}
    for group in groups:
        rows = zip(group.index.tolist(), group.exit_layer.tolist(), group.logits, group.probs, strict=True)
        for index, layer, logits, probs in rows:
            assert index not in answers, "a text left twice"
            answers[index] = (layer, logits, probs)
    return answers


def edges(policy: ExitPolicy, engine: Engine, texts: list[Arrival]) -> set[int]:
    """Return the texts that rounding alone could let out elsewhere: nudge every probability and replay."""
    pooled = "pooled" in policy.needs
    outputs = Engine(engine.weights).record(sorted(texts, key=lambda text: text.index), pooled=pooled)
    exact = replay(policy, outputs)
    generator = torch.Generator().manual_seed(0)
    moved = torch.zeros(len(texts), dtype=torch.bool)
    for _ in range(8):
        nudge = EDGE * torch.randn(outputs.probs.shape, generator=generator)
        shaken = outputs.probs + nudge
        if outputs.problem_type != "regression":
            shaken = shaken.clamp(0, 1)
        moved |= replay(policy, replace(outputs, probs=shaken, logits=outputs.logits + nudge)) != exact
    return set(moved.nonzero().flatten().tolist())


def fitted(policy: ExitPolicy, weights: EncoderWeights) -> ExitPolicy:
    """Return the policy, with weights for such a model where it learns any."""
    shape: dict[str, int] = {"layers": weights.num_layers, "classes": weights.num_labels, "pooled": weights.hidden_size}
    like = outputs_of(0, **shape, problem_type=weights.problem_type)
    return policy.with_tensors(ready(policy.name, like).tensors()) if policy.learned else policy


def assert_same(policy: ExitPolicy, engine: Engine, texts: list[Arrival], **options: int) -> None:
    policy = fitted(policy, engine.weights)
    expected = answers_of(Engine(engine.weights).run(texts, policy, **options))
    given_ = answers_of(engine.run(texts, policy, **options))
    assert given_.keys() == expected.keys()
    doubtful = edges(policy, engine, texts)
    assert len(doubtful) <= len(texts) // 4 + 1
    for index, (layer, logits, probs) in given_.items():
        if index not in doubtful:
            assert layer == expected[index][0], index
            torch.testing.assert_close(logits, expected[index][1], atol=1e-5, rtol=0)
            torch.testing.assert_close(probs, expected[index][2], atol=1e-5, rtol=0)


# The memory of `saturation` gets its width with the first output; a loop's has one shape from the start.
FOLLOWED = [name for name in names() if name != "saturation"]
ONE_OF_EACH = [make(name) for name in FOLLOWED]
OTHERS = [
    make("elbert", threshold=0.5, window=3, criterion="range", tolerance=0.2),
    make("elbert", threshold=0.3, window=2, criterion="agreement"),
    make("elbert", threshold=0.8, window=0),
    make("entropy", threshold=0.9, normalized=False),
    make("max_prob", threshold=0.6, temperature=[2.0, 1.0, 0.5]),
    make("patience", patience=1, tolerance=0.3),
    make("pcee", threshold=0.9, patience=2),
    make("f_pabee", threshold=0.1, patience=1),
    make("epee", threshold=0.5, patience=2),
    make("beem", threshold=1.5),
    make("beem", threshold=0.3, reading="code"),
    make("fixed", layer=1),
    make("fixed", layer=4),
]


@pytest.mark.parametrize("policy", [*ONE_OF_EACH, *OTHERS], ids=lambda policy: str(policy))
@pytest.mark.parametrize("shape", SHAPES)
def test_every_policy_answers_as_under_the_scheduler(shape: str, policy: ExitPolicy) -> None:
    assert_same(policy, engine_of(shape), texts_of(3, 60), batch_size=7)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    policy=st.sampled_from([*ONE_OF_EACH, *OTHERS]),
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    longest=st.sampled_from([1, 16, 17, 40, LONGEST]),
    pairs=st.booleans(),
    batch_size=st.sampled_from([1, 2, 7, 32, 200]),
    max_tokens=st.sampled_from([1, 100, 16_384]),
)
def test_label_and_exit_layer_do_not_depend_on_slots_legs_or_neighbours(
    policy: ExitPolicy, seed: int, count: int, longest: int, pairs: bool, batch_size: int, max_tokens: int
) -> None:
    texts = texts_of(seed, count, longest, pairs=pairs)
    assert_same(policy, engine_of("plain"), texts, batch_size=batch_size, max_tokens=max_tokens)


def test_one_loop_serves_run_after_run() -> None:
    engine = engine_of("plain")
    policy = make("elbert", threshold=0.5, window=3)
    for seed, count in ((1, 50), (2, 3), (3, 1), (4, 200)):
        assert_same(policy, engine, texts_of(seed, count, pairs=seed != 2), batch_size=8)


def test_more_texts_than_a_window_holds() -> None:
    assert_same(make("elbert", threshold=0.5, window=3), engine_of("plain"), texts_of(5, 300), batch_size=2)


def test_the_scheduler_never_steps_in_a_run_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the scheduler stepped")

    monkeypatch.setattr(Scheduler, "step", refuse)
    for policy in ONE_OF_EACH:
        engine = engine_of("plain")
        assert len(answers_of(engine.run(texts_of(1, 20), fitted(policy, engine.weights)))) == 20
    assert len(engine_of("plain").record(sorted(texts_of(1, 20), key=lambda text: text.index)).probs) == 20


@pytest.mark.parametrize("shape", ["plain", "own-heads", "regression"])
@pytest.mark.parametrize("pooled", [False, True])
def test_a_recording_holds_what_the_scheduler_records(shape: str, pooled: bool) -> None:
    texts = sorted(texts_of(6, 70), key=lambda text: text.index)
    expected = Engine(weights_of(shape)).record(texts, pooled=pooled)
    recorded = engine_of(shape).record(texts, batch_size=9, pooled=pooled)
    torch.testing.assert_close(recorded.logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(recorded.probs, expected.probs, atol=1e-5, rtol=0)
    assert recorded.lengths.equal(expected.lengths)
    assert (recorded.pooled is None) is not pooled
    if recorded.pooled is not None and expected.pooled is not None:
        torch.testing.assert_close(recorded.pooled, expected.pooled, atol=1e-5, rtol=0)


def test_bf16_stays_within_the_tolerance_of_the_scheduler() -> None:
    texts = sorted(texts_of(3, 40), key=lambda text: text.index)
    exact = Engine(weights_of("plain")).record(texts).probs
    rounded = engine_of("plain", dtype=torch.bfloat16).record(texts).probs
    assert (exact - rounded).abs().mean() < 0.02


class Hosted(Direct):
    """Refuses whatever would make a host wait inside an action: the check a capture makes, on the CPU."""

    def __init__(self) -> None:
        self.rounds = 0

    def prepare(self, action: Action) -> Action:
        def watched() -> None:
            self.rounds += 1
            with NoLook():
                action()

        return watched


class NoLook(TorchDispatchMode):
    """Raises where an operation's shape or the next line of Python depends on a value."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        looking = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "bincount")
        masks = name in ("index", "index_put", "index_put_", "_unsafe_index") and any(
            each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1]
        )
        if name in looking or masks:
            raise AssertionError(f"{name} waits for the device")
        if name == "lift_fresh":
            raise AssertionError("a tensor is made of Python's numbers, which a capture can't bring to the device")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("policy", [*ONE_OF_EACH, *OTHERS], ids=lambda policy: str(policy))
def test_no_round_looks_at_a_value(shape: str, policy: ExitPolicy) -> None:
    # As before a capture, which is warmed up: what a policy computes once, it has computed.
    weights = weights_of(shape)
    policy, said = fitted(policy, weights), torch.ones(2, weights.num_labels) / 2
    state = {name: torch.from_numpy(value) for name, value in policy.start(2, weights.num_labels).items()}
    output = ExitOutput(said, said, torch.ones(2, weights.hidden_size), weights.problem_type)
    policy.decide(state, output, torch.ones(2).long())
    launcher = Hosted()
    assert len(answers_of(engine_of(shape, launcher).run(texts_of(2, 40), policy, batch_size=8))) == 40
    assert launcher.rounds > 0


@pytest.mark.parametrize(
    "look",
    [
        lambda tensor: tensor.sum().item(),
        lambda tensor: bool((tensor > 0).any()),
        lambda tensor: tensor[tensor > 0],
        lambda tensor: tensor.nonzero(),
        lambda _: torch.tensor([1.0]),
    ],
)
def test_the_watch_sees_every_kind_of_look(look: Callable[[Tensor], Any]) -> None:
    with pytest.raises(AssertionError, match=r"waits for the device|Python's numbers"), NoLook():
        look(torch.ones(3))


@pytest.mark.parametrize("name", FOLLOWED)
def test_every_policy_of_every_grid_can_be_followed(name: str) -> None:
    for shape in ("plain", "multi-label", "regression"):
        weights = weights_of(shape)
        for policy in get(name).grid(LAYERS, weights.num_labels)[::6]:
            assert rule_of(fitted(policy, weights), weights, every_exit=False) is not None


@dataclass(frozen=True)
class _Own(ExitPolicy):
    """Base of policies that no registry knows."""

    name: ClassVar[str] = "own"
    summary: ClassVar[str] = "for a test"
    citation: ClassVar[str] = "no paper"


@dataclass(frozen=True)
class Looking(_Own):
    """Asks the device in between, as a careless third party may."""

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        sure = amax(output.probs, -1) > 0.6
        return {"fired": sure if bool(sure.any()) else layer >= 5}, state


@dataclass(frozen=True)
class Updating(_Own):
    """Has an `update` of its own, which may do anything."""

    def update(self, state: State, output: ExitOutput, layer: Array) -> tuple[Array, State]:
        return amax(output.probs, -1) > 0.6, state

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        return {"fired": amax(output.probs, -1) > 0.6}, state


@dataclass(frozen=True)
class Growing(_Own):
    """Remembers one output more at every layer, so no buffer is large enough."""

    def start(self, rows: int, num_labels: int) -> State:
        return {"seen": np.zeros((rows, 0, num_labels), np.float32)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        seen = namespace(output.probs).concatenate((state["seen"], output.probs[:, None]), axis=1)
        return {"fired": layer >= 3}, {"seen": seen}


@dataclass(frozen=True)
class Raising(_Own):
    """Raises an error of its own on tensors that hold no data."""

    error: type[Exception] = Exception

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        if getattr(output.probs, "is_meta", False):
            raise self.error("nothing to see")
        return {"fired": amax(output.probs, -1) > 0.6}, state


CANNOT_FOLLOW = [Looking(), Updating(), Growing(), *map(Raising, (AssertionError, AttributeError, IndexError))]


@pytest.mark.parametrize("policy", CANNOT_FOLLOW, ids=str)
def test_a_policy_that_a_device_cannot_follow_goes_by_the_scheduler(policy: ExitPolicy) -> None:
    engine = engine_of("plain")
    assert rule_of(policy, engine.weights, every_exit=False) is None
    # One text at a time, as `Looking` breaks the contract: it asks what stands beside a row.
    texts = texts_of(8, 12)
    given_ = answers_of(engine.run(texts, policy, batch_size=1))
    expected = answers_of(Engine(engine.weights).run(texts, policy, batch_size=1))
    assert {i: each[0] for i, each in given_.items()} == {i: each[0] for i, each in expected.items()}


@dataclass(frozen=True)
class Tabled(_Own):
    """Has a parameter that JSON can't hold."""

    thresholds: Tensor

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        return {"fired": amax(output.probs, -1) > constants(tuple(self.thresholds.tolist()), layer)[layer - 1]}, state


def test_a_policy_whose_parameters_are_not_json_goes_by_the_scheduler() -> None:
    engine = engine_of("plain")
    policies = [Tabled(torch.full((LAYERS,), threshold)) for threshold in (0.5, 2.0)]
    for policy in policies:
        given_ = answers_of(engine.run(texts_of(8, 12), policy))
        expected = answers_of(Engine(engine.weights).run(texts_of(8, 12), policy))
        assert {i: each[0] for i, each in given_.items()} == {i: each[0] for i, each in expected.items()}
    assert engine.device_loops is not None
    assert engine.device_loops.borrow(policies[0], **OPTIONS) is None


class Uncapturable(Direct):
    """A device on which nothing can be captured."""

    def prepare(self, action: Action) -> Action:
        raise CaptureError("no")


def test_where_nothing_can_be_captured_the_scheduler_answers_and_a_warning_says_so() -> None:
    engine = engine_of("plain", Uncapturable())
    texts = texts_of(4, 300)
    with pytest.warns(RuntimeWarning, match="no; texts run layer by layer") as warned:
        given_ = answers_of(engine.run(texts, make("full"), batch_size=2))
    assert len([each for each in warned if each.category is RuntimeWarning]) == 1
    expected = answers_of(Engine(engine.weights).run(texts, make("full"), batch_size=2))
    assert {i: each[0] for i, each in given_.items()} == {i: each[0] for i, each in expected.items()}


def test_what_no_policy_needs_is_not_tried_again_where_it_could_not_be_captured() -> None:
    engine = engine_of("plain", Uncapturable())
    with pytest.warns(RuntimeWarning, match="layer by layer"):
        answers_of(engine.run(texts_of(4, 20), make("full")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("elbert", "patience"):
            assert len(answers_of(engine.run(texts_of(4, 20), make(name)))) == 20


def test_a_policy_that_could_not_be_captured_is_not_tried_again_and_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Uncapturable()
    engine = engine_of("plain", launcher)
    with pytest.warns(RuntimeWarning, match="layer by layer"):
        answers_of(engine.run(texts_of(4, 20), make("elbert", threshold=0.5)))
    monkeypatch.setattr(Uncapturable, "prepare", Direct.prepare)
    loops = engine.device_loops
    assert loops is not None
    assert loops.borrow(make("elbert", threshold=0.7), **OPTIONS) is None
    assert loops.borrow(make("patience"), **OPTIONS) is not None


@pytest.mark.parametrize("kept", [True, False], ids=["same-lanes", "rows-move"])
def test_a_text_that_gave_nan_spoils_no_later_one(kept: bool) -> None:
    weights = weights_of("plain")
    word = weights.embedding.word.detach().clone()
    word[VOCABULARY - 1] = float("nan")
    engine = Engine(replace(weights, embedding=replace(weights.embedding, word=word)))
    assert isinstance(engine.backend, TorchBackend)
    loops = DeviceLoops(engine.weights, engine.backend, Direct())
    policy = make("elbert", threshold=0.5, window=3)
    loop = loops.borrow(policy, **OPTIONS)
    assert loop is not None

    def fail(texts: Sequence[Arrival]) -> Iterator[Departures]:
        raise ElbertError(f"{len(texts)} texts left")

    spoiled = [[VOCABULARY - 1] * length for length in (16, 16, 24, 24, 32, 32, 48, 48, 64, 64)]
    with pytest.raises(ElbertError, match="10 texts left"):
        list(loop.run([Arrival(i, ids) for i, ids in enumerate(spoiled)], None, fail))
    # None fills its places, and few fill the slots.
    lengths = (5, 20) if kept else (5, 6, 7, 8, 9, 20, 21, 22, 23, 40, 61, 62)
    clean = [Arrival(i, [1 + i] * length) for i, length in enumerate(lengths)]
    given_ = answers_of(loop.run(clean, None, fail))
    expected = answers_of(Engine(weights).run(clean, policy))
    assert {i: each[0] for i, each in given_.items()} == {i: each[0] for i, each in expected.items()}


@pytest.mark.parametrize("text", [False, True])
def test_only_a_text_spoils_the_health_of_a_window(text: bool) -> None:
    ledger = Ledger(weights_of("plain"), Direct(), torch.device("cpu"), texts=4, longest=LONGEST, recording=True)
    logits = torch.tensor([[0.0] * 3, [float("nan")] * 3])
    number = torch.tensor([0, 1 if text else ledger.idle])
    ledger.write(number, torch.ones(2).long(), logits, torch.tensor([True, text]))
    assert bool(ledger.health.isfinite().all()) is not text


def test_a_lane_grows_with_its_places_and_not_with_their_square() -> None:
    engine = engine_of("plain")
    assert engine.device_loops is not None
    answers_of(engine.run([Arrival(i, [1] * n) for i, n in enumerate((30, 60))], make("elbert"), batch_size=1))
    (loop,) = engine.device_loops._loops.values()
    sizes = {
        lane.length: sum(each.numel() for each in vars(lane).values() if isinstance(each, Tensor))
        for lane in loop._lanes.values()
    }
    assert sizes[64] <= 2 * sizes[32]


def test_a_loop_takes_no_heads_that_read_the_mean() -> None:
    weights = weights_of("plain")
    *early, last = weights.heads
    weights = replace(weights, heads=(*(replace(head, reads_mean=True) for head in early), last))
    assert not fits(weights, Engine(weights).layers())


@pytest.mark.parametrize("changes", [{"window": 5}, {"rotary_base": 100.0}])
def test_a_layer_that_blocks_cannot_run_is_not_left_out(changes: dict[str, Any]) -> None:
    weights = weights_of("plain")
    (layer,) = weights.layers[0]
    other = replace(layer, spec=replace(layer.spec, **changes))
    weights = replace(weights, layers=((other,),) * weights.num_layers)
    backend = Engine(weights).layers()
    assert not fits(weights, backend)
    with pytest.raises(TypeError, match="can't run on padded blocks"):
        DenseModel(weights, backend)


def test_nan_in_the_weights_is_the_same_error_as_under_the_scheduler() -> None:
    torch.manual_seed(0)
    config = AlbertConfig(vocab_size=VOCABULARY, embedding_size=8, hidden_size=16, num_hidden_layers=3)
    config.num_attention_heads, config.intermediate_size = 2, 24
    model = MultiExitModel(AlbertForSequenceClassification(config).eval()).eval()
    with torch.no_grad():
        model.backbone.classifier.bias[0] = float("nan")
    weights = model.weights()
    engine = Engine(weights)
    assert isinstance(engine.backend, TorchBackend)
    engine.device_loops = DeviceLoops(weights, engine.backend, Direct())
    with pytest.raises(ElbertError, match="layer 1"):
        list(engine.run(texts_of(1, 3), make("elbert")))


@dataclass(frozen=True)
class Deepest(_Own):
    """Remembers the deepest layer it was shown, in a buffer that stays where it is."""

    shown: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64), compare=False)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        if layer.device.type != "meta":
            self.shown.copy_(torch.maximum(self.shown, layer.max()))
        return {"fired": amax(output.probs, -1) > 2}, state


def test_idle_slots_show_a_policy_no_layer_that_the_model_has_not() -> None:
    policy = Deepest()
    texts = [Arrival(index, [1 + index] * (5 if index else 60)) for index in range(9)]
    assert len(answers_of(engine_of("plain").run(texts, policy, batch_size=8))) == 9
    assert policy.shown.item() == LAYERS


def test_the_loop_is_behind_a_switch_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Engine(weights_of("plain")).backend
    backend.device = torch.device("cuda")
    monkeypatch.setattr(loops_module, "launcher_for", lambda _: Direct())
    monkeypatch.delenv(loops_module.SWITCH, raising=False)
    assert device_loops(weights_of("plain"), backend) is None
    monkeypatch.setenv(loops_module.SWITCH, "1")
    assert isinstance(device_loops(weights_of("plain"), backend), DeviceLoops)
    monkeypatch.setenv(loops_module.SWITCH, "on")
    with pytest.raises(UsageError, match=r"ELBERT_CUDA_LOOP is 'on'; allowed: 0 .* or 1"):
        device_loops(weights_of("plain"), backend)


def test_a_text_longer_than_the_model_reads_is_named() -> None:
    texts = [*texts_of(1, 5), Arrival(5, [1] * (LONGEST + 1))]
    with pytest.raises(UsageError, match=rf"text 6 has {LONGEST + 1} tokens; allowed: 1 to {LONGEST}"):
        list(engine_of("plain").run(texts, make("full")))


@pytest.mark.parametrize("policy", [make("full"), make("elbert", threshold=0.5, window=3)], ids=["full", "elbert"])
def test_memory_is_bounded_whatever_the_stream_is_long(policy: ExitPolicy, endless: Any) -> None:
    left = 0
    for group in engine_of("plain").run(endless, policy, batch_size=4):
        left += len(group.index)
        assert endless.read - left <= 2 * 64 * 4
        if left > 1000:
            break


def test_a_run_that_is_given_up_leaves_nothing_behind() -> None:
    engine = engine_of("plain")
    policy = make("elbert", threshold=0.5, window=3)

    def failing() -> Iterator[Arrival]:
        yield from texts_of(1, 64 * 2)
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="gone"):
        list(engine.run(failing(), policy, batch_size=2))
    first = engine.run(texts_of(2, 300), policy, batch_size=2)
    next(first)
    first.close()
    assert_same(policy, engine, texts_of(3, 80), batch_size=2)


def test_two_runs_at_once_do_not_share_buffers() -> None:
    engine = engine_of("plain")
    policy = make("elbert", threshold=0.5, window=3)
    texts = [texts_of(seed, 300) for seed in (1, 2)]
    expected = [answers_of(Engine(engine.weights).run(each, policy, batch_size=2)) for each in texts]
    first, second = (engine.run(each, policy, batch_size=2) for each in texts)
    begun = next(first)
    other = answers_of(second)
    rest = answers_of(iter([begun, *first]))
    for given_, wanted in zip((rest, other), expected, strict=True):
        assert {i: each[0] for i, each in given_.items()} == {i: each[0] for i, each in wanted.items()}


def test_lanes_and_loops_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_LANES_KEPT", 3)
    monkeypatch.setattr(loops_module, "_LOOPS_KEPT", 2)
    engine = engine_of("plain")
    loops = engine.device_loops
    assert loops is not None
    for layer in range(1, LAYERS + 1):
        policy = make("elbert", threshold=layer / 10, window=3)
        assert_same(policy, engine, texts_of(layer, 150, LONGEST, pairs=layer % 2 == 0), batch_size=8)
        lanes = [loop.lanes for loop in loops._loops.values()]
        assert 0 < len(lanes) <= 2
        assert all(0 < each <= 3 for each in lanes)


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=400),
    batch_size=st.sampled_from([1, 3, 32, 256]),
    max_tokens=st.sampled_from([1, 500, 16_384]),
)
def test_legs_hold_every_text_and_no_more_places_than_allowed(
    lengths: list[int], batch_size: int, max_tokens: int
) -> None:
    ordered = np.array(sorted(lengths))
    legs = legs_of(ordered, batch_size, max_tokens)
    assert legs[-1].end == len(lengths)
    start, length = 0, 0
    for leg in legs:
        assert leg.end >= start
        assert leg.length >= length
        assert (ordered[start : leg.end] <= leg.length).all()
        assert 1 <= leg.slots <= batch_size
        assert leg.slots == 1 or leg.slots * leg.length <= max_tokens
        start, length = leg.end, leg.length


def test_a_leg_that_would_not_fill_its_rows_joins_the_next() -> None:
    few_short = np.array([5] * 20 + [30] * 100)
    assert next((leg.length, leg.end) for leg in legs_of(few_short, 32, 16_384)) == (32, 120)
    many_short = np.array([5] * 70 + [30] * 100)
    assert [(leg.length, leg.end) for leg in legs_of(many_short, 32, 16_384)][:2] == [(16, 64), (32, 170)]


def test_few_texts_take_few_rows() -> None:
    assert legs_of(np.array([7]), 32, 16_384)[0].slots == 4
    assert legs_of(np.array([7]), 1, 16_384)[0].slots == 1
    assert [leg.slots for leg in legs_of(np.array([7] * 40), 32, 16_384)] == [32, 16, 8, 4]


def test_only_models_with_shared_layers_on_cuda_get_loops(tiny_model: Any) -> None:
    shared, distinct = Engine(weights_of("plain")), Engine(tiny_model("bert").weights())
    assert shared.device_loops is None  # on a CPU
    assert fits(shared.weights, shared.backend)
    assert not fits(distinct.weights, distinct.backend)
