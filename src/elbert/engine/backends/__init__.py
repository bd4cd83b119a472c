"""What runs the layers: torch itself, or graphs in another runtime."""
