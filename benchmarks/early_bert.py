"""EarlyBERT: heads and neurons that count for little are found early in training, and the rest is trained without them.

Source: Chen et al., "EarlyBERT: Efficient BERT Training via Early-bird Lottery Tickets", ACL 2021, arXiv 2101.00063. A
coefficient multiplies what each head and each feed-forward neuron gives; for the first fifth of an epoch the
coefficients learn along with the model, under an L1 penalty. Then a third of every layer's heads and 40 % of all
neurons go, those with the smallest coefficients; the weights are set back to the start, and are trained at twice the
rate.

Layers that share their weights share their coefficients: what goes, goes at all depths. transformers' layers are all of
one width, so a model is trained and saved with the columns of what went at zero, where it answers the same; `cut` takes
them out of the plain matrices, which is what is timed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from elbert import TrainSettings
from elbert.data import TextDataset
from elbert.modeling import MultiExitModel
from elbert.modeling.weights import EncoderWeights, LayerWeights, Matrix
from elbert.runs.attention import float32_attention
from elbert.training.encoding import encode
from elbert.training.prepare import training_arguments
from elbert.training.schemes.last import LastScheme
from elbert.training.start import set_dropout
from elbert.training.trainer import EarlyExitTrainer
from elbert.training.truncation import choose_length

# The paper's: shares of a layer's heads and of all neurons that go, epochs after which they are drawn, weight of the
# penalty, and how many times the usual rate the rest is trained at.
HEADS, NEURONS, DRAWN_AFTER, PENALTY, RATE = 1 / 3, 0.4, 0.2, 1e-4, 2.0


@dataclass(frozen=True)
class Kept:
    """What stays of a model's layers. L layers have weights of their own.

    Attributes:
        heads: [L, heads] bool.
        neurons: [L, F] bool.
    """

    heads: Tensor
    neurons: Tensor

    @classmethod
    def best(cls, heads: Tensor, neurons: Tensor) -> Kept:
        """Return what stays by coefficients, [L, heads] and [L, F]; every layer keeps its best neuron in any case."""
        leave = int(heads.shape[1] * HEADS)
        stays = torch.ones_like(heads, dtype=torch.bool)
        stays.scatter_(1, heads.detach().abs().argsort(dim=1, stable=True)[:, :leave], False)
        sizes = neurons.detach().abs()
        order = sizes.flatten().argsort(stable=True)
        left = torch.ones(len(order), dtype=torch.bool)
        left[order[: int(len(order) * NEURONS)]] = False
        left = left.view(neurons.shape)
        bare = (~left.any(1)).nonzero()[:, 0]
        left[bare, sizes.argmax(1).cpu()[bare]] = True
        return cls(stays.cpu(), left)

    @classmethod
    def read(cls, path: Path) -> Kept:
        """Read what `save` wrote."""
        return cls(**load_file(path))

    def save(self, path: Path) -> None:
        """Write it."""
        save_file({"heads": self.heads, "neurons": self.neurons}, path)


@dataclass(frozen=True)
class Work:
    """What a model's layers cost.

    Attributes:
        products: multiply-adds a token, of all matrices at all depths.
        pairs: multiply-adds a pair of tokens, of attention at all depths.
        weights: of the matrices that layers have, each counted once.
    """

    products: int
    pairs: int
    weights: int

    @classmethod
    def of(cls, weights: EncoderWeights) -> Work:
        """Count."""
        run = [layer for step in weights.layers for layer in step]
        own = {id(layer): _products(layer) for layer in run}
        pairs = sum(2 * len(layer.qkv.weight) // 3 for layer in run)
        return cls(sum(own[id(layer)] for layer in run), pairs, sum(own.values()))

    def on(self, lengths: Tensor) -> int:
        """Return the multiply-adds of texts of so many tokens, [N] int64."""
        return self.products * int(lengths.sum()) + self.pairs * int((lengths**2).sum())


def _products(layer: LayerWeights) -> int:
    return sum(matrix.weight.numel() for matrix in (layer.qkv, layer.out, layer.up, layer.down))


def share_of_products() -> float:
    """Return about what a thinner layer costs, as a share: of BERT's twelve parts four are heads', eight neurons'."""
    return (4 * (1 - HEADS) + 8 * (1 - NEURONS)) / 12


def cut(weights: EncoderWeights, kept: Kept) -> EncoderWeights:
    """Return a model without the heads and neurons that went; it answers as one that has zeros in their place."""
    own = {id(layer): layer for step in weights.layers for layer in step}
    parts = zip(own.items(), kept.heads, kept.neurons, strict=True)
    made = {key: _cut_layer(layer, heads, neurons) for (key, layer), heads, neurons in parts}
    return replace(weights, layers=tuple(tuple(made[id(layer)] for layer in step) for step in weights.layers))


def _cut_layer(layer: LayerWeights, heads: Tensor, neurons: Tensor) -> LayerWeights:
    width = len(layer.qkv.weight) // (3 * len(heads))
    units = heads.repeat_interleave(width)
    places, terms = layer.attention, layer.attention.disentangled
    if places.relative_bias is not None:
        places = replace(places, relative_bias=places.relative_bias[heads])
    if terms is not None:
        key, query = (None if table is None else table[:, units] for table in (terms.key, terms.query))
        places = replace(places, disentangled=replace(terms, key=key, query=query))
    return replace(
        layer,
        spec=replace(layer.spec, heads=int(heads.sum())),
        attention=places,
        qkv=_rows(layer.qkv, units.repeat(3)),
        out=Matrix(layer.out.weight[:, units], layer.out.bias),
        up=_rows(layer.up, neurons.repeat(1 + layer.spec.gated)),
        down=Matrix(layer.down.weight[:, neurons], layer.down.bias),
    )


def _rows(matrix: Matrix, which: Tensor) -> Matrix:
    return Matrix(matrix.weight[which], None if matrix.bias is None else matrix.bias[which])


def zero(network: MultiExitModel, kept: Kept) -> None:
    """Set to zero what a network's layers make of heads and neurons that went."""
    with torch.no_grad():
        for (out, down), heads, neurons in zip(_readers(network), kept.heads, kept.neurons, strict=True):
            out.weight *= _units(out, heads.to(out.weight))
            down.weight *= neurons.to(down.weight)


def without(network: MultiExitModel, kept: Kept) -> None:
    """Let a network's layers see none of the heads and neurons that went, in training too."""
    _multiply(network, kept.heads.float().to(network.device), kept.neurons.float().to(network.device))


def _multiply(network: MultiExitModel, heads: Tensor, neurons: Tensor) -> None:
    """Let the coefficients, [L, heads] and [L, F] as they are at every call, multiply what heads and neurons give."""
    for layer, (out, down) in enumerate(_readers(network)):
        _scale(out, heads, layer)
        _scale(down, neurons, layer)


def _scale(reader: nn.Linear, by: Tensor, layer: int) -> None:
    reader.register_forward_pre_hook(lambda _, given: given[0] * _units(reader, by[layer]))


def _units(reader: nn.Linear, by: Tensor) -> Tensor:
    """Return one number a unit that a module reads, of one a head (or one a unit)."""
    return by.repeat_interleave(reader.in_features // len(by))


def _readers(network: MultiExitModel) -> list[tuple[nn.Linear, nn.Linear]]:
    """Return what reads the heads and what reads the neurons, of every layer with weights of its own."""
    names = dict.fromkeys(name for step in network.family.layer_names(network.config) for name in step)
    parts = (network.family.layer.out, network.family.layer.down)
    modules = ([network.backbone.get_submodule(f"{name}.{part}") for part in parts] for name in names)
    return [(out, down) for out, down in modules]


class Slim(LastScheme):
    """`L = L_M + penalty · Σ |c|`, c the coefficients of all heads and neurons, which begin as 1."""

    staged = True

    def begin(self, model: Any, steps: int) -> None:
        """Meet the model, and let coefficients multiply what its heads and neurons give."""
        super().begin(model, steps)
        readers = _readers(model)
        spec = model.family.spec(model.config, 0)
        self.heads = nn.Parameter(torch.ones(len(readers), spec.heads, device=model.device))
        self.neurons = nn.Parameter(torch.ones(len(readers), readers[0][1].in_features, device=model.device))
        _multiply(model, self.heads, self.neurons)

    def forward(self, layer_losses: Tensor, output: Any = None, labels: Tensor | None = None, step: int = 0) -> Tensor:
        """Return the last layer's loss and the penalty."""
        penalty = self.heads.abs().sum() + self.neurons.abs().sum()
        return super().forward(layer_losses, output, labels, step) + PENALTY * penalty


class _StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        control.should_training_stop = state.global_step >= self._step


def draw(network: MultiExitModel, tokenizer: Any, learn: TextDataset, settings: TrainSettings) -> Kept:
    """Return what is to stay, by the coefficients that the first fifth of an epoch finds; the network is used up.

    Args:
        network: the start.
        tokenizer: its own.
        learn: what is trained on.
        settings: of that training.
    """
    # Without a rise from 0, of which so short a time would be a part.
    settings = replace(settings.resolved(network.config), warmup=0.0)
    plain, most = network.reader(tokenizer), network.family.max_length(network.config)
    rows = encode(learn, plain, choose_length(settings.max_length, learn, plain, most), progress=False)
    set_dropout(network, settings.dropout, settings.classifier_dropout)
    with TemporaryDirectory() as folder:
        arguments = training_arguments(settings, Path(folder), len(rows))
        arguments.eval_strategy = arguments.save_strategy = "no"
        scheme, steps = Slim(network.num_layers), ceil(DRAWN_AFTER * len(rows) / settings.batch_size)
        scheme.begin(network, steps)
        trainer = EarlyExitTrainer(
            network, scheme, arguments, tokenizer=tokenizer, train_dataset=rows, callbacks=[_StopAt(steps)]
        )
        with float32_attention(network.backbone):
            trainer.train()
    return Kept.best(scheme.heads, scheme.neurons)
