"""`elbert export`: a model as graphs for another runtime. The writing is `elbert.export`'s."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path
from typing import Annotated

import typer

from elbert.cli import options
from elbert.cli.console import written_last
from elbert.errors import CalibrationWarning


def export(
    model: options.Model,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to be; it appears when it is whole.")],
    format: Annotated[str, typer.Option(help="onnx (for onnxruntime) or openvino.")] = "onnx",
    policy: options.PolicyFlags = options.POLICY,
    dtype: Annotated[
        str, typer.Option(help="What the layers compute in: float32, or with openvino bfloat16.")
    ] = "float32",
    problem_type: options.ProblemType = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a model as graphs for onnxruntime or OpenVINO, with a run.py that needs neither torch nor elbert.

    The model's policy, or the one named here, becomes the folder's default. predict and evaluate read the folder back.

    Example:
        elbert export runs/mine --format onnx --out exported
        python exported/run.py "What a film!"
        elbert evaluate exported test.csv
    """
    with written_last(out):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalibrationWarning)  # of this backend; the export's own counts
            classifier = options.load_classifier(
                model, policy, options.LoadFlags(device="cpu", dtype="float32", problem_type=problem_type)
            )
        from elbert.export import export_model

        written = export_model(classifier, format, out, dtype=dtype, overwrite=overwrite)
    size = sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
    typer.echo(f'{written}: {size / 1e6:,.1f} MB; try python {shlex.quote(str(written / "run.py"))} "a text"')
