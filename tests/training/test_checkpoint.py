"""What float16 needs besides: the scale of the loss goes on where it was."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from elbert.training import checkpoint


def saved(folder: Path, scaler: torch.amp.GradScaler | None) -> None:
    """Write a checkpoint of one trained Linear."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    folder.mkdir()
    checkpoint.save(folder, model, optimizer, scheduler, scaler)


def test_the_scale_of_the_loss_is_put_back(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    scaler.scale(torch.ones(1))  # the scale is laid down at its first use
    saved(tmp_path / "one", scaler)
    fresh = torch.amp.GradScaler("cpu")
    checkpoint.load_scaler(tmp_path / "one", fresh)
    assert fresh.get_scale() == 512.0


def test_a_run_without_a_scale_has_none_to_put_back(tmp_path: Path) -> None:
    saved(tmp_path / "one", None)
    checkpoint.load_scaler(tmp_path / "one", None)
    fresh = torch.amp.GradScaler("cpu", init_scale=512.0)
    checkpoint.load_scaler(tmp_path / "one", fresh)  # of a run that was started in another dtype
    assert fresh.get_scale() == 512.0
