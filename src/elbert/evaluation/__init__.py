"""How good and how fast: metrics, full evaluation runs, and the reports made of them."""
