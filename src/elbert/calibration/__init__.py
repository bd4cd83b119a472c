"""Choosing a policy for a promise: how much may be given up, with which confidence, and does it still hold?"""

from __future__ import annotations

from elbert.calibration.calibrate import Calibration, calibrate
from elbert.calibration.drift import Drift, check, exit_confidence
from elbert.calibration.promises import LADDER, promise_name

__all__ = ["LADDER", "Calibration", "Drift", "calibrate", "check", "exit_confidence", "promise_name"]
