"""What sweeps try, fastest first: grids that several policies share."""

from __future__ import annotations

# The paper's 1.0 … 0.1, then finer, since confident models need small thresholds.
ENTROPY_GRID = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
CONFIDENCE_GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)
TOLERANCE_GRID = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
