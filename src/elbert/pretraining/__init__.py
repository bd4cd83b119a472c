"""Making an ALBERT from plain text: by ALBERT's own objectives, by distillation from a teacher, or by both.

The names below are loaded when they are first used, so that settings can be read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elbert.lazy import lazily

if TYPE_CHECKING:
    from elbert.pretraining.progress import PretrainSummary, Report
    from elbert.pretraining.run import pretrain
    from elbert.pretraining.settings import PretrainSettings, read_settings

__all__ = ["PretrainSettings", "PretrainSummary", "Report", "pretrain", "read_settings"]

__getattr__ = lazily(
    __name__,
    {
        "PretrainSettings": "elbert.pretraining.settings",
        "PretrainSummary": "elbert.pretraining.progress",
        "Report": "elbert.pretraining.progress",
        "pretrain": "elbert.pretraining.run",
        "read_settings": "elbert.pretraining.settings",
    },
)
