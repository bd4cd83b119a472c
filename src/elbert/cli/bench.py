"""`elbert bench`: how fast a model is beside other ways of running it. The numbers are made in `elbert.evaluation`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elbert.cli import options
from elbert.cli.console import answer, check_output, facts, progress_bar, warnings_last, written_last
from elbert.disk import write_whole

if TYPE_CHECKING:
    from elbert.classifier import Classifier
    from elbert.data import TextDataset
    from elbert.evaluation.bench import Bench, Plan, Spec

_AGAINST = "all, none, or names with commas between: transformers, transformers-batches, torch-compile, onnxruntime, "


def bench(
    model: options.Model,
    data: options.Data,
    against: Annotated[
        str, typer.Option(help=f"{_AGAINST}openvino, elbert-waits, elbert-sorted, elbert-split.")
    ] = "transformers,onnxruntime,openvino",
    split: options.SplitOfDev = None,
    policy: options.PolicyFlags = options.POLICY,
    metric: options.Metric = None,
    batch_size: Annotated[str, typer.Option(metavar="N[,N…]", help="Texts in flight, one or several.")] = "8,32,128",
    backend: Annotated[str, typer.Option(help="Of ours, one or several: torch, openvino, onnxruntime.")] = "torch",
    dtype: Annotated[
        str, typer.Option(help="For everyone, one or several; int8 runs on a CPU, float16 on CUDA.")
    ] = "float32,bfloat16,float16,int8",
    device: Annotated[str, typer.Option(help="Where everyone computes: cpu, cuda, cuda:1, …")] = "cpu",
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of everyone; the median counts.")] = 3,
    limit: Annotated[int, typer.Option(min=1, help="Texts at most, taken evenly from all of DATA.")] = 1000,
    latency_texts: Annotated[int, typer.Option(min=0, help="Texts run one by one; 0 leaves latency out.")] = 100,
    threads: Annotated[int | None, typer.Option(min=1, help="Of everyone.  [default: torch's]")] = None,
    problem_type: options.ProblemType = None,
    columns: options.ColumnFlags = options.COLUMNS,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the result here too, as a PNG.")] = None,
    overwrite: options.Overwrite = False,
    progress: options.Progress = False,
    json: options.JsonLine = False,
) -> None:
    """Race a model with its exits against the same weights at full depth and in other libraries.

    Everyone gets the same texts, threads and order by length, tokenises inside the clock, lives in a process of its own
    and is warmed up first. Rounds go in turns. Ratios are to transformers in float32. A library that is missing becomes
    a row with a reason.

    Example:
        elbert bench runs/mine test.csv --limit 300
        elbert bench runs/mine data/sst2 --against all --threshold 0.3 --json | jq .rows
        elbert bench runs/mine test.csv --against elbert-waits,elbert-sorted,elbert-split --policy entropy
        elbert bench runs/mine test.csv --against none --backend torch,openvino --dtype float32 --batch-size 32
    """
    from elbert.engine.placement import choose_device
    from elbert.evaluation.bench import line_up
    from elbert.scoring.metrics import metric_name

    plan, names = _plan(batch_size, rounds, latency_texts), _peers(against)
    _check_picture(plot, overwrite=overwrite)
    device = choose_device(device)
    with written_last(plot):
        # Loaded here only to learn its policy, labels and layers; every runner loads its own.
        with warnings_last():
            classifier = options.load_classifier(
                model, policy, options.LoadFlags(device="cpu", problem_type=problem_type)
            )
            _refuse_export(classifier)
        specs = line_up(
            classifier.policy.to_dict(), against=names, backends=_list(backend), dtypes=_list(dtype), device=device
        )
        metric = metric_name(classifier.problem_type, metric)
        dataset = _load(data, split, classifier, columns, limit)
        result = _run(model, classifier, dataset, specs, plan, metric, threads, device, progress=progress)
        about = _about(model, classifier, dataset, metric, plan)
        if plot is not None:
            _draw(result, plot, f"{Path(model).name} on {Path(dataset.name).name}, {result.threads} threads")
    _show(result, about, as_json=json)


def _list(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def _peers(against: str) -> list[str]:
    """Return the peers asked for, each known, before anything is loaded."""
    from elbert.evaluation.bench.systems import PEERS, check_names

    if against in ("all", "none"):
        return list(PEERS) if against == "all" else []
    return list(check_names(_list(against), PEERS, "system to race against"))


def _plan(batch_size: str, rounds: int, latency_texts: int) -> Plan:
    from elbert.errors import UsageError
    from elbert.evaluation.bench import Plan

    words = _list(batch_size)
    if not words or not all(word.isdecimal() and int(word) >= 1 for word in words):
        raise UsageError(f"--batch-size is {batch_size!r}; allowed: whole numbers of 1 or more, such as 8,32,128")
    return Plan(tuple(map(int, words)), rounds, latency_texts)


def _refuse_export(classifier: Classifier) -> None:
    from elbert.modeling.files.exported import ExportedModel

    # Whether it is an export stands in its folder; asking `model` first would read all the weights of one that is not.
    if classifier.metadata.export is not None and isinstance(classifier.model, ExportedModel):
        classifier.model.refuse("raced")


def _check_picture(plot: Path | None, *, overwrite: bool) -> None:
    if plot is None:
        return
    from elbert.errors import UsageError
    from elbert.reports.plots import check_installed

    if plot.suffix.lower() != ".png":
        raise UsageError(f"--plot is {str(plot)!r}; the picture is a PNG: give a name that ends in .png")
    check_output(plot, overwrite=overwrite)
    check_installed()


def _load(
    data: str, split: str | None, classifier: Classifier, columns: options.ColumnFlags, limit: int
) -> TextDataset:
    """Read the data and keep at most `limit` texts, at equal distances: files are often ordered by label."""
    from elbert.errors import DataError

    dataset = columns.load(data, split, classifier.labels)
    if not len(dataset):
        raise DataError(f"{dataset.name}: there are no texts to run; give at least one")
    count = min(limit, len(dataset))
    return dataset.select([place * len(dataset) // count for place in range(count)])


def _run(
    model: str,
    classifier: Classifier,
    dataset: TextDataset,
    specs: list[Spec],
    plan: Plan,
    metric: str,
    threads: int | None,
    device: str,
    *,
    progress: bool,
) -> Bench:
    import torch

    from elbert.evaluation.bench import Job, race
    from elbert.evaluation.bench.run import steps
    from elbert.modeling.files.sources import find_folder
    from elbert.scoring.metrics import score

    def scorer(labels: Any) -> float:
        return score(classifier.problem_type, labels, (dataset.labels or [])[: len(labels)], metric)[1]

    with tempfile.TemporaryDirectory(prefix="elbert-bench-") as scratch:
        job = Job(
            folder=find_folder(model).resolve(),
            scratch=Path(scratch),
            texts=dataset.texts,
            problem_type=classifier.problem_type,
            max_length=classifier.max_length,
            threads=threads or torch.get_num_threads(),
            device=device,
        )
        with progress_bar(steps(specs, plan), "steps", forced=progress) as bar:

            def step(what: str) -> None:
                bar.set_postfix_str(what, refresh=False)
                bar.update()

            return race(job, specs, plan, layers=classifier.num_layers, score=scorer, on_step=step)


def _about(model: str, classifier: Classifier, dataset: TextDataset, metric: str, plan: Plan) -> dict[str, Any]:
    """Return what the document says beside the result itself."""
    from elbert.evaluation.bench.lengths import lengths_of
    from elbert.modeling.files.open import open_tokenizer
    from elbert.modeling.files.sources import find_folder

    return {
        "benchmark": "bench",
        "model": model,
        "data": dataset.name,
        "n": len(dataset),
        "latency_texts": min(plan.latency_texts, len(dataset)),
        "metric": metric,
        "layers": classifier.num_layers,
        "policy": classifier.policy.to_dict(),
        "lengths": lengths_of(dataset.texts, open_tokenizer(find_folder(model)), classifier.max_length),
    }


def _draw(result: Bench, plot: Path, title: str) -> None:
    from elbert.reports.race import picture_of

    write_whole(plot, picture_of(result.rows, title))


def _show(result: Bench, about: dict[str, Any], *, as_json: bool) -> None:
    """Print the table for people, and for programs the JSON line alone on stdout."""
    from elbert.reports.race import notes_of, table_of

    lengths, machine = about["lengths"], result.machine
    about_run = [
        (
            "texts",
            f"{about['n']:,}, {lengths['mean']:.1f} tokens on average, {lengths['p95']:.0f} at the 95th per cent",
        ),
        ("rounds, threads", f"{result.rounds}, {result.threads}"),
        ("score", about["metric"]),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores{', ' + machine['gpu'] if machine['gpu'] else ''}"),
    ]
    document = {**about, **result.to_dict()}
    answer(table_of(result.rows), *notes_of(result.rows), "", facts(about_run), document=document, as_json=as_json)
