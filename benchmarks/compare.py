"""Every exit policy and every loss scheme on one encoder, compared so that nothing is judged by what it was chosen on.

    python benchmarks/compare.py benchmarks/studies/mini.toml --data CORPORA --out runs/compare/mini
    python benchmarks/compare.py benchmarks/studies/mpnet.toml --data CORPORA --start MPNET --out runs/compare/mpnet

A study names a start, kinds of training, corpora and seeds. Every kind is trained on every corpus with every seed; the
model then answers once, at full depth and at every exit, on the tenth of the training texts that was kept aside and on
the texts to report on. All else is replay: policies that learn are fitted on the tenth, but for those that the training
taught along; every setting of every policy is chosen on one half of the texts to report on and scored on the other,
both ways, over twenty ways to halve them. A constant depth goes through the same. Bands are over texts and, where there
are several, seeds. Static rivals, models with fewer or thinner layers for every text, are trained on the same texts and
stand beside the policies at as many layers; cascades of them, replayed likewise, are lines beside the policies'.

The folder --out holds a folder per run and is taken up where it was left: trained models are not trained again, nor
recorded ones recorded, and what was broken off goes on. Every call writes report.md, figures and results.json from the
runs that are there, prints the page, and one JSON line last. `--report` does that and trains nothing. `--timed` runs a
few settings of each policy for real beside full depth: only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from checkpoints import limited
from compare_cascades import Line, line, timed_line
from compare_judge import Judged, judge
from compare_report import Key, write
from compare_rivals import WHOLE, RivalRun
from compare_standing import Standing, speedup, standing
from compare_study import MODEL, RECORDS, Run, Study, read
from elbert import Classifier, load_data
from elbert.errors import ElbertError
from elbert.evaluation.bench.machine import machine, versions
from elbert.evaluation.sweep import check_bootstrap, check_names
from elbert.evaluation.sweep_time import with_times
from elbert.scoring.points import TradeoffCurve


def judged_runs(there: Iterable[tuple[Run, Path]], only: Sequence[str] | None, bootstrap: int) -> dict[Key, Judged]:
    """Return what is there, judged: by corpus and kind of training, over the seeds."""
    seeds: dict[Key, list[tuple[Run, Path]]] = {}
    for run, folder in there:
        seeds.setdefault((run.ground.name, run.scheme), []).append((run, folder))
    return {
        key: judge([read(folder) for _, folder in runs], runs[0][0].ground.metric, only, bootstrap)
        for key, runs in seeds.items()
    }


def beside(
    study: Study, there: Iterable[tuple[RivalRun, Path]], judged: Mapping[Key, Judged], options: argparse.Namespace
) -> dict[str, tuple[list[Standing], list[Line]]]:
    """Return how each corpus's rivals, and cascades of them, do beside its first kind of training; timed where asked.

    What is not there for as many seeds is left out.
    """
    corpora: dict[str, dict[str, list[tuple[RivalRun, Path]]]] = {}
    for each, folder in there:
        corpora.setdefault(each.run.ground.name, {}).setdefault(each.short, []).append((each, folder))
    found = {}
    for corpus, every in corpora.items():
        scheme = next(scheme for name, scheme in judged if name == corpus)
        policies = judged[corpus, scheme]
        runs = {name: own for name, own in every.items() if len(own) == policies.sweep.models}
        said = {name: [read(folder, states=False) for _, folder in own] for name, own in runs.items()}
        rows = {name: standing(own, said[name], scheme, policies, options.bootstrap) for name, own in runs.items()}
        lines = [
            line(chain, runs, said, scheme, policies, options.bootstrap)
            for chain in study.chains
            if runs.keys() >= set(chain.members)
        ]
        if options.timed and runs:
            rows, lines = in_time(rows, lines, {name: own[0] for name, own in runs.items()}, scheme, options)
        found[corpus] = list(rows.values()), [each for each, _ in lines]
    return found


def in_time(
    rows: Mapping[str, Standing],
    lines: Iterable[tuple[Line, TradeoffCurve]],
    runs: Mapping[str, tuple[RivalRun, Path]],
    scheme: str,
    options: argparse.Namespace,
) -> tuple[dict[str, Standing], list[tuple[Line, TradeoffCurve]]]:
    """Return rivals and cascades of one corpus with how many times faster they are than a kind of training's model.

    Args:
        rows: of the rivals, by name.
        lines: of the cascades, with their settings.
        runs: of the rivals, of the first seed.
        scheme: the kind of training; its model is run at full depth.
        options: of the command.
    """
    run = next(iter(runs.values()))[0].run
    whole = Classifier.from_pretrained(options.out / replace(run, scheme=scheme).name / MODEL, dtype=run.study.dtype)
    test = load_data(options.data / run.ground.name, split=run.ground.test, labels=whole.labels)
    texts = limited(test, run.ground.test_rows).texts[:1000]

    def model(name: str) -> Classifier:
        each, folder = runs[name]
        return each.classifier(folder, MODEL)

    timed_rows = {name: replace(row, speedup=speedup(whole, model(name), texts)) for name, row in rows.items()}
    return timed_rows, [
        (timed_line(own, curve, whole, [model(name) for name in own.members], texts, options.timed), curve)
        for own, curve in lines
    ]


def timed(
    judged: Mapping[Key, Judged], first: Mapping[Key, tuple[Run, Path]], options: argparse.Namespace
) -> dict[Key, Judged]:
    """Return what was judged with measured speedups of a few settings, those of the first seed's model."""
    found = {}
    for key, each in judged.items():
        run, folder = first[key]
        classifier = Classifier.from_pretrained(folder / MODEL, dtype=run.study.dtype)
        test = load_data(options.data / run.ground.name, split=run.ground.test, labels=classifier.labels)
        texts = limited(test, run.ground.test_rows).texts
        classifier.policies |= each.fitted
        found[key] = replace(each, sweep=with_times(each.sweep, classifier, texts, options.timed))
    return found


def recorded(name: str, options: argparse.Namespace, make: Callable[[Path], None]) -> Path | None:
    """Return the folder of a run, once its answers are there; None where they are missing and not to be made.

    Args:
        name: of the run.
        options: of the command.
        make: trains the model and records its answers, in the folder it is given.
    """
    folder: Path = options.out / name
    if not (folder / RECORDS).exists():
        if options.report:
            return None
        folder.mkdir(exist_ok=True)
        make(folder)
        print(f"{name}: recorded", flush=True)
    return folder


def runs_of(study: Study, options: argparse.Namespace) -> tuple[list[tuple[Run, Path]], list[tuple[RivalRun, Path]]]:
    """Return the runs of a study that are there, with their folders, those of rivals apart; make what is missing."""
    there, rivals, start = [], [], options.start or study.start

    def make(run: Run, folder: Path) -> None:
        run.train(options.data, start, folder)
        run.record(options.data, folder)

    def make_rival(each: RivalRun, folder: Path) -> None:
        each.train(options.data, start, folder, MODEL)
        each.run.record(options.data, folder)

    for run in study.runs():
        folder = recorded(run.name, options, partial(make, run))
        if folder is None:
            continue
        if options.drop_models and run.scheme not in study.teachers:
            shutil.rmtree(folder / MODEL, ignore_errors=True)
        there.append((run, folder))
    for each in study.rival_runs():
        folder = recorded(each.name, options, partial(make_rival, each))
        if folder is not None:
            rivals.append((each, folder))
    if options.drop_models:
        for _, folder in (*there, *rivals):
            for model in (MODEL, WHOLE):
                shutil.rmtree(folder / model, ignore_errors=True)
    return there, rivals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a TOML file, such as those of benchmarks/studies")
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder per corpus")
    parser.add_argument("--out", type=Path, required=True, help="where runs and report go")
    parser.add_argument("--start", help="folder of the study's start, where it is not to come from a hub")
    parser.add_argument("--only", nargs="+", help="some corpora only")
    parser.add_argument("--schemes", nargs="+", help="some kinds of training only")
    parser.add_argument("--seeds", nargs="+", type=int, help="some seeds only")
    parser.add_argument("--rivals", nargs="*", help="some rivals only; alone for none")
    parser.add_argument("--policies", nargs="+", help="some policies only")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples behind every band")
    parser.add_argument(
        "--timed", type=int, default=0, help="settings of each policy to run for real, on a quiet machine"
    )
    parser.add_argument("--report", action="store_true", help="train nothing, report on the runs that are there")
    parser.add_argument("--drop-models", action="store_true", help="delete a model once its answers are recorded")
    options = parser.parse_args()
    try:  # before what takes hours, not after it
        check_names(options.policies or [])
        check_bootstrap(options.bootstrap)
        study = Study.read(options.study).part(options.only, options.schemes, options.seeds, options.rivals)
    except ElbertError as error:
        raise SystemExit(f"compare.py: {error}") from None
    options.out.mkdir(parents=True, exist_ok=True)
    there, rivals = runs_of(study, options)
    if not there:
        raise SystemExit(f"compare.py: no run of {options.study} is in {options.out}; leave --report out to train")
    about = {"benchmark": "compare", "study": options.study.stem, "start": study.start}
    judged = judged_runs(there, options.policies, options.bootstrap)
    if options.timed:
        judged = timed(judged, {(run.ground.name, run.scheme): (run, at) for run, at in reversed(there)}, options)
    result = write(judged, options.out, about, beside(study, rivals, judged, options))
    print((options.out / "report.md").read_text())
    print(json.dumps({**about, "machine": machine(), "versions": versions(), **result}))


if __name__ == "__main__":
    main()
