"""Making an ALBERT from plain text: by ALBERT's own objectives, by distillation from a teacher, or by both."""

from elbert.pretraining.progress import PretrainSummary, Report
from elbert.pretraining.run import pretrain
from elbert.pretraining.settings import PretrainSettings, read_settings

__all__ = ["PretrainSettings", "PretrainSummary", "Report", "pretrain", "read_settings"]
