"""The `product` part of engine.py: what one large matrix product reaches here, and how near the engine comes to it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from elbert import Classifier
from elbert.engine.engine import Engine
from elbert.engine.layers.linear import Linear
from elbert.engine.placement import DTYPES
from elbert.engine.requests import Arrival
from elbert.exits.full import Full
from elbert.modeling.weights import Matrix
from grounds import model_folder


def product(options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What one large matrix product reaches here, and which share of it the engine does at 32 × 128 tokens."""
    torch.set_num_threads(options.threads)
    rows = []
    print(f"{'shape':<20}{'dtype':<10}{'product GFLOP/s':>16}{'engine GFLOP/s':>16}{'share':>7}{'with attention':>16}")
    for dtype in options.dtypes:
        reached = product_rate(DTYPES[dtype], options.size)
        for shape in options.shapes:
            weights = Classifier.from_pretrained(model_folder(shape, options.cache)).model.weights()
            products, attention, seconds = engine_work(weights, DTYPES[dtype], options.rounds)
            row = {"shape": shape, "dtype": dtype, "size": options.size, "rows": 32, "tokens": 128}
            row |= {"product_gflops": reached / 1e9, "engine_gflops": products / seconds / 1e9}
            row |= {
                "share": products / seconds / reached,
                "share_with_attention": (products + attention) / seconds / reached,
            }
            rows.append(row)
            print(
                f"{shape:<20}{dtype:<10}{row['product_gflops']:>16.1f}{row['engine_gflops']:>16.1f}"
                f"{row['share']:>7.0%}{row['share_with_attention']:>16.0%}",
                flush=True,
            )
    return rows, {}


def product_rate(dtype: torch.dtype, size: int) -> float:
    """Return FLOP/s of the engine's own product at [size, size] × [size, size], the best of ten."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(size, size, generator=generator).to(dtype) for _ in range(2))
    linear = Linear(Matrix(weight, torch.zeros(size, dtype=dtype)))
    best = float("inf")
    with torch.inference_mode():
        for _ in range(10):
            start = time.perf_counter()
            linear(x)
            best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def engine_work(weights: Any, dtype: torch.dtype, rounds: int) -> tuple[float, float, float]:
    """Return FLOP of the layers' products, FLOP of attention, and the median seconds at 32 rows of 128 tokens."""
    engine = Engine(weights, dtype=dtype)
    generator = np.random.default_rng(0)
    ids = generator.integers(1000, 20_000, (32, 128)).tolist()
    arrivals = [Arrival(index, row) for index, row in enumerate(ids)]
    seconds = []
    for _ in range(rounds + 1):  # the first warms up
        start = time.perf_counter()
        for _ in engine.run(arrivals, Full(), batch_size=32):
            pass
        seconds.append(time.perf_counter() - start)
    hidden, inner = weights.hidden_size, len(weights.layers[0][0].up.weight)
    tokens = 32 * 128 * weights.num_layers
    products, attention = 2.0 * tokens * (4 * hidden**2 + 2 * hidden * inner), 4.0 * tokens * 128 * hidden
    return products, attention, float(np.median(seconds[1:]))
