"""A trained model folder as it is shipped: the weights in float16, everything else as it is.

    python benchmarks/bundle.py runs/mini-sentiment src/elbert/checkpoints/mini-sentiment

Half the size, and float32 again when loaded. Calibrate afterwards, on the folder that is written: promises belong to
the weights as they are shipped.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

LEFT_OUT = ("training_log.jsonl",)


def bundle(source: Path, out: Path) -> None:
    """Write `source` to `out`, which must not exist."""
    shutil.copytree(source, out, ignore=shutil.ignore_patterns(*LEFT_OUT))
    weights = {name: tensor.to(torch.float16) for name, tensor in load_file(source / "model.safetensors").items()}
    beyond = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if beyond:
        raise SystemExit(f"tensor {beyond[0]} holds values that float16 cannot")
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a trained model folder")
    parser.add_argument("out", type=Path, help="the folder to write")
    options = parser.parse_args()
    bundle(options.source, options.out)
    for path in sorted(options.out.iterdir()):
        print(f"{path.name:<24}{path.stat().st_size:>12,} bytes")


if __name__ == "__main__":
    main()
