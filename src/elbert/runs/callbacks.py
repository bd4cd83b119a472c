"""What happens between steps: checkpoints within an epoch, stopping on a signal, stopping early, a progress bar.

Each is a transformers `TrainerCallback`. None of them touches a random generator, so none changes what is trained.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from elbert.errors import ElbertError, TerminatedError, stop_status

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterruptedError(ElbertError):
    """Training was stopped from outside.

    Args:
        message: says from where it can go on.
        stop: by what: `KeyboardInterrupt`, or `TerminatedError` where SIGTERM came.
    """

    def __init__(self, message: str, stop: KeyboardInterrupt) -> None:
        super().__init__(message)
        self.stop = stop
        self.exit_status = stop_status(stop)


class Interruption(TrainerCallback):
    """Saves within an epoch every `save_steps`, and saves and raises at the next step once a signal has come.

    As a context manager it listens for Ctrl-C and SIGTERM. A second Ctrl-C is not waited for; a second SIGTERM changes
    nothing, since `timeout` sends two.

    Args:
        save_steps: steps between checkpoints within an epoch; there is always one at its end.
        where: the run's folder, for the message.

    Attributes:
        asked: the first signal that came, as Python raises it; None while there was none.
    """

    def __init__(self, save_steps: int, where: str) -> None:
        self.save_steps = save_steps
        self.where = where
        self.asked: KeyboardInterrupt | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # only there may Python set handlers
            self._handlers = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        stop = TerminatedError() if number == signal.SIGTERM else KeyboardInterrupt()
        if self.asked is None:
            self.asked = stop
            logger.warning("stopping after this step to save; Ctrl-C once more stops at once")
        elif number == signal.SIGINT:
            raise stop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Ask for a checkpoint, unless the epoch ends here: then one comes anyway, after its evaluation."""
        steps_per_epoch = state.max_steps // args.num_train_epochs
        if state.global_step % steps_per_epoch and (self.asked is not None or state.global_step % self.save_steps == 0):
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Raise once the checkpoint that was waited for is written.

        Raises:
            TrainingInterruptedError: a signal has come.
        """
        if self.asked is not None:
            raise TrainingInterruptedError(
                f"stopped at step {state.global_step} of {state.max_steps}, saved in {self.where}: "
                "run the same command with --resume to go on",
                self.asked,
            )


class EvaluateWithin(TrainerCallback):
    """Evaluates, and saves what may be the best, every so many steps within an epoch.

    Args:
        eval_steps: steps between evaluations; at the end of an epoch there is one anyway.
    """

    def __init__(self, eval_steps: int) -> None:
        self.eval_steps = eval_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Ask for an evaluation and a checkpoint, unless the epoch ends here."""
        steps_per_epoch = state.max_steps // args.num_train_epochs
        if state.global_step % steps_per_epoch and state.global_step % self.eval_steps == 0:
            control.should_evaluate = control.should_save = True


class EarlyStop(TrainerCallback):
    """Stops when the best score has not risen for `patience` evaluations; reads the log, so it resumes by itself.

    Args:
        patience: evaluations without a new best.
        key: name of the score in the trainer's log.
    """

    def __init__(self, patience: int, key: str) -> None:
        self.patience = patience
        self.key = key

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop where patience is spent."""
        if self.spent(state.log_history):
            control.should_training_stop = True

    def spent(self, history: list[dict[str, Any]]) -> bool:
        """Say whether a log shows `patience` scores in a row that are no new best."""
        scores = [entry[self.key] for entry in history if self.key in entry]
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= self.patience


class Progress(TrainerCallback):
    """A bar on stderr, and a line of scores after each evaluation.

    Args:
        shown: whether there is a bar; the lines go to the log either way.
    """

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Open the bar where the run stands."""
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="step",
            file=sys.stderr,
            disable=not self.shown,
            dynamic_ncols=True,
            mininterval=0.5,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Move the bar."""
        self.bar.update(state.global_step - self.bar.n if self.shown else 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Show the loss beside the bar, and scores as a line."""
        if logs and "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.4g}", refresh=False)
        if logs and "eval_final" in logs:
            layers = " ".join(f"{value:.3f}" for key, value in logs.items() if key.startswith("eval_layer_"))
            epoch = f"epoch {state.epoch:.4g} of {args.num_train_epochs:g}"
            logger.info(
                "%s: final %.4f, mean exit %.4f, layers %s", epoch, logs["eval_final"], logs["eval_mean-exit"], layers
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar, also after an error."""
        if self.bar is not None:
            self.bar.close()
