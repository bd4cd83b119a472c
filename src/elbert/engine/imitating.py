"""A score that foretells which tokens later layers will look at, fitted to what they did look at. Needs no labels.

TR-BERT (arXiv 2105.11618) warms its policy up by imitating a score of residuals, then trains it with the model. Here
the model stays as it is: one linear map a layer, by least squares.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elbert.engine.backends.torch import TorchBackend
from elbert.engine.dropping import Receiving
from elbert.engine.requests import Arrival
from elbert.engine.rows.packed import Layout

# Added to the diagonal, as a share of its mean: states of neighbouring tokens are much alike.
_RIDGE = 1e-3

# Attention below this is none.
_LEAST = 1e-6


@torch.inference_mode()
def fit_token_score(backend: TorchBackend, texts: Iterable[Arrival]) -> NDArray[np.float32]:
    """Return w [M - 1, H], such that behind layer k `w_k · h` ranks a text's tokens as the layers behind it would.

    What is imitated is the logarithm of the attention a token receives there, the mean over those layers, with all
    tokens kept. Only differences within a text count, and the first token, which always stays, is left out.

    Args:
        backend: the model, prepared.
        texts: some hundred suffice.
    """
    steps, size = len(backend.layers), len(backend.layers[0][0].output_norm.weight)
    squares, products = np.zeros((steps - 1, size, size)), np.zeros((steps - 1, size))
    for text in texts:
        if len(text.ids) == 1:
            continue
        states, received = _looked_at(backend, text)
        for depth in range(steps - 1):
            given = states[depth] - states[depth].mean(0)
            wanted = np.log(received[depth + 1 :].mean(0) + _LEAST)
            squares[depth] += given.T @ given
            products[depth] += given.T @ (wanted - wanted.mean())
    ridge = (_RIDGE * squares.trace(axis1=1, axis2=2)[:, None, None] / size + 1e-12) * np.eye(size)
    return np.linalg.solve(squares + ridge, products[..., None])[..., 0].astype(np.float32)


def _looked_at(backend: TorchBackend, text: Arrival) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return states [M, n - 1, H] behind each layer and attention [M, n - 1] in it, without the first token."""
    layout = Layout(np.array([len(text.ids)]), backend.device)
    types = None if text.token_types is None else layout.packed([text.token_types])
    hidden = backend.embed(layout.packed([text.ids]), types, layout)
    states: list[Tensor] = []
    received: list[Tensor] = []
    for depth in range(len(backend.layers)):
        receiving = Receiving()
        hidden = receiving.run(backend, hidden, layout, depth)
        states.append(hidden[1 : layout.tokens].float())
        received.append(receiving.received[1 : layout.tokens])
    return torch.stack(states).double().cpu().numpy(), torch.stack(received).double().cpu().numpy()
