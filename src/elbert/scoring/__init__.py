"""How good answers are: metrics, and curves, bands and fronts over every depth and setting. Arrays in, arrays out."""
