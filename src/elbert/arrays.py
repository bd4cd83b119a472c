"""The operations a rule is written with, the same for numpy's arrays and torch's tensors.

Most have one spelling in both (`abs(x)`, `x.sum(-1)`, `x.all(1)`, `x.argmax(-1)`, `namespace(x).where(...)`, with
`axis=` throughout); those that have not stand here. A policy imports no array library: its rule is read by numpy where
the host decides, one text at a time or replaying millions, and by torch where a device decides by itself. Torch is
not imported for this: whoever gives a tensor has it.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np

from elbert.results import Array as Array

# The least normal number of fp32: its logarithm is finite, and times 0 it is 0.
LEAST = 2.0**-126


def namespace(array: Array) -> Any:
    """Return the library that `array` is of: `numpy` or `torch`."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def to_numpy(array: Array) -> Array:
    """Return an array as numpy's, without a copy where it lies on the host; floats of any width as float32."""
    if not isinstance(array, np.ndarray):
        tensor = array.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def like(array: Array, other: Array) -> Array:
    """Return a numpy array as what `other` is: numpy's still, or a tensor on its device."""
    return array if isinstance(other, np.ndarray) else sys.modules["torch"].from_numpy(array).to(other.device)


def constants(values: tuple[float, ...], other: Array) -> Array:
    """Return numbers as a float32 array of the kind of `other`, made once and kept: a captured graph reads on there."""
    return _constants(values, None if isinstance(other, np.ndarray) else other.device)


@cache
def _constants(values: tuple[float, ...], device: Any) -> Array:
    array = np.array(values, np.float32)
    return array if device is None else sys.modules["torch"].from_numpy(array).to(device)


def copy(array: Array) -> Array:
    """Return the same values in memory of their own."""
    return array.copy() if isinstance(array, np.ndarray) else array.clone()


def amax(array: Array, axis: int) -> Array:
    """Return the greatest value along `axis`."""
    return array.max(axis) if isinstance(array, np.ndarray) else array.amax(axis)


def amin(array: Array, axis: int) -> Array:
    """Return the least value along `axis`."""
    return array.min(axis) if isinstance(array, np.ndarray) else array.amin(axis)


def nowhere(mask: Array) -> bool:
    """Tell whether a mask is known to hold nowhere, so that what it would let through need not be worked out.

    A tensor's values are not looked at: the rule would have to wait for the device.
    """
    return isinstance(mask, np.ndarray) and not mask.any()


def pick(values: Array, index: Array) -> Array:
    """Return values[i, index[i]] of every row i, [rows], from values [rows, C]."""
    if isinstance(values, np.ndarray):
        return values[np.arange(len(values)), index]
    return values.gather(1, index[:, None])[:, 0]


def products(vectors: Array, matrix: Array) -> Array:
    """Return the scalar products of every vector [rows, H] with every row of `matrix` [K, H], [rows, K].

    In numpy they are summed in fp64 and rounded, since a product over more rows may add up in another order: the last
    bit of a score must not depend on what stands beside it.
    """
    if isinstance(vectors, np.ndarray):
        summed: Array = vectors.astype(np.float64) @ matrix.T.astype(np.float64)
        return summed.astype(np.float32)
    return vectors @ matrix.T


def own_products(vectors: Array, matrices: Array, index: Array) -> Array:
    """Return the products of every vector i [rows, H] with matrices[index[i]], of matrices [M, K, H]: [rows, K].

    In numpy they are summed in fp64 and rounded, as in `products`, one matrix after another.
    """
    if not isinstance(vectors, np.ndarray):
        summed: Array = (vectors[:, None] * matrices[index]).sum(-1)
        return summed
    found = np.empty((len(vectors), matrices.shape[1]), np.float32)
    for each in np.unique(index).tolist():
        here = index == each
        found[here] = products(vectors[here], matrices[each])
    return found


def distances(vectors: Array, points: Array, index: Array) -> Array:
    """Return how far every vector i [rows, H] is from each of points[index[i]], of points [M, K, H]: [rows, K].

    In numpy they are summed in fp64, as in `products`, one set of points after another.
    """
    if not isinstance(vectors, np.ndarray):
        squares: Array = ((vectors[:, None] - points[index]) ** 2).sum(-1)
        return squares.sqrt()
    found = np.empty((len(vectors), points.shape[1]), np.float32)
    for each in np.unique(index).tolist():
        here = index == each
        some, those = vectors[here].astype(np.float64), points[each].astype(np.float64)
        square = (some * some).sum(-1)[:, None] + (those * those).sum(-1) - 2 * some @ those.T
        found[here] = np.sqrt(np.maximum(square, 0))
    return found


def xlogx(probs: Array) -> Array:
    """Return p log p, shaped as `probs`; 0 where p is 0."""
    if isinstance(probs, np.ndarray):
        return probs * np.log(np.maximum(probs, LEAST))
    return probs * probs.clamp(min=LEAST).log()


def softmax(logits: Array) -> Array:
    """Return softmax over the last axis."""
    if not isinstance(logits, np.ndarray):
        return logits.softmax(-1)
    powers = np.exp(logits - np.maximum.reduce(logits, -1, keepdims=True))
    powers /= np.add.reduce(powers, -1, keepdims=True)
    return powers


def sigmoid(logits: Array) -> Array:
    """Return the logistic function; in numpy by way of tanh, which overflows nowhere."""
    return (np.tanh(logits / 2) + 1) / 2 if isinstance(logits, np.ndarray) else logits.sigmoid()
