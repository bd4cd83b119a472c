"""The one training loop of all objectives: accumulate, step, report, until the budget is used.

A micro-batch is a pure function of corpus, settings and its place in the run, so a run that was stopped goes on from
its checkpoint exactly as it would have gone on unbroken, where its length is set in tokens or epochs. A run limited in
hours depends on the clock.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from elbert.errors import ElbertError
from elbert.pretraining.batches import Batcher, Plan
from elbert.pretraining.corpus import IntArray
from elbert.pretraining.optimizer import MasterWeights, rate_at
from elbert.pretraining.progress import Progress, Report, Window
from elbert.pretraining.settings import PretrainSettings
from elbert.pretraining.student import Student

# The held-out plan is drawn once, under a number no epoch reaches.
HELD_OUT_EPOCH = 2**31


class Loop:
    """Trains a student on a corpus from wherever `progress` stands to the end of the settings' budget.

    Args:
        student: the network, on its device.
        masters: its float32 weights and optimiser.
        batcher: source of batches.
        documents: numbers of the documents to train on.
        held_out: numbers of the documents kept aside.
        settings: budget and schedule.
    """

    def __init__(
        self,
        student: Student,
        masters: MasterWeights,
        batcher: Batcher,
        documents: IntArray,
        held_out: IntArray,
        settings: PretrainSettings,
    ) -> None:
        self.student, self.masters, self.batcher = student, masters, batcher
        self.documents, self.settings = documents, settings
        self.held_out = batcher.plan(held_out, HELD_OUT_EPOCH)
        self.device = next(student.parameters()).device
        self.progress = Progress()
        # On a CPU a micro-batch per core beats all cores on one: small matrices are shared badly.
        side_by_side = torch.get_num_threads() if self.device.type == "cpu" and not settings.dropout else 1
        self.workers = min(side_by_side, settings.batch_tokens // settings.micro_tokens)

    def run(
        self, report: Callable[[Report], None], *, stop: Callable[[], bool], show_progress: bool | None = False
    ) -> bool:
        """Train to the end of the budget.

        Args:
            report: called every few minutes, once at the end, and before stopping early.
            stop: asked after every step.
            show_progress: a bar on stderr; None for one where stderr is a terminal.

        Returns:
            Whether the budget is used; False where `stop` said to stop.

        Raises:
            ElbertError: the loss is no longer a number.
        """
        origin = time.monotonic() - self.progress.seconds
        window = told = Window(self.progress)
        with self._bar(show_progress) as bar, _pool(self.workers) as pool:
            for plan, indices in self._steps():
                tokens, losses = self._step(
                    pool, plan, indices, rate_at(self.done(plan), self.settings.learning_rate, self.settings.warm_up)
                )
                self.progress = self.progress.advance(len(indices), tokens, time.monotonic() - origin)
                window.add(tokens, losses)
                bar.update(tokens)
                bar.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()}, refresh=False)
                if stop() or self.progress.seconds - window.start.seconds >= 60 * self.settings.checkpoint_minutes:
                    report(self._report(pool, window, self.done(plan)))
                    if stop():
                        return False
                    self.progress = replace(self.progress, seconds=time.monotonic() - origin)
                    window, told = Window(self.progress), window
            # Where the last checkpoint fell on the last step, the end has nothing newer to say than it had.
            report(self._report(pool, window if window.tokens else told, 1.0))
        return True

    def done(self, plan: Plan) -> float:
        """Return the used part of the budget in tokens, hours or epochs, whichever is furthest; in [0, 1].

        Args:
            plan: of the present epoch.
        """
        settings, progress = self.settings, self.progress
        parts = [(progress.epoch + progress.batch / len(plan)) / settings.epochs]
        parts.append(progress.tokens / settings.tokens if settings.tokens else 0.0)
        parts.append(progress.seconds / (3600 * settings.hours) if settings.hours else 0.0)
        return min(1.0, max(parts))

    def evaluate(self, pool: Executor) -> dict[str, float]:
        """Return the held-out loss of every objective, averaged over tokens; one micro-batch per thread of `pool`."""
        self.student.eval()
        window = Window(self.progress)
        for size, losses in zip(self.held_out.sizes, pool.map(self._losses, range(len(self.held_out))), strict=True):
            window.add(int(size), {name: float(loss) for name, loss in losses.items()})
        self.student.train()
        return window.means()

    def _steps(self) -> Iterator[tuple[Plan, range]]:
        """Yield the micro-batches of each optimiser step until the budget is used."""
        count = self.settings.batch_tokens // self.settings.micro_tokens
        while True:
            plan = self.batcher.plan(self.documents, self.progress.epoch)
            if not len(plan):
                raise ElbertError("no sentence of the corpus has three tokens: there is nothing to train on")
            while self.progress.batch < len(plan):
                if self.done(plan) >= 1:
                    return
                first = self.progress.batch
                yield plan, range(first, min(first + count, len(plan)))
            self.progress = replace(self.progress, epoch=self.progress.epoch + 1, batch=0)

    def _step(self, pool: Executor, plan: Plan, indices: range, rate: float) -> tuple[int, dict[str, float]]:
        """Accumulate micro-batches, weighted by their tokens, and step; returns tokens and losses."""
        torch.manual_seed(self.settings.seed + self.progress.step)  # for dropout, where there is any
        sizes = [int(plan.sizes[index]) for index in indices]
        window = Window(self.progress)
        shares = [size / sum(sizes) for size in sizes]
        results = pool.map(partial(self._gradients, plan), indices, shares)
        # Summed in the order of the batches: the result doesn't depend on how many are computed side by side.
        for size, (gradients, losses) in zip(sizes, results, strict=True):
            self.masters.collect(gradients)
            window.add(size, {name: float(loss) for name, loss in losses.items()})
        means = window.means()
        if not all(math.isfinite(loss) for loss in means.values()):
            raise ElbertError(f"the loss is not a number at step {self.progress.step}: {means}; lower learning_rate")
        self.masters.step(rate)
        return sum(sizes), means

    def _gradients(self, plan: Plan, index: int, share: float) -> tuple[Sequence[Tensor | None], dict[str, Tensor]]:
        """Return one micro-batch's gradients, in the order of the network's parameters, and its losses."""
        loss, losses = self.student(self.batcher.batch(plan, index).to(self.device))
        return torch.autograd.grad(loss * share, list(self.masters.parameters.values()), allow_unused=True), losses

    @torch.no_grad()  # of the thread it runs in
    def _losses(self, index: int) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.student(self.batcher.batch(self.held_out, index).to(self.device))[1]
        return losses

    def _report(self, pool: Executor, window: Window, done: float) -> Report:
        seconds = self.progress.seconds - window.start.seconds
        speed = window.tokens / seconds if seconds else 0.0
        return Report(self.progress, done, window.means(), self.evaluate(pool), speed)

    def _bar(self, shown: bool | None) -> tqdm:
        return tqdm(
            desc="pretraining",
            unit="tok",
            unit_scale=True,
            initial=self.progress.tokens,
            total=self.settings.tokens or None,
            disable=None if shown is None else not shown,
            file=sys.stderr,
            mininterval=0.5,
        )


def _pool(workers: int) -> Executor:
    """Return threads that each compute on one core, or one thread that computes on all of them."""
    if workers > 1:
        return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    return ThreadPoolExecutor(1)
