"""Choosing a policy for a promise: how much may be given up, with which confidence, and does it still hold?"""

from __future__ import annotations

from elbert.calibration.calibrate import LADDER, Calibration, calibrate, promise_name
from elbert.calibration.drift import Drift, check, exit_confidence

__all__ = ["LADDER", "Calibration", "Drift", "calibrate", "check", "exit_confidence", "promise_name"]
