"""Model folders as one that is shipped: the mean of their weights, in 16 bits.

    python benchmarks/bundle.py runs/mini-sentiment src/elbert/checkpoints/mini-sentiment
    python benchmarks/bundle.py runs/first runs/second src/elbert/checkpoints/mini-sentiment

    python benchmarks/bundle.py runs/small src/elbert/checkpoints/small --dtype bfloat16

Half the size, and float32 again when loaded. An encoder that is yet to be fine-tuned loses nothing by bfloat16, which
packs a seventh smaller into a wheel; a classifier keeps float16, which is nearer to what was measured.

Several folders must be fine-tuned from the same start on the same labels: their mean is then a model as well, and often
a better one (Wortsman et al., Model soups, ICML 2022); everything but the weights is the first one's. Calibrate
afterwards, on the folder that is written, with texts that none of them has learnt from: promises belong to the weights
as they are shipped.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

LEFT_OUT = ("training_log.jsonl",)


def mean_of(sources: list[Path]) -> dict[str, Tensor]:
    """Return every tensor's mean over the folders, in float32."""
    models = [load_file(source / "model.safetensors") for source in sources]
    for source, model in zip(sources[1:], models[1:], strict=True):
        if {n: t.shape for n, t in model.items()} != {n: t.shape for n, t in models[0].items()}:
            raise SystemExit(f"bundle.py: {source} has other tensors than {sources[0]}; give models of one start")
    return {name: torch.stack([model[name].float() for model in models]).mean(0) for name in models[0]}


def bundle(sources: list[Path], out: Path, dtype: str = "float16") -> None:
    """Write `sources` to `out`, which must not exist."""
    weights = {name: tensor.to(getattr(torch, dtype)) for name, tensor in mean_of(sources).items()}
    beyond = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if beyond:
        raise SystemExit(f"tensor {beyond[0]} holds values that {dtype} cannot")
    shutil.copytree(sources[0], out, ignore=shutil.ignore_patterns(*LEFT_OUT))
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+", help="trained model folders of one start")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16", help="of the stored weights")
    options = parser.parse_args()
    bundle(options.sources, options.out, options.dtype)
    for path in sorted(options.out.iterdir()):
        print(f"{path.name:<24}{path.stat().st_size:>12,} bytes")


if __name__ == "__main__":
    main()
