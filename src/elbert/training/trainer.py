"""`EarlyExitTrainer`: transformers' Trainer for a model with an exit after every layer.

Adds what the Trainer cannot know: every exit's loss and the scheme that weighs them, scores per layer, an order of
batches that a resumed run meets again, and checkpoints of safetensors and JSON. Reads no data, writes no model card.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from elbert.disk import FREE_SPACE, whole_folder, write_errors
from elbert.exits.tokens import TokenSchedule
from elbert.modeling import MultiExitModel, MultiExitOutput, layer_losses
from elbert.modeling.losses import depth_distance, labelled_losses
from elbert.runs.folder import CHECKPOINT, step_of
from elbert.scoring.metrics import metric_name
from elbert.tasks import task_of
from elbert.training import checkpoint, ranks
from elbert.training.encoding import EncodedDataset, LengthGroupedBatches, LongestFirst, collator_for
from elbert.training.length_drop import check_can_drop, sandwich, with_shortened
from elbert.training.lesson import taught_losses
from elbert.training.schemes import LossScheme
from elbert.training.scores import layer_scores
from elbert.training.steplog import StepLog

TRAINER_STATE = "trainer_state.json"
FINAL, MEAN_EXIT, ERROR = "eval_final", "eval_mean-exit", "eval_error"


class ModelWithScheme(nn.Module):
    """Model and scheme as one module, so that both are moved, optimised and saved together; runs the model alone."""

    def __init__(self, model: MultiExitModel, scheme: LossScheme) -> None:
        super().__init__()
        self.model = model
        self.scheme = scheme
        # Read by DistributedDataParallel: the scheme has no part in `forward`, see `training_step`.
        self._ddp_params_and_buffers_to_ignore = [f"scheme.{name}" for name in scheme.state_dict()]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        tokens: TokenSchedule | None = None,
    ) -> MultiExitOutput:
        """Return the model's output, without a loss: that is the trainer's, in fp32."""
        output: MultiExitOutput = self.model(input_ids, attention_mask, token_type_ids, tokens=tokens)
        return output


class EarlyExitTrainer(Trainer):
    """A Trainer whose loss is a scheme's sum over the exits; everything else it does is transformers'.

    The scheme's own parameters are optimised at their own rate, without weight decay and outside the clipping of the
    model's gradient, and lie in every checkpoint. `eval_final`, `eval_mean-exit` and `eval_layer_1` … `eval_layer_M`
    are the metrics, so `metric_for_best_model` may name any of them.

    Args:
        model: the model to train.
        scheme: how the exits' losses are weighed; made for as many layers.
        args: transformers' own arguments. Evaluate and save once an epoch, so that resuming is exact.
        tokenizer: saved with the model; says what to pad with.
        train_dataset: what to learn from.
        eval_dataset: what to score on.
        metric: its name; None takes accuracy, micro F1 or Pearson.
        log_file: where to log every step, or None.
        callbacks: transformers' own kind.
        teacher_weight: the teacher's part of every loss, for data sets that hold a teacher's answers.
        temperature: at which they are learnt.
        leap: weight of the pull of every depth's pooled state to the last one's.
        length_drop: greatest share of a text's tokens that a layer drops in the further passes of a step; 0 for none.
        head_rate: how many times the learning rate the exits' heads are trained at.
        class_weights: [C] that a row's loss is multiplied by, by its class; None for all alike.
    """

    def __init__(
        self,
        model: MultiExitModel,
        scheme: LossScheme,
        args: TrainingArguments,
        *,
        tokenizer: Any,
        train_dataset: EncodedDataset,
        eval_dataset: EncodedDataset | None = None,
        metric: str | None = None,
        log_file: Path | None = None,
        callbacks: list[Any] | None = None,
        teacher_weight: float = 0.5,
        temperature: float = 2.0,
        leap: float = 0.0,
        length_drop: float = 0.0,
        head_rate: float = 1.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        if length_drop:
            check_can_drop(model)
        self.head_rate, self.length_drop = head_rate, length_drop
        self.teacher_weight, self.temperature, self.leap = teacher_weight, temperature, leap
        self._class_weights = None if class_weights is None else torch.tensor(class_weights, device=args.device)
        self._parts: list[tuple[Tensor, Tensor]] = []  # loss and layers' losses of the batches of a step so far
        self.multi_exit, self.scheme, self.tokenizer = model, scheme, tokenizer
        self.task = task_of(model.problem_type)
        self.metric = metric_name(model.problem_type, metric)
        self.step_log = StepLog(None)
        self._log_file = log_file
        args.remove_unused_columns = False
        args.label_names = ["labels"]
        args._n_gpu = min(args.n_gpu, 1)  # transformers would else wrap the model in DataParallel
        self.optimizer: Any
        super().__init__(
            model=ModelWithScheme(model, scheme),
            args=args,
            data_collator=collator_for(tokenizer, model.problem_type),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            compute_metrics=partial(layer_scores, problem_type=model.problem_type, metric=self.metric),
            callbacks=callbacks,
        )

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train, from the start or from a checkpoint folder; see transformers' `Trainer.train`."""
        resumed = step_of(Path(resume_from_checkpoint)) if isinstance(resume_from_checkpoint, str) else 0
        self.step_log = StepLog(self._log_file, resumed)
        ranks.average(self.scheme.state_dict().values())  # the same to begin with, too
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        self.step_log.flush()
        return result

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:  # noqa: ARG002
        """Return the optimiser over encoder and heads, matrices with decay, others without, and the scheme's own."""
        optimizer: torch.optim.Optimizer | None = self.optimizer
        if optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            groups = [*self._model_groups(), *self.scheme.parameter_groups(self.args.learning_rate)]
            optimizer = self.optimizer = kind(groups, **options)
        return optimizer

    def _model_groups(self) -> list[dict[str, Any]]:
        """Return the model's parameters: those of the encoder before those of the heads, decayed ones before others."""
        decayed = set(self.get_decay_parameter_names(self.multi_exit))
        heads = {id(parameter) for parameter in self.multi_exit.head_parameters()}
        rate, decay = self.args.learning_rate, self.args.weight_decay
        found: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.multi_exit.named_parameters():
            if parameter.requires_grad:
                found.setdefault((id(parameter) in heads, name not in decayed), []).append(parameter)
        return [
            {
                "params": found[kind],
                "lr": rate * (self.head_rate if kind[0] else 1.0),
                "weight_decay": decay * (not kind[1]),
            }
            for kind in sorted(found)
        ]

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Let the scheme set up the model, then do as transformers does, and keep it in step with other processes'."""
        self.scheme.before_step(self.multi_exit, self.state.global_step)
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            ranks.average(parameter.grad for parameter in self.scheme.parameters())
            ranks.average(self.scheme.buffers())
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002
    ) -> Any:
        """Return the scheme's loss of one batch, and note it in the log."""
        inputs = dict(inputs)
        labels, answers, labelled = inputs.pop("labels"), inputs.pop("answers", None), inputs.pop("labelled", None)
        output, problem_type = model(**inputs), self.multi_exit.problem_type
        weights = self._class_weights
        if answers is None or labelled is None:
            losses = labelled_losses(output.logits, labels, labelled, problem_type, weights)
        else:
            how = {"weight": self.teacher_weight, "temperature": self.temperature}
            losses = taught_losses(output.logits, labels, answers, labelled, problem_type, **how, class_weights=weights)
        loss = self.scheme(losses, output=output, labels=labels, step=self.state.global_step)
        if self.leap:
            loss = loss + self.leap * depth_distance(output.pooled)
        if self.length_drop and model.training:
            schedules = sandwich(self.multi_exit.num_layers, self.length_drop)
            shortened = [model(**inputs, tokens=tokens).logits for tokens in schedules]
            loss = with_shortened(loss, output.logits, shortened, self.task)
        if model.training:
            self._note(loss, losses)
        return (loss, output) if return_outputs else loss

    def _note(self, loss: Tensor, losses: Tensor) -> None:
        """Write the step into the log once the last of its batches is there."""
        self._parts.append((loss.detach(), losses.detach()))
        if not self.accelerator.sync_gradients:
            return
        loss, losses = (torch.stack(parts).mean(0) for parts in zip(*self._parts, strict=True))
        self._parts.clear()
        rate = self.lr_scheduler.get_last_lr()[0]
        self.step_log.step(self.state.global_step + 1, rate, loss, losses, self.scheme.weights())

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the mean loss of the exits, every exit's decision, and the labels; logits are not kept."""
        inputs = dict(self._prepare_inputs(inputs))
        labels = inputs.pop("labels")
        with torch.no_grad():
            logits = model(**inputs).logits
        loss = layer_losses(logits, labels, self.multi_exit.problem_type).mean()
        if prediction_loss_only:
            return loss, None, None
        return loss, self.task.decisions(self.task.probabilities(logits.float())), labels

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as transformers does, with the scheme's weights beside the loss."""
        if "loss" in logs:
            logs = {**logs, **self.scheme.log()}
        if FINAL in logs:
            scores = [logs[f"eval_layer_{layer + 1}"] for layer in range(self.multi_exit.num_layers)]
            self.step_log.scores(self.state.global_step, scores, self.metric)
        super().log(logs, start_time)

    def _clip_grad_norm(self, model: nn.Module) -> Any:  # noqa: ARG002
        """Clip the model's gradient; the scheme's few scalars neither count nor shrink."""
        return self.accelerator.clip_grad_norm_(self.multi_exit.parameters(), self.args.max_grad_norm)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Say whether these scores are the best so far; of those that are level the later win: they have learnt longer.

        Level is what lies within one standard error of the highest so far. Where a class is rare the first epochs often
        tie at the share of the most frequent one, and of a class with nine rows in the dev split one row moves macro F1
        by more than two epochs do. `best_metric` stays the highest. A scheme that has not trained every part yet has no
        best.
        """
        if not self.scheme.whole(self.state.global_step):
            return False
        highest = self.state.best_metric
        new: bool = super()._determine_best_metric(metrics, trial)
        score = metrics[f"eval_{str(self.args.metric_for_best_model).removeprefix('eval_')}"]
        if not new and highest is not None and score >= highest - metrics.get(ERROR, 0.0):
            self.state.best_global_step, new = self.state.global_step, True
        return new

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedBatches:
        dataset = train_dataset or self.train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedBatches(dataset.lengths, self.args.train_batch_size, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> LongestFirst:
        return LongestFirst(eval_dataset.lengths)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002
        """Write a model folder, not a checkpoint."""
        folder = Path(output_dir or self.args.output_dir)
        self.multi_exit.save_pretrained(folder, self.tokenizer, {"scheme": self.scheme.to_dict()})

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:  # noqa: ARG002
        """Write a checkpoint that is whole or not there, then drop all but it and the best one."""
        self.step_log.flush()
        if ranks.is_first():
            self._write_checkpoint()
        ranks.wait()

    def _write_checkpoint(self) -> None:
        folder = Path(self.args.output_dir) / f"{CHECKPOINT}{self.state.global_step}"
        with write_errors(f"checkpoint {folder}", FREE_SPACE), whole_folder(folder) as fresh:
            checkpoint.save(fresh, self.model, self.optimizer, self.lr_scheduler, self.accelerator.scaler)
            self.state.save_to_json(str(fresh / TRAINER_STATE))
        self._drop_checkpoints({self.state.global_step, self.state.best_global_step})

    def _drop_checkpoints(self, kept: set[int | None]) -> None:
        for path in Path(self.args.output_dir).glob(f"{CHECKPOINT}*"):
            if step_of(path) not in kept:
                checkpoint.remove(path)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoint.load_weights(Path(resume_from_checkpoint), self.model if model is None else model)

    def _load_optimizer_and_scheduler(self, checkpoint_folder: str | None) -> None:
        if checkpoint_folder is not None:
            checkpoint.load_optimizer(Path(checkpoint_folder), self.optimizer, self.lr_scheduler)

    def _load_scaler(self, checkpoint_folder: str | None) -> None:
        if checkpoint_folder is not None:
            checkpoint.load_scaler(Path(checkpoint_folder), self.accelerator.scaler)

    def _load_rng_state(self, checkpoint_folder: str | None) -> None:
        if checkpoint_folder is not None:
            checkpoint.load_generators(Path(checkpoint_folder))
