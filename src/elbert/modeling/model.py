"""The multi-exit classifier over transformers' own modules, for training and as the reference of the engine.

Runs every layer for every text and gives all exits' logits. Does not leave early (that is the engine's work), and does
not know how losses of exits are weighed (that is a loss scheme's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from elbert.exits.tokens import TokenSchedule
from elbert.metadata import HeadKind, check_heads
from elbert.modeling.activations import fuse_activations
from elbert.modeling.assemble import encoder_weights, problem_type_of
from elbert.modeling.dropping import Behind, token_dropping
from elbert.modeling.families import family_of
from elbert.modeling.files.plain_tokenizer import PlainTokenizer
from elbert.modeling.files.policies import Tensors
from elbert.modeling.files.saving import save_model
from elbert.modeling.heads import ExitHeads, mean_over_tokens, read_out, read_states
from elbert.modeling.losses import layer_losses
from elbert.modeling.weights import EncoderWeights
from elbert.results import ProblemType
from elbert.words import WordModel


@dataclass
class MultiExitOutput(ModelOutput):
    """What one training pass gives; a transformers `ModelOutput`, so `Trainer` can read it.

    Attributes:
        loss: mean over exits of each exit's loss, or None without labels.
        logits: [B, M, C] of every exit.
        pooled: [B, M, H] of every exit, before dropout.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    pooled: Tensor | None = None


class MultiExitModel(nn.Module):
    """A transformers sequence classifier with an exit after every layer.

    Args:
        backbone: what `AutoModelForSequenceClassification` gives, of a supported family.
        heads: `shared`, `linear`, `full` or `mean`, see `elbert.modeling.heads`.
        pair_token_types: whether it reads token types 0 and 1 of the two texts of a pair; None does where it has two.
        fresh_head: whether the backbone's classifier was drawn at random, to be trained.

    Raises:
        ModelError: the family is not supported.
        UsageError: there is no such kind of heads.
    """

    def __init__(
        self,
        backbone: Any,
        heads: HeadKind = "shared",
        *,
        pair_token_types: bool | None = None,
        fresh_head: bool = False,
    ) -> None:
        super().__init__()
        self.fresh_head = fresh_head
        self.family = family_of(backbone.config)
        several = self.family.type_rows(backbone.config) > 1
        self.pair_token_types: bool = several if pair_token_types is None else pair_token_types
        self.heads: HeadKind = check_heads(heads)
        self.backbone = backbone
        self.detached = False  # whether an exit's loss reaches the layer before it only, see the scheme `detached`
        self.layer_drop = 0.0  # share of the layers that training leaves out, see the scheme `layer_drop`
        # How much of a layer's input goes past it, [B], by layer and the means [B, H] of its states; see `skip_gates`.
        self.gate: Callable[[int, Tensor], Tensor] | None = None
        fuse_activations(backbone)
        self.exit_heads: ExitHeads | None = None
        backbone.config.problem_type = problem_type_of(backbone.config)
        if heads != "shared":
            dense, _, out = self.family.head(backbone)
            self.exit_heads = ExitHeads(heads, self.num_layers - 1, dense, out)

    @property
    def config(self) -> Any:
        """The backbone's transformers configuration."""
        return self.backbone.config

    @property
    def num_layers(self) -> int:
        """M, the count of exits."""
        return int(self.config.num_hidden_layers)

    @property
    def num_labels(self) -> int:
        """C, the count of classes (1 for regression)."""
        return int(self.config.num_labels)

    @property
    def problem_type(self) -> ProblemType:
        """How to read the logits."""
        return cast(ProblemType, self.config.problem_type)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        tokens: TokenSchedule | None = None,
    ) -> MultiExitOutput:
        """Run all layers and read out after each.

        Args:
            input_ids: [B, S] token ids.
            attention_mask: [B, S], 1 for a token and 0 for padding; None where nothing is padded.
            token_type_ids: [B, S], 0 for the first text and 1 for its pair; None for all 0.
            labels: as in `layer_losses`; None for no loss.
            tokens: how many tokens a row keeps behind each layer, those with most attention; None for all. For layers
                that don't look at distances between tokens.

        Returns:
            logits [B, M, C], pooled [B, M, H] and, with labels, the plain mean of the exits' losses.
        """
        hidden = self.family.embed(self.backbone, input_ids, token_type_ids)  # [B, S, H]
        if tokens is None:
            states = self._states(hidden, attention_mask, None)
        else:
            shape = (hidden.shape[0], hidden.shape[1])
            with token_dropping(self.family, self.backbone, tokens, shape, attention_mask) as behind:
                states = self._states(hidden, attention_mask, behind)
        logits, pooled = read_out(self.family, self.backbone, self.exit_heads, torch.stack(states, dim=1))
        loss = None if labels is None else layer_losses(logits, labels, self.problem_type).mean()
        return MultiExitOutput(loss=loss, logits=logits, pooled=pooled)

    def _states(self, hidden: Tensor, mask: Tensor | None, behind: Behind | None) -> list[Tensor]:
        """Run all layers and return what each exit reads, M times [B, H]; `behind` drops tokens behind a layer."""
        run, states = self.family.stepping(self.backbone, hidden, mask), []
        for depth, step in enumerate(self.family.steps(self.backbone), start=1):
            # Drawn on the CPU, from the generator that a resumed run takes up again.
            if not (self.training and self.layer_drop and torch.rand(()).item() < self.layer_drop):
                before = hidden.detach() if self.detached and depth > 1 else hidden
                hidden = run(step, before)
                if self.gate is not None and 1 < depth < self.num_layers:
                    past = self.gate(depth, mean_over_tokens(before, mask))[:, None, None].to(hidden.dtype)
                    hidden = past * before + (1 - past) * hidden
            if behind is not None and depth < self.num_layers:
                hidden, mask = behind(hidden, mask, depth)
                run = self.family.stepping(self.backbone, hidden, mask)
            over_all = self.heads == "mean" and depth < self.num_layers
            states.append(read_states(self.family, self.backbone, hidden, mask, over_all=over_all))
        return states

    def with_heads(self, heads: HeadKind) -> MultiExitModel:
        """Return a model over the same backbone whose early exits have heads of this kind, copies of the last one's."""
        model = MultiExitModel(self.backbone, heads, pair_token_types=self.pair_token_types, fresh_head=self.fresh_head)
        return model.train(self.training)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the exits: the backbone's own head and those of `exit_heads`; never the encoder's."""
        dense, _, out = self.family.head(self.backbone)
        norm = self.family.head_norms(self.backbone)[1]
        for part in (dense, norm, out, self.exit_heads):
            if part is not None:
                yield from part.parameters()

    def weights(self) -> EncoderWeights:
        """Return the model as plain matrices; they share memory with the parameters, except the fused qkv matrices."""
        tensors = dict(self.backbone.named_parameters())
        exit_heads = None if self.exit_heads is None else dict(self.exit_heads.named_parameters())
        return encoder_weights(self.family, self.config, tensors, exit_heads, self.heads)

    def reader(self, tokenizer: Any, where: str = "the model") -> PlainTokenizer:
        """Return a transformers tokenizer as training and inference run it for this model.

        Args:
            tokenizer: the model's; it is not changed, and may be called meanwhile.
            where: what to call the model in an error.

        Raises:
            ModelError: it exists in Python only, or belongs to another model.
        """
        entries, token_types = int(self.config.vocab_size), self.pair_token_types
        return PlainTokenizer.of(tokenizer, entries=entries, token_types=token_types, where=where)

    def save_pretrained(
        self,
        folder: str | Path,
        tokenizer: Any = None,
        elbert: Mapping[str, Any] | None = None,
        card: str | None = None,
        tensors: Tensors | None = None,
        words: WordModel | None = None,
    ) -> Path:
        """Save as a plain Hugging Face checkpoint plus `elbert.json`; see `elbert.modeling.files.saving.save_model`.

        Args:
            folder: where to; made if absent. Files of a model saved there before are replaced, others are left alone.
            tokenizer: saved along; None leaves the folder's own in place.
            elbert: content of `elbert.json`; `format` and `heads` are filled in.
            card: text of `README.md`; None writes a short one.
            tensors: weights of learned policies.
            words: layer 0, or None.

        Returns:
            the folder.
        """
        content = {**(elbert or {}), "pair_token_types": self.pair_token_types}
        heads = self.exit_heads, self.heads
        return save_model(self.backbone, *heads, Path(folder), tokenizer, content, card, tensors, words)
